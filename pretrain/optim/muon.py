"""DeepSpeed's Muon, made to pass over a step whose gradients were dropped."""

from typing import Any

from .. import lean_deepspeed  # noqa: F401

# isort: split
from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam


class Muon(MuonWithAuxAdam):
    """Muon (kellerjordan.github.io/posts/muon) for groups with `use_muon`, AdamW for the others.

    ZeRO orthogonalizes whole gradients before it calls this on flat partitions; without ZeRO it happens here.
    """

    def step(self, closure: Any = None, step_id: Any = None) -> Any:
        """Apply one update; none when every gradient is gone, where DeepSpeed's class would go on with its momentum."""
        if all(p.grad is None for group in self.param_groups for p in group["params"]):
            return None
        return super().step(closure, step_id)
