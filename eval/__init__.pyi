from .compress.compress import CompressConfig, CutSummary, compress_model
from .depth import DepthSweep, cut_depth, depth_sweep, flops_by_depth, sweep_logits
from .errors import EvalError
from .figures import COLOURS, DepthCurve, save_depth_figure, seeds_curve
from .files import file_digest, new_file, new_folder, read_json, write_json
from .glue.finetune import FinetuneConfig
from .glue.suite import check_suite, run_suite
from .models import load_tokenizer, quiet_transformers, read_model_config
from .progress import Tracker, duration
from .report.report import ReportConfig, write_report
from .results import FIGURE_FILE, RESULTS_FILE, Results, check_results, is_cut_model, read_results
from .tasks.registry import TASKS, GlueTask, compute_metrics, find_task, load_task

__all__ = [
    "COLOURS",
    "FIGURE_FILE",
    "RESULTS_FILE",
    "TASKS",
    "CompressConfig",
    "CutSummary",
    "DepthCurve",
    "DepthSweep",
    "EvalError",
    "FinetuneConfig",
    "GlueTask",
    "ReportConfig",
    "Results",
    "Tracker",
    "check_results",
    "check_suite",
    "compress_model",
    "compute_metrics",
    "cut_depth",
    "depth_sweep",
    "duration",
    "file_digest",
    "find_task",
    "flops_by_depth",
    "is_cut_model",
    "load_task",
    "load_tokenizer",
    "new_file",
    "new_folder",
    "quiet_transformers",
    "read_json",
    "read_model_config",
    "read_results",
    "run_suite",
    "save_depth_figure",
    "seeds_curve",
    "sweep_logits",
    "write_json",
    "write_report",
]
