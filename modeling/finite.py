"""Whether weights are numbers at all: a diverged training, or a damaged file, leaves infinities and NaN."""

from torch import nn


def non_finite_weights(model: nn.Module) -> list[str]:
    """The names of the parameters and buffers with an entry that is infinite or NaN; empty in a sound model."""
    return [
        name
        for name, weight in model.state_dict().items()
        if weight.is_floating_point() and not bool(weight.isfinite().all())
    ]
