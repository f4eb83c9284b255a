"""Speed and memory of the model family against transformers' BERT.

    python -m benchmarks.model --json out.json

Masked-language-model training steps (forward and backward, sequence 128, 15 % targets) of three sizes, and forward
passes of a sequence classifier at several depths. One thread, and seconds of its processor time: what other programs
do on the machine hardly enters.
"""

import argparse
import sys
import time
from dataclasses import dataclass

import torch
from transformers import BertConfig, BertForMaskedLM

from modeling import AcnConfig, AcnForMaskedLM, AcnForSequenceClassification

from .timing import Benchmark, Goal, Report, Step, interleave, peak_memory, ratio

SEQ_LENGTH = 128
TARGETS = round(0.15 * SEQ_LENGTH)
BERT = "transformers BertForMaskedLM"
CASES = {"acn": "acn", "residual": "residual", "residual, every position decoded": "residual"}


@dataclass(frozen=True)
class Size:
    """A model and the batch that keeps its steps near a second on one core."""

    hidden: int
    vocab: int
    batch: int
    goal: float
    """How many times BERT's speed ours should have."""

    @property
    def name(self) -> str:
        """Width x layers / vocabulary."""
        return f"{self.hidden}x12/{self.vocab // 1024}k"

    def fields(self) -> dict[str, int | float]:
        """What the two configurations have in common."""
        return {
            "vocab_size": self.vocab, "hidden_size": self.hidden, "num_hidden_layers": 12,
            "num_attention_heads": self.hidden // 64, "intermediate_size": 4 * self.hidden,
            "max_position_embeddings": SEQ_LENGTH, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        }  # fmt: skip


SIZES = (Size(128, 8192, 8, goal=1.5), Size(256, 32768, 4, goal=1.5), Size(768, 32768, 2, goal=1.25))


def masked_batch(size: Size) -> dict[str, torch.Tensor]:
    """Random ids with their targets, in both forms: labels of the whole sequence, and of the masked positions."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, size.vocab, (size.batch, SEQ_LENGTH), generator=generator)
    positions = torch.rand(ids.shape, generator=generator).argsort(1)[:, :TARGETS].sort(1).values
    targets = ids.gather(1, positions)
    labels = torch.full_like(ids, -100).scatter(1, positions, targets)
    return {"input_ids": ids, "positions": positions, "targets": targets, "labels": labels}


def training_step(size: Size, case: str) -> Step:
    """Forward and backward of one case, with BERT's initial weights; returns the loss."""
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(**size.fields()))
    batch = masked_batch(size)
    inputs = {"input_ids": batch["input_ids"], "labels": batch["labels"]}
    if case != BERT:
        model = AcnForMaskedLM.from_bert(model, connectivity=CASES[case])
        if "every position" not in case:
            inputs |= {"labels": batch["targets"], "masked_positions": batch["positions"]}
    model.train()

    def step() -> float:
        model.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        return loss.item()

    return step


def measure_training(size: Size, rounds: int) -> tuple[list[dict], list[Goal]]:
    """One row per case, and the goals of this size."""
    steps = {case: training_step(size, case) for case in (BERT, *CASES)}
    expected = steps[BERT]()
    for case in ("residual", "residual, every position decoded"):  # the same model, or the times mean nothing
        assert abs(steps[case]() - expected) < 1e-3, case
    times = interleave(steps, rounds, clock=time.process_time)
    del steps
    rows = [
        {
            "size": size.name, "case": case, "seconds": timing.seconds,
            "tokens_per_second": size.batch * SEQ_LENGTH / timing.median,
            "times_bert": ratio(times[BERT], timing),
            "peak_mib": peak_memory(training_step, size, case) / 2**20,
        }
        for case, timing in times.items()
    ]  # fmt: skip
    goals = [
        Goal(f"{size.name}: {case} over BertForMaskedLM, tokens/s", ratio(times[BERT], times[case]), size.goal)
        for case in ("acn", "residual")
    ]
    slowdown = ratio(times["acn"], times["residual"])
    goals.append(Goal(f"{size.name}: time of acn over residual", slowdown, 1.02, at_least=False))
    return rows, goals


def measure_depths(size: Size, rounds: int) -> tuple[list[dict], list[Goal]]:
    """Forward passes of a sequence classifier at full depth, at every depth in one pass, and at three layers."""
    torch.manual_seed(0)
    model = AcnForSequenceClassification(AcnConfig(**size.fields(), num_labels=2)).eval()
    ids = masked_batch(size)["input_ids"]
    full, every, three = "depth 12", "every depth 0..12 from one pass", "depth 3"

    @torch.no_grad()
    def every_depth() -> None:
        torch.stack(list(model.depth_logits(input_ids=ids)))

    @torch.no_grad()
    def at(depth: int) -> None:
        model(input_ids=ids, depth=depth)

    cases: dict[str, Step] = {full: lambda: at(12), every: every_depth, three: lambda: at(3)}
    times = interleave(cases, rounds, clock=time.process_time)
    rows = [
        {
            "size": size.name, "case": case, "seconds": timing.seconds,
            "tokens_per_second": size.batch * SEQ_LENGTH / timing.median,
            "times_full_depth": ratio(times[full], timing),
        }
        for case, timing in times.items()
    ]  # fmt: skip
    return rows, [
        Goal(f"{size.name}: time of {every} over {full}", ratio(times[every], times[full]), 1.15, at_least=False),
        Goal(f"{size.name}: throughput of {three} over {full}", ratio(times[full], times[three]), 3.5),
    ]


def measure(options: argparse.Namespace, report: Report) -> None:
    """Training steps of every size, then forward passes of the larger ones."""
    training: list[dict] = []
    depths: list[dict] = []
    sizes = SIZES[:1] if options.quick else SIZES
    for size in sizes:
        rows, goals = measure_training(size, options.rounds)
        training += rows
        report.goals += goals
        columns = [[r["case"], f"{r['tokens_per_second']:,.0f}", f"{r['times_bert']:.2f}", f"{r['peak_mib']:,.0f}"]
                   for r in rows]  # fmt: skip
        title = f"{size.name}, batch {size.batch} x {SEQ_LENGTH}, forward + backward"
        report.show(title, ["case", "tokens/CPU s", "x BERT", "peak MiB"], columns)
    for size in sizes[-2:]:
        rows, goals = measure_depths(size, options.rounds)
        depths += rows
        report.goals += goals
        columns = [[r["case"], f"{r['tokens_per_second']:,.0f}", f"{r['times_full_depth']:.2f}"] for r in rows]
        title = f"{size.name}, batch {size.batch} x {SEQ_LENGTH}, sequence classifier, forward only"
        report.show(title, ["case", "tokens/CPU s", "x full depth"], columns)
    report.results |= {"training": training, "depths": depths}


BENCHMARK = Benchmark("model", __doc__, measure, rounds=4)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
