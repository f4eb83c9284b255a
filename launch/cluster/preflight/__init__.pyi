from .config import PreflightConfig
from .job import LostError
from .run import Outcome, preflight, report
from .table import show

__all__ = [
    "LostError",
    "Outcome",
    "PreflightConfig",
    "preflight",
    "report",
    "show",
]
