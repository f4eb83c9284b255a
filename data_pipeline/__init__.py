"""From raw text to masked micro-batches.

`prepare` streams a corpus through a tokenizer into Parquet shards of whole token blocks (`Manifest` describes them,
`BlockReader` reads them). `TokenStream` deals the blocks to any number of ranks in an order that is a pure function
of the seed and the sample number (`Order`), masked by `mask_blocks`; `validation_batches` does it for the held-out
split. A user's mistake raises `DataError`.
"""

from data_pipeline.cleaning import CleaningConfig
from data_pipeline.documents import PackedBatch
from data_pipeline.errors import DataError, UnfinishedError
from data_pipeline.masking import IGNORED_LABEL, MaskedBatch, MaskingConfig, mask_blocks
from data_pipeline.order import Order, default_lanes
from data_pipeline.prepare import PrepareConfig, prepare_corpus
from data_pipeline.reader import BlockReader
from data_pipeline.remote import RemoteConfig
from data_pipeline.shards import Manifest, Shard, Split
from data_pipeline.sources import CorpusConfig, Source, iter_documents
from data_pipeline.stream import StreamConfig, TokenStream, validation_batches, world_problems
from data_pipeline.summary import SplitSummary, summarize
from data_pipeline.tokenizer import Vocabulary, fingerprint
from data_pipeline.verify import verify_corpus

__all__ = [
    "IGNORED_LABEL",
    "BlockReader",
    "CleaningConfig",
    "CorpusConfig",
    "DataError",
    "Manifest",
    "MaskedBatch",
    "MaskingConfig",
    "Order",
    "PackedBatch",
    "PrepareConfig",
    "RemoteConfig",
    "Shard",
    "Source",
    "Split",
    "SplitSummary",
    "StreamConfig",
    "TokenStream",
    "UnfinishedError",
    "Vocabulary",
    "default_lanes",
    "fingerprint",
    "iter_documents",
    "mask_blocks",
    "prepare_corpus",
    "summarize",
    "validation_batches",
    "verify_corpus",
    "world_problems",
]
