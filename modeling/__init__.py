"""The ACN model family in the Hugging Face modeling API.

Importing this package registers the Auto classes, and makes `save_pretrained` write the code beside the weights; torch
and transformers are imported when they, or names that need them, are first asked for (see `registration`).
"""

import lazy_loader

from .registration import register_with_transformers

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

register_with_transformers()
