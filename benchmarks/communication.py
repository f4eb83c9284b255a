"""Bytes that the ranks send each other in a step of every ZeRO stage, counted, against theory and the ZeRO paper.

    python -m benchmarks.communication --json out.json

Two ranks build the engine of `acn pretrain` for each stage and make optimizer steps of one and of two micro-batches.
Every call that reaches torch's collectives is counted with its tensors' bytes; what a rank sends for them follows from
the ring algorithms (`planning.traffic`, which is also what `acn plan` reckons with). The paper's column is 2 P (w-1)/w
elements for stages 0 to 2 and 3 P (w-1)/w for stage 3; `planning.traffic` says why DeepSpeed's volumes are others.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from launch import run_local_ranks
from launch.cluster.planning import Collective, Kind, ModelSize, Precision, bytes_sent, step_traffic
from modeling import AcnConfig, AcnForMaskedLM
from pretrain import ModelConfig, PretrainConfig, build_engine, init_distributed

from .timing import Benchmark, Goal, Report

RANKS = 2
VOCABULARY = 4096
MODEL = ModelConfig(hidden_size=256, num_hidden_layers=2, num_attention_heads=4, intermediate_size=1024)
WARMUP = 3
"""Steps that do not count: stage 3 learns the order of the layers in its first ones, and gathers more until then."""

# torch's operators behind all of torch.distributed's functions (torch/csrc/distributed/c10d/Ops.cpp): what they are,
# and which argument has the whole tensors rather than a rank's shards
OPERATORS: dict[str, tuple[Kind, int]] = {
    "allreduce_": ("all_reduce", 0),
    "allreduce_coalesced_": ("all_reduce", 0),
    "reduce_": ("reduce", 0),
    "broadcast_": ("broadcast", 0),
    "allgather_": ("all_gather", 0),
    "_allgather_base_": ("all_gather", 0),
    "allgather_coalesced_": ("all_gather", 0),
    "allgather_into_tensor_coalesced_": ("all_gather", 0),
    "reduce_scatter_": ("reduce_scatter", 1),
    "_reduce_scatter_base_": ("reduce_scatter", 1),
    "reduce_scatter_tensor_coalesced_": ("reduce_scatter", 1),
}
WITHOUT_PAYLOAD = ("barrier", "monitored_barrier_")


class CollectiveCounter(TorchDispatchMode):
    """Within `with CollectiveCounter() as counter` every collective of this thread goes into `counter.seen`.

    It sits below Python's functions, so that nothing passes it by, whoever calls; and it refuses operators that it does
    not know the volume of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Collective] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Part of torch's interface: called in place of every operator."""
        if func.namespace in ("c10d", "_c10d_functional") and func._opname not in WITHOUT_PAYLOAD:
            if func.namespace != "c10d" or func._opname not in OPERATORS:
                raise NotImplementedError(f"{func}: not counted; add it to OPERATORS")
            kind, whole = OPERATORS[func._opname]
            self.seen.append(Collective(kind, tensor_bytes(args[whole])))
        return func(*args, **(kwargs or {}))


def tensor_bytes(tensors: Any) -> int:
    """Bytes of a tensor, or of all tensors in nested lists."""
    if isinstance(tensors, torch.Tensor):
        return tensors.numel() * tensors.element_size()
    return sum(map(tensor_bytes, tensors))


def totals(collectives: Sequence[Collective]) -> dict[str, dict[str, float]]:
    """Calls, and bytes of payload, by kind."""
    found: dict[str, dict[str, float]] = {}
    for one in collectives:
        total = found.setdefault(one.kind, {"calls": 0, "payload": 0})
        total["calls"] += one.calls
        total["payload"] += one.payload
    return found


@dataclass(frozen=True)
class Case:
    """One engine."""

    stage: int
    precision: Precision
    accumulation: int


CASES = [
    *(Case(stage, "fp32", accumulation) for stage in (0, 1, 2, 3) for accumulation in (1, 2)),
    *(Case(stage, "bf16", 2) for stage in (0, 1, 2, 3)),
]
QUICK = [Case(1, "fp32", 1), Case(3, "fp32", 2)]


def measure(options: argparse.Namespace, report: Report) -> None:
    """Every case once, whatever the number of rounds: counts do not vary."""
    rows = counted(QUICK if options.quick else CASES)
    headers = [
        "ZeRO stage, precision, micro-batches",
        "payload by collective",
        "sent",
        "theory",
        "paper, one micro-batch",
    ]
    report.show(f"bytes per parameter, rank and step, {RANKS} ranks", headers, map(_row, rows))
    for stage in sorted({row["stage"] for row in rows}):
        worst = max(abs(row["sent"] / row["theory"] - 1) for row in rows if row["stage"] == stage)
        what = f"stage {stage}: bytes sent, largest deviation from theory"
        report.goals.append(Goal(what, worst, 0.05, at_least=False))
    report.results["rows"] = rows


def _row(row: dict[str, Any]) -> list[str]:
    n = row["parameters"]
    parts = ", ".join(f"{kind} {total['payload'] / n:.2f}" for kind, total in row["counted"].items())
    case = f"{row['stage']}, {row['precision']}, {row['accumulation']}"
    return [case, parts, *(f"{row[key] / n:.2f}" for key in ("sent", "theory", "paper"))]


def counted(cases: list[Case]) -> list[dict[str, Any]]:
    """One rank's collectives in a step of each case, beside those of `planning.traffic` and of the paper."""
    with tempfile.TemporaryDirectory() as folder:
        code = run_local_ranks(RANKS, _count, (cases, folder))
        if code:
            raise RuntimeError(f"the ranks ended with {code}")
        found = json.loads((Path(folder) / "counted.json").read_text())
    return [_compared(case, ModelSize(**one["size"]), one["seen"]) for case, one in zip(cases, found, strict=True)]


def _compared(case: Case, size: ModelSize, seen: list[dict[str, Any]]) -> dict[str, Any]:
    collectives = [Collective(**one) for one in seen]
    return {
        **asdict(case),
        "parameters": size.parameters,
        "counted": totals(collectives),
        "sent": bytes_sent(collectives, RANKS),
        "theory": bytes_sent(step_traffic(size, case.stage, case.precision, case.accumulation), RANKS),
        "paper": (3 if case.stage == 3 else 2) * (4 if case.precision == "fp32" else 2) * size.parameters
        * (RANKS - 1) / RANKS,
    }  # fmt: skip


def _count(job: tuple[list[Case], str]) -> int:
    """A rank's part."""
    cases, folder = job
    torch.set_num_threads(1)
    init_distributed(60.0)
    found = [_collectives(case) for case in cases]
    if dist.get_rank() == 0:
        (Path(folder) / "counted.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()
    return 0


def _collectives(case: Case) -> dict[str, Any]:
    """The size of the model, and what the engine calls in one optimizer step."""
    config = PretrainConfig(
        data="", output="", zero_stage=case.stage, precision=case.precision, model=MODEL,  # type: ignore[arg-type]
        global_batch_size=2 * case.accumulation * dist.get_world_size(), micro_batch_size=2,
    )  # fmt: skip
    model = AcnForMaskedLM(AcnConfig(**asdict(MODEL), vocab_size=VOCABULARY))
    size = ModelSize.of([p.numel() for p in model.parameters()])
    engine = build_engine(model, config)
    tokens = torch.randint(5, VOCABULARY, (2, 16))
    for _ in range(WARMUP + 1):
        with CollectiveCounter() as counter:
            for _ in range(case.accumulation):
                engine.backward(engine(input_ids=tokens, labels=tokens).loss)
                engine.step()
    engine.destroy()
    return {"size": asdict(size), "seen": [asdict(one) for one in counter.seen]}


BENCHMARK = Benchmark("communication", __doc__, measure, rounds=1, exact=True)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
