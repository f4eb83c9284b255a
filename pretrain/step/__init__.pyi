from .batches import model_inputs, pinned, targets_per_micro_batch, tokens_per_micro_batch
from .late import Agreement, Reading
from .loss import masked_cross_entropy
from .optimizer_step import engine_steps, runs_ahead, what_waits

__all__ = [
    "Agreement",
    "Reading",
    "engine_steps",
    "masked_cross_entropy",
    "model_inputs",
    "pinned",
    "runs_ahead",
    "targets_per_micro_batch",
    "tokens_per_micro_batch",
    "what_waits",
]
