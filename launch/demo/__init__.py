"""The whole chain in minutes, offline.

In: nothing but the installed Python packages, whose documentation is the corpus. Out: an ACN and its residual twin,
pretrained, fine-tuned, cut and compared.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
