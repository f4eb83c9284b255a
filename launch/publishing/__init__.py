"""Publishing on the Hugging Face Hub: find what MODEL is, write the publication as folders, send them.

source    what MODEL is, the run and the results that belong to it
training  the facts of a pretraining run, from its own files
card      the card of a model; `facts` has what cards state, `templates/` their text, `corpus` the card of token shards
models    the folders: the whole model, cut ones, intermediate checkpoints
hub       repositories, revisions, uploads, errors in words
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
