"""Where the numbers of a run go.

In: metrics, parameters, tags, figures and models of a run. Out: its local record (metrics.jsonl, record.json), which
is the source of truth, and an MLflow run that follows it when one is configured.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
