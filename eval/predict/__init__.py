"""From texts to labels.

In: a fine-tuned model, whole or cut, and a file of texts (`PredictConfig`). Out: a label and scores for each, in order.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
