from .base import Context, Curve, Point, Study
from .config import STUDIES, StudyConfig
from .early_exit import Leave, exit_early, exit_flops
from .registry import KINDS, STUDY_FILE, run_studies

__all__ = [
    "KINDS",
    "STUDIES",
    "STUDY_FILE",
    "Context",
    "Curve",
    "Leave",
    "Point",
    "Study",
    "StudyConfig",
    "exit_early",
    "exit_flops",
    "run_studies",
]
