from .config import CheckpointConfig
from .export import export_checkpoint, find_checkpoint, load_weights
from .folder import (
    MARKER,
    Checkpoint,
    Progress,
    checkpoint_around,
    marked_folders,
    newest_complete,
    step_folders,
    step_name,
    step_of,
)
from .origin import Origin, differences, find_origin, find_start
from .resize import load_checkpoint
from .run_tokenizer import find_tokenizer, tokenizer_folder
from .saver import Saver
from .soundness import check_together, damaged_problem, newest_sound
from .starting_model import StartingModel, inherited_fields, size_problems, starts_from_model, with_sizes

__all__ = [
    "MARKER",
    "Checkpoint",
    "CheckpointConfig",
    "Origin",
    "Progress",
    "Saver",
    "StartingModel",
    "check_together",
    "checkpoint_around",
    "damaged_problem",
    "differences",
    "export_checkpoint",
    "find_checkpoint",
    "find_origin",
    "find_start",
    "find_tokenizer",
    "inherited_fields",
    "load_checkpoint",
    "load_weights",
    "marked_folders",
    "newest_complete",
    "newest_sound",
    "size_problems",
    "starts_from_model",
    "step_folders",
    "step_name",
    "step_of",
    "tokenizer_folder",
    "with_sizes",
]
