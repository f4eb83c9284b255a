"""The front door: the `acn` command, its verbs and recipes, tracking, and the demo."""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
