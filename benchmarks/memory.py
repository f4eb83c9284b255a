"""Compares what `acn plan` says of memory with real engines, real forward passes and real checkpoints.

    python -m benchmarks.memory --json out.json

States: for every ZeRO stage and precision two ranks build the engine of `acn pretrain` and take two steps of two
micro-batches; the bytes of all tensors alive are counted after each backward pass, and the largest count is compared.
Activations: the bytes that autograd keeps during one forward pass. Checkpoints: the files on disk.
"""

import argparse
import gc
import json
import sys
import tempfile
import weakref
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from launch import run_local_ranks
from launch.cluster.planning import ModelSize, Precision, activation_bytes, checkpoint_bytes, state_bytes
from modeling import AcnConfig, AcnForMaskedLM, DepthSupervision
from modeling.reversible import Rebuilding
from modeling.supervision import Kind
from pretrain import (
    ModelConfig,
    PretrainConfig,
    build_engine,
    checkpoint_activations,
    init_distributed,
    masked_cross_entropy,
)
from pretrain.distil import Statistics, Student, SupervisedForMaskedLM, TeacherConfig

from .timing import Benchmark, Goal, Report

RANKS = 2
VOCABULARY = 4096
MODEL = ModelConfig(hidden_size=128, num_hidden_layers=6, num_attention_heads=2, intermediate_size=512)
STATES: list[tuple[int, Precision]] = [(stage, precision) for stage in (0, 1, 2, 3) for precision in ("fp32", "bf16")]


def measure(options: argparse.Namespace, report: Report) -> None:
    """Every stage in both precisions, then activations; each is counted once, whatever the number of rounds."""
    states = [measured_states(stage, precision) for stage, precision in (STATES[:1] if options.quick else STATES)]
    headers = ["ZeRO stage", "precision", "bytes per parameter", "planned", "on disk", "planned"]
    report.show(f"states, {RANKS} ranks", headers, map(_row, states))
    activations = [measured_activations(*case) for case in activation_cases()]
    rows = [[row["case"], f"{row['measured']:,}", f"{row['planned']:,}"] for row in activations]
    report.show("activations of a forward pass", ["case", "bytes kept", "planned"], rows)
    report.goals += [
        _worst("states, largest deviation", states, "measured", "planned", 0.02),
        _worst("checkpoint, largest deviation", states, "on_disk", "planned_on_disk", 0.02),
        _worst("activations, largest deviation", activations, "measured", "planned", 0.1),
    ]
    report.results |= {"states": states, "activations": activations}


def _row(row: dict[str, Any]) -> list[str]:
    n = row["parameters"]
    figures = [f"{row[key] / n:.2f}" for key in ("measured", "planned", "on_disk", "planned_on_disk")]
    return [str(row["stage"]), row["precision"], *figures]


def _worst(what: str, rows: list[dict[str, Any]], measured: str, planned: str, bound: float) -> Goal:
    return Goal(what, max(abs(row[planned] / row[measured] - 1) for row in rows), bound, at_least=False)


def measured_states(stage: int, precision: Precision) -> dict[str, Any]:
    """One rank's bytes with a real engine, beside those of `planning.memory`."""
    with tempfile.TemporaryDirectory() as folder:
        code = run_local_ranks(RANKS, _run_engine, (stage, precision, folder))
        if code:
            raise RuntimeError(f"the ranks of stage {stage} {precision} ended with {code}")
        measured = json.loads((Path(folder) / "measured.json").read_text())
        files = [path for path in Path(folder, "checkpoint").rglob("*") if path.is_file()]
        on_disk = sum(path.stat().st_size for path in files)
    size = ModelSize.of(measured["tensors"])
    planned = state_bytes(size, stage, precision, RANKS)
    # stage 2 has its bucket only during a backward pass
    expected = planned.total - planned.buffers if stage == 2 else planned.total
    return {
        "stage": stage,
        "precision": precision,
        "parameters": size.parameters,
        "measured": measured["bytes"],
        "planned": int(expected),
        "on_disk": on_disk,
        "planned_on_disk": checkpoint_bytes(size, stage, precision),
    }


def _run_engine(case: tuple[int, Precision, str]) -> int:
    stage, precision, folder = case
    torch.set_num_threads(1)
    init_distributed(60.0)
    config = PretrainConfig(
        data="", output="", zero_stage=stage, precision=precision, model=MODEL,  # type: ignore[arg-type]
        global_batch_size=4 * dist.get_world_size(), micro_batch_size=2,
    )  # fmt: skip
    before = _alive()
    model = AcnForMaskedLM(AcnConfig(**asdict(MODEL), vocab_size=VOCABULARY))
    tensors = [p.numel() for p in model.parameters()]
    engine = build_engine(model, config)
    tokens = torch.randint(5, VOCABULARY, (2, 16))
    most = 0
    for _ in range(2 * config.global_batch_size // dist.get_world_size() // config.micro_batch_size):
        loss = engine(input_ids=tokens, labels=tokens).loss
        engine.backward(loss)
        del loss
        dist.barrier()  # a reduction that the other rank has not finished still holds its bucket
        gc.collect()
        most = max(most, _alive() - before)
        engine.step()
    engine.save_checkpoint(f"{folder}/checkpoint", tag="last")
    if engine.global_rank == 0:
        (Path(folder) / "measured.json").write_text(json.dumps({"bytes": most, "tensors": tensors}))
    return 0


def _alive() -> int:
    """Bytes of all storages that a tensor of this process or its gradient holds."""
    found = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):  # isinstance would ask lazy modules and proxies
            for tensor in (thing, thing.grad if thing.is_leaf else None):
                if tensor is not None and tensor.device.type != "meta":
                    storage = tensor.untyped_storage()
                    found[storage._cdata] = storage.nbytes()
    return sum(found.values())


def activation_cases() -> list[tuple[str, AcnConfig, Precision, bool, TeacherConfig | None, Kind]]:
    """(name, model, precision, activation checkpointing, what a teacher's match is weighed with, depth supervision)."""
    plain = AcnConfig(**asdict(MODEL), vocab_size=VOCABULARY)
    gated = AcnConfig(**asdict(replace(MODEL, gated_mlp=True)), vocab_size=VOCABULARY)
    twin = AcnConfig(**asdict(replace(MODEL, connectivity="residual")), vocab_size=VOCABULARY)
    two = AcnConfig(**asdict(replace(MODEL, connectivity="reversible")), vocab_size=VOCABULARY)
    deep = AcnConfig(**two.to_diff_dict() | {"num_hidden_layers": 48})
    return [
        ("acn, fp32", plain, "fp32", False, None, "none"),
        ("acn, bf16", plain, "bf16", False, None, "none"),
        ("residual, bf16", twin, "bf16", False, None, "none"),
        ("acn, gated, bf16", gated, "bf16", False, None, "none"),
        ("acn, teacher, fp32", plain, "fp32", False, TeacherConfig(weight=1.0), "none"),
        ("acn, teacher alone, bf16", plain, "bf16", False, TeacherConfig(weight=1.0, mlm_weight=0.0), "none"),
        ("acn, every depth, bf16", plain, "bf16", False, None, "deep"),
        ("acn, another depth, fp32", plain, "fp32", False, None, "adaptive"),
        ("acn, teacher, every depth, fp32", plain, "fp32", False, TeacherConfig(weight=1.0), "deep"),
        ("reversible, fp32", two, "fp32", False, None, "none"),
        ("reversible, bf16", two, "bf16", False, None, "none"),
        ("reversible, 48 layers, bf16", deep, "bf16", False, None, "none"),
        ("reversible, teacher alone, bf16", two, "bf16", False, TeacherConfig(weight=1.0, mlm_weight=0.0), "none"),
        ("reversible, every depth, fp32", two, "fp32", False, None, "deep"),
    ]


def _student(config: AcnConfig, teaching: TeacherConfig) -> Student:
    flat = torch.ones(config.hidden_size)
    return Student(config, teaching, Statistics(variance=1.0, norm_weight=flat, norm_bias=flat))


class _Kept:
    """A tensor for as long as autograd keeps it: what belongs to no loss is let go of."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor.detach()  # itself it would be a circle with its node, for ever


def measured_activations(
    name: str,
    config: AcnConfig,
    precision: Precision,
    checkpointing: bool,
    teaching: TeacherConfig | None,
    kind: Kind,
) -> dict[str, Any]:
    """Bytes that autograd keeps in a forward pass, beside those of `planning.memory` (less what is passing).

    The states of a teacher are kept, too.
    """
    blocks, length, targets = 4, 64, 9
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    supervision = DepthSupervision(kind)
    supervised = AcnForMaskedLM if kind == "none" else SupervisedForMaskedLM
    model = supervised(config) if teaching is None else _student(config, teaching)
    model = model.to(dtype).train()
    model.loss_function = masked_cross_entropy  # as pretraining has it
    if checkpointing:
        checkpoint_activations(model)
    tokens = torch.randint(5, VOCABULARY, (blocks, length))
    positions = torch.stack([torch.randperm(length)[:targets] for _ in range(blocks)])
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    alive: weakref.WeakSet[_Kept] = weakref.WeakSet()

    def keep(tensor: torch.Tensor) -> _Kept:
        alive.add(kept := _Kept(tensor))
        return kept

    inputs: dict[str, Any] = {"input_ids": tokens}
    own = []
    if teaching is not None:
        inputs["states"] = torch.zeros(blocks, length, config.hidden_size, dtype=dtype)
        own.append(keep(inputs["states"]))
    masked = teaching is None or teaching.masked
    if masked:
        inputs |= {"masked_positions": positions, "labels": tokens.gather(1, positions)}
    if kind != "none":
        inputs["depths"] = supervision.weights(config.num_hidden_layers, seed=0, step=0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.tensor):
        outputs = model(**inputs)
    tensors = [kept.tensor for kept in alive]
    # what a reversible model keeps past autograd
    rebuilding = [thing.streams for thing in gc.get_objects() if type(thing) is Rebuilding]
    tensors += [streams for streams in rebuilding if streams is not None]
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    del outputs, own
    planned = activation_bytes(
        config, blocks, length, targets, precision, checkpointing, teaching is not None, masked, supervision
    )
    return {
        "case": name,
        "measured": sum(size for storage, size in storages.items() if storage not in weights),
        "planned": planned.kept,
    }


BENCHMARK = Benchmark("memory", __doc__, measure, rounds=1)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
