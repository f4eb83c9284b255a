from .blocks import BlockReader
from .config import MaskingConfig, RemoteConfig, StreamConfig
from .documents import PackedBatch
from .lanes import plan_windows
from .masking import IGNORED_LABEL, MaskedBatch
from .order import Order
from .shard_files import PreparedFolder
from .stream import TokenStream, validation_batch_count, validation_batches, world_problems
from .summary import SplitSummary, summarize

__all__ = [
    "IGNORED_LABEL",
    "BlockReader",
    "MaskedBatch",
    "MaskingConfig",
    "Order",
    "PackedBatch",
    "PreparedFolder",
    "RemoteConfig",
    "SplitSummary",
    "StreamConfig",
    "TokenStream",
    "plan_windows",
    "summarize",
    "validation_batch_count",
    "validation_batches",
    "world_problems",
]
