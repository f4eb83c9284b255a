from .config import ReportConfig
from .headline import first_sentence, verdict
from .origin import Origin, day
from .report import write_report
from .sections import Run, depth_table, paper_table, study_table
from .study_figures import save_comparison
from .study_file import STUDY_FILE, StudyCurve, StudyPoint, StudyResults, StudyTable, parse_study
from .tables import Table, format_cell, mean_and_std

__all__ = [
    "STUDY_FILE",
    "Origin",
    "ReportConfig",
    "Run",
    "StudyCurve",
    "StudyPoint",
    "StudyResults",
    "StudyTable",
    "Table",
    "day",
    "depth_table",
    "first_sentence",
    "format_cell",
    "mean_and_std",
    "paper_table",
    "parse_study",
    "save_comparison",
    "study_table",
    "verdict",
    "write_report",
]
