from .chance import AT_CHANCE, are_at_chance, is_at_chance
from .compress.compress import compress_model
from .compress.config import CompressConfig
from .depth import DepthSweep, cut_depth, depth_sweep, flops_by_depth, sweep_logits
from .errors import EvalError
from .figures import DepthCurve, save_depth_figure, seeds_curve
from .files import find_recorded, read_json
from .glue.config import FinetuneConfig
from .glue.suite import run_suite
from .models import load_tokenizer, most_tokens, quiet_transformers, read_model_config, write_model
from .precision import precision_problems
from .progress import Tracker
from .ranks import leave_ranks
from .report.config import ReportConfig
from .report.report import write_report
from .results import (
    CUT_FILE,
    FIGURE_FILE,
    RESULTS_FILE,
    CutResults,
    Speed,
    TaskResults,
    TrialResults,
    find_cut,
    find_results,
    read_results,
    read_trial,
)
from .tasks.glue import GLUE_TASKS
from .tasks.metrics import compute_metrics
from .tasks.reading import load_task
from .tasks.registry import TASKS, find_task
from .tasks.task import Task

__all__ = [
    "AT_CHANCE",
    "CUT_FILE",
    "FIGURE_FILE",
    "GLUE_TASKS",
    "RESULTS_FILE",
    "TASKS",
    "CompressConfig",
    "CutResults",
    "DepthCurve",
    "DepthSweep",
    "EvalError",
    "FinetuneConfig",
    "ReportConfig",
    "Speed",
    "Task",
    "TaskResults",
    "Tracker",
    "TrialResults",
    "are_at_chance",
    "compress_model",
    "compute_metrics",
    "cut_depth",
    "depth_sweep",
    "find_cut",
    "find_recorded",
    "find_results",
    "find_task",
    "flops_by_depth",
    "is_at_chance",
    "leave_ranks",
    "load_task",
    "load_tokenizer",
    "most_tokens",
    "precision_problems",
    "quiet_transformers",
    "read_json",
    "read_model_config",
    "read_results",
    "read_trial",
    "run_suite",
    "save_depth_figure",
    "seeds_curve",
    "sweep_logits",
    "write_model",
    "write_report",
]
