"""Publishing on the Hugging Face Hub: find what MODEL is, write the publication as folders, send them.

source    what MODEL is, the run and the results that belong to it
training  the facts of a pretraining run, from its own files
card      the card of a model; `sections` has the parts that cards share, `corpus` the card of token shards
models    the folders: the whole model, cut ones, intermediate checkpoints
hub       repositories, revisions, uploads, errors in words
"""

from .config import PublishConfig
from .publish import publish_source

__all__ = ["PublishConfig", "publish_source"]
