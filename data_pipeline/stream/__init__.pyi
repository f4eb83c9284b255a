from .blocks import BlockReader
from .documents import PackedBatch
from .lanes import plan_windows
from .masking import IGNORED_LABEL, MaskedBatch, MaskingConfig
from .order import Order
from .remote import RemoteConfig
from .shard_files import PreparedFolder
from .stream import StreamConfig, TokenStream, validation_batches, world_problems
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
    "validation_batches",
    "world_problems",
]
