from .errors import LaunchError, reported
from .provenance import processor, provenance_tags
from .ranks import run_local_ranks

__all__ = [
    "LaunchError",
    "processor",
    "provenance_tags",
    "reported",
    "run_local_ranks",
]
