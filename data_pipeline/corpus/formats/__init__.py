"""Files of text, read slice by slice: Parquet row groups, byte ranges of lines or paragraphs, whole files.

In: a `Slice`, what one unit of work reads of one file, as `cut_file` made it. Out: the values of the text column that
`read_slice` found, all of them sound text or null. Slices that touch give every document exactly once, whatever the
cuts: a line belongs to the slice in which it begins, a paragraph to the one in which the blank line before it begins.
A row that cannot be read as it stands is never repaired: it stops the work with its file and line, or, where the user
chose so, it is left out and counted by cause.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
