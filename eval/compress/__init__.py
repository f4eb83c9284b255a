"""From a fine-tuned model to a small one.

In: a fine-tuned folder and what may be lost (`CompressConfig`). Out: the folder of the cut model with its score, its
speed and its card; ONNX and int8 if wanted.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
