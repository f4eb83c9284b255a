"""From raw text to a prepared corpus.

In: files, URLs or Hub data sets of text (`CorpusConfig`) and a tokenizer, or the wish for one. Out: a folder of
Parquet shards of whole token blocks, with its tokenizer and a manifest, written by `prepare_corpus`; `verify_corpus`
tells whether a folder still is what its manifest says.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
