from .malformed import LEFT_OUT, REPLACED, MalformedRule, RowCheck
from .opening import reading
from .read import Batch, read_slice
from .slices import FORMATS, UNKNOWN_BYTES, Slice, cut_file, suffix_format

__all__ = [
    "FORMATS",
    "LEFT_OUT",
    "REPLACED",
    "UNKNOWN_BYTES",
    "Batch",
    "MalformedRule",
    "RowCheck",
    "Slice",
    "cut_file",
    "read_slice",
    "reading",
    "suffix_format",
]
