"""Memory and time of reversible models whose activations are computed again, against the same models that keep them.

    python -m benchmarks.reversible --json out.json

Memory: the most that a forward and backward pass takes from torch's CPU allocator at a time, by its profiler, beyond
weights and their gradients, which are there before; workspaces and temporary results count. Time: processor seconds of
forward and backward passes in turns, and the median of the rounds' ratios. Precision: the largest relative error of a
weight's gradient in bf16 against that of activations that are kept, by layers.
"""

import argparse
import statistics
import sys
import time
from dataclasses import asdict, replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from modeling import AcnConfig, AcnForMaskedLM
from pretrain import ModelConfig, masked_cross_entropy

from .timing import Benchmark, Goal, Report

MODEL = ModelConfig(connectivity="reversible", hidden_size=128, num_attention_heads=2, intermediate_size=512)
VOCABULARY, BLOCKS, LENGTH, TARGETS = 8192, 8, 128, 19
DEPTHS = (4, 12, 24, 48)
WAYS = ("rebuilt", "kept")


def build(layers: int, way: str, **fields: Any) -> AcnForMaskedLM:
    """A model whose gradients are there already; `way` is one of `WAYS`."""
    torch.manual_seed(0)
    fields = asdict(replace(MODEL, num_hidden_layers=layers, **fields))
    model = AcnForMaskedLM(AcnConfig(**fields, vocab_size=VOCABULARY)).train()
    model.loss_function = masked_cross_entropy  # as pretraining has it
    if way == "kept":
        model.acn._runner = lambda *_, **__: lambda layer, *args, **kwargs: layer(*args, **kwargs)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    return model


def passes(model: AcnForMaskedLM) -> None:
    """One forward and backward pass of random tokens."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(5, VOCABULARY, (BLOCKS, LENGTH), generator=generator)
    positions = torch.stack([torch.randperm(LENGTH, generator=generator)[:TARGETS] for _ in range(BLOCKS)])
    model(tokens, masked_positions=positions, labels=tokens.gather(1, positions)).loss.backward()


def peak_bytes(model: AcnForMaskedLM) -> int:
    """The most that is allocated at a time in a forward and backward pass."""
    passes(model)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        passes(model)
    assert profiled.profiler is not None
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def seconds(model: AcnForMaskedLM) -> float:
    """Processor seconds of a forward and backward pass."""
    began = time.process_time()
    passes(model)
    return time.process_time() - began


def gradient_error(layers: int, dtype: torch.dtype) -> float:
    """The largest relative error of a weight's gradient where activations are computed again."""
    found = []
    for way in WAYS:
        model = build(layers, way).to(dtype)
        model.zero_grad()
        passes(model)
        found.append([weight.grad.double() for weight in model.parameters() if weight.grad is not None])
    pairs = zip(*found, strict=True)
    return max(float((ours - theirs).norm() / theirs.norm().clamp(min=1e-30)) for ours, theirs in pairs)


def measure(options: argparse.Namespace, report: Report) -> None:
    """Memory by depth, time at twelve layers, and the error of half precision."""
    depths = DEPTHS[:2] if options.quick else DEPTHS
    peaks = {way: {layers: peak_bytes(build(layers, way)) for layers in depths} for way in WAYS}
    rows = [[str(layers), *(f"{peaks[way][layers] / 2**20:.2f}" for way in WAYS)] for layers in depths]
    size = f"{MODEL.hidden_size} wide, {BLOCKS} x {LENGTH} tokens, vocabulary {VOCABULARY:,}, fp32"
    report.show(f"peak memory of a step in MiB, {size}", ["layers", *WAYS], rows)

    models = {way: build(12, way) for way in WAYS}
    rounds = [{way: seconds(model) for way, model in models.items()} for _ in range(options.rounds + 1)][1:]
    ratio = statistics.median(one["rebuilt"] / one["kept"] for one in rounds)
    medians = {way: statistics.median(one[way] for one in rounds) for way in WAYS}
    report.show("processor seconds of a step, 12 layers", WAYS, [[f"{medians[way]:.3f}" for way in WAYS]])

    errors = {
        name: {layers: gradient_error(layers, dtype) for layers in depths}
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    rows = [[str(layers), *(f"{errors[name][layers]:.1e}" for name in errors)] for layers in depths]
    report.show("largest relative error of a weight's gradient", ["layers", *errors], rows)
    report.goals += [
        Goal("peak memory, most layers / fewest", max(peaks["rebuilt"].values()) / min(peaks["rebuilt"].values()), 1.05,
             at_least=False),
        Goal("step time, rebuilt / kept, 12 layers", ratio, 1.5, at_least=False),
    ]  # fmt: skip
    report.results |= {"peaks": peaks, "seconds": medians, "gradient_errors": errors}


BENCHMARK = Benchmark("reversible", __doc__, measure, rounds=11, exact=False)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
