"""Cut models and early exit in latency and throughput: torch, compiled torch and ONNX Runtime in fp32, bf16 and int8.

    python -m benchmarks.inference --json out.json

A sequence classifier of 12 layers x 256, with random weights, reads texts of 64 tokens: whole, cut at depth 6 and at
depth 3, and with early exit, where three of four texts leave at depth 3 (laid down, as in `benchmarks.early_exit`).
Four texts one after another give the milliseconds a text, a batch of 32 the texts per second. Compiled or exported, a
model is one graph that every text runs through to its end, so early exit is measured in plain torch only.

Before an engine is timed, its logits are compared with those of plain fp32 torch. Each engine takes turns with the
whole model in plain torch, one thread, its processor time. What cannot be run here is left out, with the reason.
torch.compile keeps what it compiled: the first run takes longer than the next.
"""

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from eval.studies import exit_flops
from modeling import AcnConfig, AcnForSequenceClassification, forward_flops

from .engines import EARLY_EXIT, ENGINES, REFERENCE, Answer, Engine, Models, Texts, at, logits_of
from .timing import Benchmark, Goal, Report, Step, Timing, interleave, ratio

ONE, MANY = 1, 32
BATCHES = (ONE, MANY)
SINGLES = 4
"""Texts that are asked one after another for the latency."""
WHOLE = "whole model in torch fp32"
Times = dict[int, dict[str, Timing]]
"""Of an engine: by batch size and case."""


@dataclass(frozen=True)
class Size:
    """A model and its texts."""

    hidden: int = 256
    vocab: int = 8192
    length: int = 64
    depths: tuple[int, ...] = (12, 6, 3)
    """Whole, and cut; the last is also where texts leave early."""

    def models(self) -> Models:
        """The model by depth, from the same weights."""
        torch.manual_seed(0)
        config = AcnConfig(
            vocab_size=self.vocab, hidden_size=self.hidden, num_hidden_layers=self.depths[0],
            num_attention_heads=self.hidden // 64, intermediate_size=4 * self.hidden,
            max_position_embeddings=self.length,
        )  # fmt: skip
        whole = AcnForSequenceClassification(config).eval()
        return {depth: copy.deepcopy(whole).truncate(depth) for depth in self.depths}

    def loads(self) -> dict[int, list[Texts]]:
        """The texts by batch size: the first four alone, and all in one batch, of which half are padded."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(5, self.vocab, (MANY, self.length), generator=generator)
        mask = torch.ones_like(ids)
        mask[MANY // 2 :, -self.length // 8 :] = 0
        late, early = self.depths[0], self.depths[-1]
        exits = torch.tensor([early, early, late, early]).repeat(MANY // 4)
        together = Texts({"input_ids": ids, "attention_mask": mask}, exits)
        return {ONE: [_rows(together, slice(i, i + 1)) for i in range(SINGLES)], MANY: [together]}

    def promised(self, models: Models, load: list[Texts]) -> float:
        """How many times fewer FLOPs early exit takes than the whole model."""
        config = models[self.depths[0]].config
        exits = torch.cat([texts.exits for texts in load]).numpy()
        lengths = torch.cat([texts.inputs["attention_mask"].sum(1) for texts in load]).numpy()
        whole = sum(forward_flops(config, int(n), num_labels=config.num_labels) for n in lengths)
        return whole / int(exit_flops(config, lengths, exits).sum())


def _rows(texts: Texts, rows: slice) -> Texts:
    return Texts({name: value[rows] for name, value in texts.inputs.items()}, texts.exits[rows])


@torch.inference_mode()
def answered(answer: Answer, load: list[Texts]) -> torch.Tensor:
    """The logits (N, C) of all texts."""
    return torch.cat([answer(texts).float() for texts in load])


def expected(models: Models, load: list[Texts]) -> dict[str, torch.Tensor]:
    """Every case's logits (N, C) by plain fp32 torch; early exit's are those of the depths at which texts leave."""
    cases = {depth: answered(partial(logits_of, model), load) for depth, model in models.items()}
    exits = torch.cat([texts.exits for texts in load])
    stacked = torch.stack([cases[int(depth)][row] for row, depth in enumerate(exits)])
    return {at(depth): logits for depth, logits in cases.items()} | {EARLY_EXIT: stacked}


def deviation(found: torch.Tensor, reference: torch.Tensor, spread: torch.Tensor) -> float:
    """Root mean square of the differences, in standard deviations (C,) of the logits over texts."""
    return float(((found - reference) / spread).square().mean().sqrt())


def check(engine: Engine, answers: dict[str, Answer], models: Models, loads: dict[int, list[Texts]]) -> dict:
    """How far the logits are from plain torch's, by (batch size, case).

    Raises:
        ValueError: further than the engine's tolerance: its times would be those of another model.
    """
    spread = {case: logits.std(0) for case, logits in expected(models, loads[MANY]).items()}
    found: dict[tuple[int, str], float] = {}
    for batch, load in loads.items():
        reference = expected(models, load)
        for case, answer in answers.items():
            off = deviation(answered(answer, load), reference[case], spread[case])
            if not off <= engine.tolerance:
                raise ValueError(
                    f"{engine.name}, {case}, batch {batch}: logits are {off:.3g} standard deviations from plain "
                    f"torch's, more than {engine.tolerance:g}"
                )
            found[batch, case] = off
    return found


def measure_engine(
    engine: Engine, answers: dict[str, Answer], whole: Answer, loads: dict[int, list[Texts]], rounds: int
) -> Times:
    """The times of an engine's cases, and of the whole model in plain torch in the same rounds."""
    rounds = max(1, round(engine.share() * rounds))
    times: Times = {}
    for batch, load in loads.items():
        cases: dict[str, Step] = {WHOLE: partial(answered, whole, load)}
        cases |= {case: partial(answered, answer, load) for case, answer in answers.items()}
        times[batch] = interleave(cases, rounds, warmup=0, clock=time.process_time)  # `check` was the warm-up
    return times


def rows_of(engine: Engine, times: Times, off: dict[tuple[int, str], float]) -> Iterator[dict[str, Any]]:
    """One row per batch size and case."""
    for batch, cases in times.items():
        texts = SINGLES if batch == ONE else batch
        for case, timing in cases.items():
            if case != WHOLE:
                yield {
                    "engine": engine.name, "case": case, "batch": batch, "seconds": timing.seconds,
                    "milliseconds_per_text": timing.median / texts * 1e3, "texts_per_second": texts / timing.median,
                    "times_whole_torch_fp32": ratio(cases[WHOLE], timing),
                    "deviation": off[batch, case], "tolerance": engine.tolerance,
                }  # fmt: skip


SPEED_GOALS = {
    ("torch.compile fp32", ONE): 1.0, ("torch.compile fp32", MANY): 1.0,
    ("ONNX Runtime fp32", ONE): 1.0, ("ONNX Runtime fp32", MANY): 1.0,
    ("ONNX Runtime int8", ONE): 1.5, ("ONNX Runtime int8", MANY): 1.5,
}  # fmt: skip
"""Of the whole model over plain torch. bf16 has none: it depends on the processor's instructions alone."""


def goals_of(engine: Engine, times: Times, size: Size, promised: dict[int, float]) -> Iterator[Goal]:
    """What an engine should gain by cutting and early exit, and over plain torch."""
    whole, cut = at(size.depths[0]), at(size.depths[-1])
    for batch, cases in times.items():
        name, bound = f"{engine.name}, batch {batch}", 3.5 if batch == MANY else 3.0
        yield Goal(f"{name}: throughput of {cut} over {whole}", ratio(cases[whole], cases[cut]), bound)
        if (engine.name, batch) in SPEED_GOALS:
            faster = ratio(cases[WHOLE], cases[whole])
            yield Goal(f"{name}: {whole} over torch fp32", faster, SPEED_GOALS[engine.name, batch])
        if EARLY_EXIT in cases:
            gained = ratio(cases[whole], cases[EARLY_EXIT]) / promised[batch]
            yield Goal(f"{name}: early exit's speed-up in time over that in FLOPs", gained, 0.8)


def show(report: Report, size: Size, rows: list[dict[str, Any]], left_out: dict[str, str]) -> None:
    """One line per engine and case, and what there is none of."""
    by_case: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        by_case.setdefault(f"{row['engine']}, {row['case']}", {})[row["batch"]] = row
    lines = [
        [
            case,
            f"{pair[ONE]['milliseconds_per_text']:.2f}", f"{pair[ONE]['times_whole_torch_fp32']:.2f}",
            f"{pair[MANY]['texts_per_second']:,.1f}", f"{pair[MANY]['times_whole_torch_fp32']:.2f}",
            f"{max(row['deviation'] for row in pair.values()):.1g}",
        ]
        for case, pair in by_case.items()
    ]  # fmt: skip
    headers = ["case", "batch 1: ms a text", "x torch", f"batch {MANY}: texts/s", "x torch", "deviation"]
    title = (
        f"{size.depths[0]} layers x {size.hidden}, {size.length} tokens, one thread. x torch: speed over {WHOLE}. "
        "Deviation: root mean square of the differences from the logits of torch fp32, in their standard deviations "
        f"over texts. {EARLY_EXIT.capitalize()}: three of four texts leave at depth {size.depths[-1]}"
    )
    report.show(title, headers, lines)
    if left_out:
        report.show("Left out", ["engine", "why"], left_out.items())


def measure(options: argparse.Namespace, report: Report) -> None:
    """Every engine that is there, one after the other."""
    size = Size(hidden=64, vocab=512, length=16, depths=(2, 1)) if options.quick else Size()
    models = size.models()
    loads = size.loads()
    promised = {batch: size.promised(models, load) for batch, load in loads.items()}
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    ready: dict[str, float] = {}  # seconds that compiling, exporting and the comparison of logits took
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = REFERENCE.build(models, folder)[at(size.depths[0])]
        for engine in ENGINES:
            if why := engine.absent():
                left_out[engine.name] = why
                continue
            began = time.process_time()
            answers = engine.build(models, folder)
            off = check(engine, answers, models, loads)
            ready[engine.name] = time.process_time() - began
            print(f"{engine.name}: ready after {ready[engine.name]:.0f} s of processor time", flush=True)
            times = measure_engine(engine, answers, whole, loads, options.rounds)
            rows += rows_of(engine, times, off)
            report.goals += goals_of(engine, times, size, promised)
    show(report, size, rows, left_out)
    report.results |= {"results": rows, "left_out": left_out, "seconds_until_ready": ready}


BENCHMARK = Benchmark("inference", __doc__, measure, rounds=3)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
