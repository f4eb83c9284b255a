from .config import DatasetConfig
from .glue import DIAGNOSTIC, HUB_DATASET, LABEL, TASKS, GlueTask
from .hyperparameters import (
    FIELDS,
    PAPER_HIDDEN_SIZE,
    GridConfig,
    Hyperparameters,
    as_dict,
    at_point,
    choose_hyperparameters,
    point_name,
    read_table,
    value_problems,
)
from .own_data import load_custom
from .registry import compute_metrics, find_task, load_task, load_test_splits

__all__ = [
    "DIAGNOSTIC",
    "FIELDS",
    "HUB_DATASET",
    "LABEL",
    "PAPER_HIDDEN_SIZE",
    "TASKS",
    "DatasetConfig",
    "GlueTask",
    "GridConfig",
    "Hyperparameters",
    "as_dict",
    "at_point",
    "choose_hyperparameters",
    "compute_metrics",
    "find_task",
    "load_custom",
    "load_task",
    "load_test_splits",
    "point_name",
    "read_table",
    "value_problems",
]
