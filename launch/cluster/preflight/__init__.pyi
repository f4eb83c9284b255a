from .config import PreflightConfig
from .findings import Finding
from .job import LostError
from .run import Outcome, preflight, report
from .table import show

__all__ = [
    "Finding",
    "LostError",
    "Outcome",
    "PreflightConfig",
    "preflight",
    "report",
    "show",
]
