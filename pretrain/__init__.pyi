from .check import check_run
from .checkpoints.run_tokenizer import tokenizer_folder
from .checkpoints.starting_model import with_sizes
from .config import ModelConfig, PretrainConfig, ValidationConfig, plain_problems
from .deepspeed_options import LARGEST_BUCKET, REDUCED_AT_ONCE
from .engine import build_engine, checkpoint_activations, init_distributed
from .errors import LostRankError, PretrainError, UnhealthyError
from .observe.console import Console, LineConsole
from .observe.observer import Tracker
from .step.loss import masked_cross_entropy
from .stop import EXIT_STOPPED, StopRequest
from .trainer import Training, pretrain

__all__ = [
    "EXIT_STOPPED",
    "LARGEST_BUCKET",
    "REDUCED_AT_ONCE",
    "Console",
    "LineConsole",
    "LostRankError",
    "ModelConfig",
    "PretrainConfig",
    "PretrainError",
    "StopRequest",
    "Tracker",
    "Training",
    "UnhealthyError",
    "ValidationConfig",
    "build_engine",
    "check_run",
    "checkpoint_activations",
    "init_distributed",
    "masked_cross_entropy",
    "plain_problems",
    "pretrain",
    "tokenizer_folder",
    "with_sizes",
]
