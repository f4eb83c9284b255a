from .config import CheckpointConfig
from .export import export_checkpoint, find_checkpoint, tokenizer_folder
from .folder import MARKER, Checkpoint, Progress, newest_complete, newest_sound, step_folders, step_name, step_of
from .origin import Origin, differences, find_origin
from .resize import load_checkpoint
from .saver import Saver

__all__ = [
    "MARKER",
    "Checkpoint",
    "CheckpointConfig",
    "Origin",
    "Progress",
    "Saver",
    "differences",
    "export_checkpoint",
    "find_checkpoint",
    "find_origin",
    "load_checkpoint",
    "newest_complete",
    "newest_sound",
    "step_folders",
    "step_name",
    "step_of",
    "tokenizer_folder",
]
