from .config import PrepareConfig
from .prepare import prepare_corpus
from .sources import CorpusConfig, iter_documents
from .store import Store
from .verify import shard_faults, verify_corpus

__all__ = [
    "CorpusConfig",
    "PrepareConfig",
    "Store",
    "iter_documents",
    "prepare_corpus",
    "shard_faults",
    "verify_corpus",
]
