"""What the ranks of a run send each other in an optimizer step, by ZeRO stage, and what it takes of a link.

The volumes are those of DeepSpeed 0.19.8 with our configuration, which `benchmarks/communication.py` counts on real
engines. The ZeRO paper (Rajbhandari et al., arXiv 1910.02054, section 7) has 2 P (w-1)/w elements a step for stages 0
to 2 and half as many again for stage 3, of P parameters on w ranks. DeepSpeed's defaults differ from it:

- Stages 1 and 2 all-reduce the gradients, of which a rank then keeps its share, instead of reduce-scattering them
  (`use_multi_rank_bucket_allreduce`, on by default): 2 P (w-1)/w, and the all-gather of the new weights on top.
- Stages 2 and 3 reduce the gradients of every micro-batch, stages 0 and 1 their sum.
- Stage 3 keeps weights that are used again within `stage3_max_reuse_distance` = 1e9 elements, which in a model of less
  than half that size is from the forward pass to the backward pass: they are gathered once a micro-batch, not twice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pretrain import LARGEST_BUCKET, REDUCED_AT_ONCE

from .memory import ModelSize, Precision

Kind = Literal["all_reduce", "reduce_scatter", "all_gather", "reduce", "broadcast"]
Phase = Literal["forward", "backward", "last backward", "after"]

REUSE_DISTANCE = 10**9
"""Elements (DeepSpeed's stage3_max_reuse_distance)."""
PARAMETER_GROUPS = 2
"""Of `pretrain.optim.optimizers.parameter_groups`; each is gathered by a call of its own."""
SMALL_REDUCTIONS = 4
"""All-reduces of a few bytes in every step: number of targets, norm and finiteness of the gradient, stop flags."""


@dataclass(frozen=True)
class Collective:
    """Calls of one collective of torch.distributed in an optimizer step."""

    kind: Kind
    payload: float
    """Bytes, over all calls: of the whole tensor, not of a rank's shard of it."""
    calls: int = 1
    phase: Phase = "after"
    """Beside which passes of a step's micro-batches DeepSpeed starts it where it overlaps communication (on GPUs).
    after: beside none, all ranks wait for it."""

    def sent(self, ranks: int) -> float:
        """Bytes that a rank sends, and receives, when the ranks form a ring; the mean over the ranks.

        Ring algorithms: Patarasuk and Yuan 2009 (all-reduce as reduce-scatter and all-gather, which no algorithm
        undercuts); Thakur, Rabenseifner and Gropp 2005.
        """
        trips = 2 if self.kind == "all_reduce" else 1
        return trips * self.payload * (ranks - 1) / ranks


def step_traffic(size: ModelSize, stage: int, precision: Precision, accumulation: int) -> list[Collective]:
    """The collectives of one optimizer step of a run with AdamW, once stage 3 knows the order of the layers.

    Args:
        accumulation: micro-batches of a rank.
    """
    low = 4 if precision == "fp32" else 2
    whole = float(low * size.parameters)
    buckets = math.ceil(size.parameters / LARGEST_BUCKET)
    small = Collective("all_reduce", 4.0 * SMALL_REDUCTIONS, SMALL_REDUCTIONS)
    if stage == 0:
        return [Collective("all_reduce", whole, math.ceil(size.parameters / REDUCED_AT_ONCE)), small]
    weights = Collective("all_gather", whole, PARAMETER_GROUPS)
    if stage == 1:
        # BF16_Optimizer, which sums micro-batches in fp32, reduces when the last backward pass is over
        phase: Phase = "after" if precision == "bf16" else "last backward"
        return [Collective("all_reduce", whole, buckets, phase), weights, small]
    if stage == 2:
        return [Collective("all_reduce", whole * accumulation, buckets * accumulation, "backward"), weights, small]
    sharded = low * (size.parameters - size.persistent)
    kept = Collective("all_gather", float(low * size.persistent), size.persistent_tensors)
    gathers = accumulation * (1 if 2 * size.parameters <= REUSE_DISTANCE else 2)
    return [
        Collective("all_gather", float(sharded * gathers), buckets * gathers, "forward"),
        Collective("reduce_scatter", whole * accumulation, buckets * accumulation, "backward"),
        *([kept] if size.persistent else []),
        small,
    ]


def bytes_sent(collectives: Sequence[Collective], ranks: int) -> float:
    """Bytes that a rank sends in all."""
    return sum(collective.sent(ranks) for collective in collectives)
