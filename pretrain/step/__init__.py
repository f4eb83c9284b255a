"""What an optimizer step is made of.

In: masked batches, an engine. Out: the model's inputs and what its loss is divided by, the loss itself, the step that
the optimizer makes of the gradients, and what the host learns of it, at once or a step later.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
