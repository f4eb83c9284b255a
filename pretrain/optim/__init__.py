"""What moves the weights.

In: a model and an `OptimConfig`. Out: its optimizer (AdamW, LAMB, Muon), the learning rate as a function of progress,
and a running average of the weights.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
