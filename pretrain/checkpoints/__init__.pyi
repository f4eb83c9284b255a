from .config import CheckpointConfig
from .export import export_checkpoint, find_checkpoint
from .folder import (
    ENGINE_CONFIG,
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
from .origin import Origin, differences, find_origin
from .resize import load_checkpoint
from .run_tokenizer import find_tokenizer, keep_tokenizer, tokenizer_folder
from .saver import Saver
from .soundness import damaged_problem, newest_sound, start_over

__all__ = [
    "ENGINE_CONFIG",
    "MARKER",
    "Checkpoint",
    "CheckpointConfig",
    "Origin",
    "Progress",
    "Saver",
    "checkpoint_around",
    "damaged_problem",
    "differences",
    "export_checkpoint",
    "find_checkpoint",
    "find_origin",
    "find_tokenizer",
    "keep_tokenizer",
    "load_checkpoint",
    "marked_folders",
    "newest_complete",
    "newest_sound",
    "start_over",
    "step_folders",
    "step_name",
    "step_of",
    "tokenizer_folder",
]
