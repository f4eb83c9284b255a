"""The study `shallow`: which model to ship when there is time for a part of the layers only.

In go starting models that are not fine-tuned yet and a task; every model with every kind of depth supervision is a
contender, fine-tuned by a suite of its own (`eval.glue.run_suite`) in OUTPUT/contenders. Out come score against depth,
FLOPs and measured time, and a sentence by a stated rule.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
