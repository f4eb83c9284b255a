"""The counter sees every collective with its exact bytes, and real engines send what the theory says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from benchmarks.communication import CASES, OPERATORS, WITHOUT_PAYLOAD, Case, CollectiveCounter, counted
from launch.cluster.planning.memory import ModelSize
from launch.cluster.planning.traffic import Collective, bytes_sent, step_traffic
from launch.ranks import run_local_ranks
from pretrain.engine import init_distributed

# what the ranks call, and what should be seen: 6 fp32 elements are 24 bytes, 6 bf16 ones 12
EXPECTED = [
    ("all_reduce", 24), ("all_reduce", 12), ("broadcast", 24), ("reduce", 24), ("all_gather", 48), ("all_gather", 48),
    ("reduce_scatter", 24), ("reduce_scatter", 24), ("all_gather", 72), ("all_reduce", 24),
]  # fmt: skip


def call_every_collective() -> None:
    """Functions of torch.distributed and deepspeed.comm, in the order of `EXPECTED`."""
    from deepspeed import comm

    six, half = torch.ones(6), torch.ones(3)
    dist.all_reduce(six)
    dist.all_reduce(torch.ones(6, dtype=torch.bfloat16))
    dist.broadcast(six, 0)
    dist.reduce(six, 0)
    dist.all_gather([torch.empty(6), torch.empty(6)], six)
    dist.all_gather_into_tensor(torch.empty(12), six)
    dist.reduce_scatter(half, [torch.ones(3), torch.ones(3)])
    dist.reduce_scatter_tensor(half, six)
    comm.allgather_fn(torch.empty(18), torch.ones(9))
    # inside a backward pass, where ZeRO calls
    weight = torch.ones(6, requires_grad=True)
    weight.register_hook(lambda gradient: dist.all_reduce(gradient.clone()))
    weight.sum().backward()
    dist.barrier()


def record_calls(file: str) -> int:
    """A rank's part."""
    init_distributed(60.0)
    with CollectiveCounter() as counter:
        call_every_collective()
    dist.all_reduce(torch.ones(1))  # outside
    refused = False
    try:
        with CollectiveCounter():
            dist.all_to_all_single(torch.empty(2), torch.ones(2))
    except NotImplementedError:
        refused = True
    if dist.get_rank() == 0:
        Path(file).write_text(json.dumps([refused, [[one.kind, one.payload] for one in counter.seen]]))
    dist.barrier()
    dist.destroy_process_group()
    return 0


def test_every_collective_is_counted_once_with_its_bytes_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    assert run_local_ranks(2, record_calls, str(tmp_path / "seen.json")) == 0
    refused, seen = json.loads((tmp_path / "seen.json").read_text())
    assert [tuple(one) for one in seen] == EXPECTED
    assert refused


def test_the_counter_knows_operators_that_torch_has() -> None:
    for name in (*OPERATORS, *WITHOUT_PAYLOAD):
        assert hasattr(torch.ops.c10d, name)


@pytest.mark.parametrize(
    "cases",
    [[Case(1, "fp32", 1), Case(2, "fp32", 2), Case(3, "fp32", 2)], pytest.param(CASES, marks=pytest.mark.slow)],
    ids=["three", "all"],
)
def test_real_engines_send_what_the_theory_says(cases: list[Case]) -> None:
    for row in counted(cases):
        assert row["sent"] == pytest.approx(row["theory"], rel=0.001), row


@pytest.mark.parametrize(
    ("kind", "ranks", "sent"),
    [("all_reduce", 2, 12.0), ("all_reduce", 4, 18.0), ("all_gather", 4, 9.0), ("reduce_scatter", 3, 8.0)],
)
def test_a_ring_sends_each_chunk_once_around_or_twice(kind: Any, ranks: int, sent: float) -> None:
    assert Collective(kind, 12.0).sent(ranks) == sent


def test_the_volumes_of_the_stages_for_a_million_parameters() -> None:
    size, ranks = ModelSize(1_000_000), 4

    def elements(stage: int, accumulation: int) -> float:
        return bytes_sent(step_traffic(size, stage, "bf16", accumulation), ranks) / 2 / 1e6 * ranks / (ranks - 1)

    # plain data parallelism, as in the ZeRO paper; DeepSpeed's stages 1 and 2 gather the weights on top of it
    assert elements(0, 8) == pytest.approx(2, rel=1e-4)
    assert elements(1, 8) == pytest.approx(3, rel=1e-4)
    assert [elements(2, k) for k in (1, 8)] == pytest.approx([3, 17], rel=1e-4)
    # weights are gathered once for both passes, gradients reduce-scattered
    assert [elements(3, k) for k in (1, 8)] == pytest.approx([2, 16], rel=1e-4)


def test_stage_3_gathers_the_weights_of_large_models_for_each_pass() -> None:
    small, large = (ModelSize(n) for n in (400_000_000, 600_000_000))
    sent = [bytes_sent(step_traffic(size, 3, "bf16", 1), 2) / size.parameters for size in (small, large)]
    assert sent[1] == pytest.approx(1.5 * sent[0], rel=1e-6)  # the paper's 3 P
