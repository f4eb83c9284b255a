from .errors import LaunchError, reported
from .provenance import provenance_tags
from .ranks import run_local_ranks

__all__ = [
    "LaunchError",
    "provenance_tags",
    "reported",
    "run_local_ranks",
]
