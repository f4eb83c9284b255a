from .config import CheckpointConfig
from .export import export_checkpoint, find_checkpoint, tokenizer_folder
from .folder import (
    MARKER,
    Checkpoint,
    Progress,
    Saver,
    checkpoint_folder,
    gather_objects,
    load_checkpoint,
    newest_complete,
    newest_sound,
)
from .origin import Origin, differences, find_origin
from .resize import load_resized

__all__ = [
    "MARKER",
    "Checkpoint",
    "CheckpointConfig",
    "Origin",
    "Progress",
    "Saver",
    "checkpoint_folder",
    "differences",
    "export_checkpoint",
    "find_checkpoint",
    "find_origin",
    "gather_objects",
    "load_checkpoint",
    "load_resized",
    "newest_complete",
    "newest_sound",
    "tokenizer_folder",
]
