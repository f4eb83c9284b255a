"""Classification tasks, and how each is fine-tuned.

In: the name of a task, or a data set of one's own. Out: its examples by split, its metrics and its hyperparameters.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
