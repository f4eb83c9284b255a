"""Masked-language-model pretraining of ACN encoders with the DeepSpeed engine."""

from .check import check_run
from .config import ModelConfig, PretrainConfig, ValidationConfig
from .console import Console, LineConsole
from .errors import PretrainError
from .export import export_checkpoint, find_checkpoint, tokenizer_folder
from .loop import pretrain
from .observe import Tracker
from .stop import EXIT_STOPPED

__all__ = [
    "EXIT_STOPPED",
    "Console",
    "LineConsole",
    "ModelConfig",
    "PretrainConfig",
    "PretrainError",
    "Tracker",
    "ValidationConfig",
    "check_run",
    "export_checkpoint",
    "find_checkpoint",
    "pretrain",
    "tokenizer_folder",
]
