"""What is measured of a running pretraining, and who is told.

In: losses, gradients and times of a step. Out: metrics for a `Tracker`, lines for a `Console`, traces in RUN/profile,
and the picture of the run.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
