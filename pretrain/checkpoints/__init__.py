"""A run's state on disk.

In: an engine and the `Progress` of its run. Out: folders that count only once their marker names every file in them,
the same run continued from one on any number of ranks, ZeRO stage and precision, and plain Hugging Face folders.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
