from .config import DataPlace, DatasetConfig
from .glue import DIAGNOSTIC, GLUE_TASKS, SUBMISSION_FILES, SUBMITTED_AS_IDS
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
from .labels import use_classes
from .metrics import compute_metrics
from .own_data import hold_out, load_custom, load_custom_tests, resolve_dataset, validation_name
from .reading import load_task, load_test_splits, load_texts
from .registry import TASKS, find_task
from .task import LABEL, Task

__all__ = [
    "DIAGNOSTIC",
    "FIELDS",
    "GLUE_TASKS",
    "LABEL",
    "PAPER_HIDDEN_SIZE",
    "SUBMISSION_FILES",
    "SUBMITTED_AS_IDS",
    "TASKS",
    "DataPlace",
    "DatasetConfig",
    "GridConfig",
    "Hyperparameters",
    "Task",
    "as_dict",
    "at_point",
    "choose_hyperparameters",
    "compute_metrics",
    "find_task",
    "hold_out",
    "load_custom",
    "load_custom_tests",
    "load_task",
    "load_test_splits",
    "load_texts",
    "point_name",
    "read_table",
    "resolve_dataset",
    "use_classes",
    "validation_name",
    "value_problems",
]
