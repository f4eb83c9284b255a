"""Masked-language-model pretraining of ACN encoders with the DeepSpeed engine."""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
