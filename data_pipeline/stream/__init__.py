"""From a prepared corpus to masked micro-batches.

In: a prepared folder (local or behind a URL), a seed, a rank and a number of ranks. Out: `TokenStream` deals the
blocks in an order that is a pure function of the seed and the sample number (`Order`), masked by `mask_blocks`;
`validation_batches` does it for the held-out split, and `summarize` counts what a split holds.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
