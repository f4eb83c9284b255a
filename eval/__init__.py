"""Fine-tuning on GLUE and what it shows about depth.

`finetune` trains a pretrained model on tasks and scores every depth 0..L in one pass over the validation data;
`compress` cuts a fine-tuned model at the smallest depth within a tolerance; `report` draws the depth curves of any
number of runs into one page. User mistakes raise `EvalError`. Metrics go to a `Tracker` that the caller hands in.
"""

from .compress import CompressConfig, CutSummary, compress_model
from .depth import DepthSweep, cut_depth, depth_sweep, flops_by_depth
from .errors import EvalError
from .figures import COLOURS, DepthCurve, save_depth_figure
from .finetune import FinetuneConfig
from .progress import Tracker
from .report import ReportConfig, write_report
from .results import Results, read_results
from .suite import check_suite, run_suite
from .tasks import TASKS, GlueTask, compute_metrics, find_task, load_task

__all__ = [
    "COLOURS",
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
    "check_suite",
    "compress_model",
    "compute_metrics",
    "cut_depth",
    "depth_sweep",
    "find_task",
    "flops_by_depth",
    "load_task",
    "read_results",
    "run_suite",
    "save_depth_figure",
    "write_report",
]
