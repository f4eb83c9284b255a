"""From raw text to masked micro-batches.

`prepare` streams a corpus through a tokenizer into Parquet shards of whole token blocks (`Manifest` describes them,
`BlockReader` reads them). `TokenStream` deals the blocks to any number of ranks in an order that is a pure function
of the seed and the sample number (`Order`), masked by `mask_blocks`; `validation_batches` does it for the held-out
split. A user's mistake raises `DataError`.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
