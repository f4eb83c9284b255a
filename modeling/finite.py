"""Whether a model computes numbers at all: a diverged training, or a damaged file, leaves infinities and NaN."""

import torch
from torch import nn

from .modeling_acn import AcnForMultipleChoice, AcnPreTrainedModel

_LENGTH = 8


def non_finite_weights(model: nn.Module) -> str | None:
    """What is said of weights that are infinite or NaN, with the first names; None where there are none."""
    names = [
        name
        for name, weight in model.state_dict().items()
        if weight.is_floating_point() and not bool(weight.isfinite().all())
    ]
    return name_non_finite(names) if names else None


def name_non_finite(names: list[str]) -> str:
    """What is said of these weights."""
    return f"weights are infinite or NaN ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


@torch.no_grad()
def divergence(model: AcnPreTrainedModel) -> str | None:
    """What shows that the training of `model` diverged: weights that are no numbers, or that are so large that the
    answer to a few tokens is none; None in a sound model.

    Half precision, whose range even a sound model may leave, is judged by the weights alone.
    """
    if (found := non_finite_weights(model)) is not None or model.dtype is not torch.float32:
        return found
    length = min(_LENGTH, model.config.max_position_embeddings)
    ids = torch.linspace(0, model.config.vocab_size - 1, length, device=model.device).long()[None]  # (1, T)
    training = model.training
    answer = model.eval()(ids[None] if isinstance(model, AcnForMultipleChoice) else ids)[0]
    model.train(training)
    return None if bool(answer.isfinite().all()) else "it answers with infinities or NaN, so large are its weights"
