"""Checks of every node of a job before it trains: `preflight` makes them, rank 0 has the findings."""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
