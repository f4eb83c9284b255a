"""A model of the time of an optimizer step on any number of GPUs: compute, and the communication it does not hide.

What is sent is `traffic`'s, counted on real engines. How long that takes is a model with these assumptions,
which `acn plan` prints in short and docs/cluster.md in full:

- A GPU computes at the same MFU whatever the number of GPUs, and however small its micro-batch has become.
- Collectives are hierarchical rings: the GPUs of a node exchange everything over the links within it, then each GPU its
  share of the node's result with its counterparts over a network card of its own, one after the other. NCCL overlaps
  the two, and saves some with in-switch sums (NVLS, SHARP).
- A call of a collective costs what NCCL's own tuning table says, with as many hops as a tree has levels.
- Where a pass has several buckets, all but one of them travel beside it, without slowing it down, as long as it lasts.
- All ranks are equally fast, nobody else uses the network, and data, logging and checkpoints cost nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .traffic import Collective

# Seconds of NCCL's protocol "Simple" for trees: src/graph/tuning.cc of NCCL 2.23 (baseLat, and hwLat by kind of link)
CALL_LATENCY = 8.4e-6
NODE_LATENCY = 4e-6
NETWORK_LATENCY = 14e-6
FORWARD = 1 / 3
"""Share of a step's FLOPs in the forward pass; the backward pass has twice as many."""


@dataclass(frozen=True)
class Network:
    """What connects the GPUs."""

    gpus: int
    """Of a node."""
    node_bandwidth: float
    """Bytes per second that a GPU sends, while it receives as many, to the others of its node."""
    network_bandwidth: float
    """The same to GPUs of other nodes, while all GPUs of the node do so."""

    def seconds(self, collective: Collective, ranks: int) -> float:
        """Time of all its calls when nothing else happens."""
        local = min(self.gpus, ranks)
        nodes = math.ceil(ranks / local)
        trips = 2 if collective.kind == "all_reduce" else 1
        within = (local - 1) / local / self.node_bandwidth
        between = (nodes - 1) / nodes / local / self.network_bandwidth
        hops = NODE_LATENCY * math.log2(local) + NETWORK_LATENCY * math.log2(nodes)
        latency = CALL_LATENCY + trips * hops if ranks > 1 else 0.0
        return trips * collective.payload * (within + between) + collective.calls * latency


@dataclass(frozen=True)
class StepTime:
    """One optimizer step, in seconds."""

    ranks: int
    micro_batch: int
    """Blocks."""
    accumulation: int
    """Micro-batches of a rank."""
    tokens: int
    """Of the global batch."""
    compute: float
    communication: float
    """All of it, as if nothing were hidden."""
    exposed: float
    """The part that the GPUs wait for."""

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.compute + self.exposed

    @property
    def tokens_per_second(self) -> float:
        """Of all ranks."""
        return self.tokens / self.seconds

    @property
    def efficiency(self) -> float:
        """Tokens per second and GPU, relative to those of a single GPU."""
        return self.compute / self.seconds


def exposed_seconds(
    collectives: Sequence[Collective], network: Network, ranks: int, compute: float, accumulation: int, overlap: bool
) -> float:
    """The part of the communication that does not hide behind the passes.

    Args:
        compute: seconds of all forward and backward passes of a rank's step.
        overlap: whether DeepSpeed reduces beside the backward pass (`overlap_comm`), as it does on GPUs.
    """
    # of each phase: seconds in which there is something to hide behind, and passes it is made of
    windows = {
        "forward": (compute * FORWARD, accumulation),
        "backward": (compute * (1 - FORWARD), accumulation),
        "last backward": (compute * (1 - FORWARD) / accumulation, 1),
        "after": (0.0, 1),
    }
    total = 0.0
    for collective in collectives:
        seconds = network.seconds(collective, ranks)
        window, passes = windows[collective.phase]
        # the last bucket of a backward pass, and the first of a forward pass, have nothing beside them
        hideable = seconds * (1 - passes / collective.calls) if overlap else 0.0
        total += seconds - min(hideable, window)
    return total


def model_step_time(
    collectives: Sequence[Collective],
    network: Network,
    *,
    ranks: int,
    micro_batch: int,
    accumulation: int,
    tokens: int,
    rank_seconds: float,
    overlap: bool = True,
) -> StepTime:
    """The time of a step.

    Args:
        collectives: of the step, as `launch.cluster.planning.traffic.step_traffic` has them.
        tokens: of the global batch.
        rank_seconds: what a rank computes for its share of them.
    """
    return StepTime(
        ranks=ranks,
        micro_batch=micro_batch,
        accumulation=accumulation,
        tokens=tokens,
        compute=rank_seconds,
        communication=sum(network.seconds(collective, ranks) for collective in collectives),
        exposed=exposed_seconds(collectives, network, ranks, rank_seconds, accumulation, overlap),
    )
