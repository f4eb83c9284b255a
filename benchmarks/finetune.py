"""Fine-tuning, the depth sweep and a study, against what a user would write with Trainer and transformers' BERT.

    python -m benchmarks.finetune [--glue_dir GLUE] --json out.json

`acn glue` and code that does what transformers' example run_glue.py does fine-tune 6 layers x 384 of random weights on
5,000 examples of SST-2 (GLUE_DIR/sst2, or random words of its lengths; --glue_dir overrides GLUE_DIR), each in a
process of its own with one thread, in turns of some steps. A whole fine-tuning of three epochs is what each took to
start and to finish, and its steps at the mean of those measured: processor time, on a GPU the clock's.

"Equal" has the residual twin's weights, batches, padding and precision, and must have its losses. "By default" is
run_glue.py as it comes: fp32, every text padded to 128 tokens, 8 at a time for evaluation. bf16 is left out on
processors without instructions for it. The sweep and the study read 256 validation texts with the residual twin and
with BERT of the same weights.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch

from modeling import resolve_precision

from .aims import PRECISIONS, finetune_by_default, finetune_equal, finetune_losses, study_by_hand, sweep_by_cuts
from .finetune_jobs import TASK, Bench, Contender, Found, take_turns
from .finetune_reading import Reading
from .sst2 import SPLITS, Shape, write_task
from .timing import Benchmark, Report, interleave, ratio

SHAPE, QUICK = Shape(384, 6), Shape(32, 2, 16_000)
BATCH = 32
ACN, RESIDUAL = "acn glue, acn", "acn glue, residual"
EQUAL = "Trainer and BERT, equal"
ANY_ORDER = "Trainer and BERT, batches of any lengths"
BY_DEFAULT = "run_glue.py by default"


def contenders(precision: str, turn: int) -> list[Contender]:
    """Those who take turns; run_glue.py's default is fp32 whatever the others compute in."""
    few = max(1, turn // 10)  # its steps are long, and all alike
    return [
        Contender(ACN, precision, turn, "acn"),
        Contender(RESIDUAL, precision, turn, "residual"),
        Contender(EQUAL, precision, turn),
        Contender(ANY_ORDER, precision, turn, grouped=False),
        Contender(BY_DEFAULT, "fp32", few, grouped=False, pad_to_max_length=True, eval_batch=8),
    ]


def precisions() -> Sequence[str]:
    """Those in which a user of this machine would fine-tune."""
    return PRECISIONS if resolve_precision("auto") == "bf16" else PRECISIONS[:1]


def prepare_bench(folder: Path, shape: Shape, glue_dir: Path | None, quick: bool) -> tuple[Bench, str]:
    """Data and models in `folder`; and what the sentences are."""
    divisor = 16 if quick else 1
    text = write_task(folder / "glue", glue_dir, divisor)
    bench = Bench(folder, shape, -(-SPLITS["train"] // (divisor * BATCH)))
    bench.write_models()
    return bench, text


def measure(options: argparse.Namespace, report: Report) -> None:
    """Fine-tuning in every precision, then what is done with the model."""
    turn, shape = (1, QUICK) if options.quick else (10, SHAPE)
    for precision in precisions():
        everyone = contenders(precision, turn)
        with tempfile.TemporaryDirectory() as folder:
            bench, text = prepare_bench(Path(folder), shape, options.glue_dir, options.quick)
            found = take_turns(bench, everyone, options.rounds)
            rows = {who.name: case_row(bench, who, found[who.name]) for who in everyone}
            ours, equal, default = (rows[name]["whole_seconds"] for name in (ACN, EQUAL, BY_DEFAULT))
            report.goals += [
                finetune_losses(precision).measured(difference(found)),
                finetune_equal(precision).measured(equal / ours),
                finetune_by_default(precision).measured(default / ours),
            ]
            report.results["text"] = text
            report.results.setdefault("finetuning", []).extend(rows.values())
            show(report, f"{precision}: {shape.layers} layers x {shape.hidden}, {text}", rows)
            twin = next(bench.output(who) for who in everyone if who.name == RESIDUAL)
            read(Reading.of(bench, f"{twin}/{TASK}", precision, bench.folder), precision, report, options.rounds)
    if len(precisions()) == 1:
        report.show("Left out", ["rows", "why"], [["bf16", "this processor has no bf16 instructions"]])


def case_row(bench: Bench, contender: Contender, found: Found) -> dict[str, Any]:
    """What a contender's turns come to."""
    first, *turns, last = found.seconds
    step = statistics.fmean(turns) / contender.turn  # of a whole epoch: batches differ in length
    return {
        "case": contender.name, "precision": contender.precision, "turn_seconds": turns, "around_seconds": first + last,
        "step_seconds": step, "whole_seconds": first + last + step * (bench.whole - 1),
    }  # fmt: skip


def difference(found: dict[str, Found]) -> float:
    """The largest relative difference of the residual twin's losses from Trainer's on the same batches."""
    ours, theirs = found[RESIDUAL].losses, found[EQUAL].losses
    return max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))


def show(report: Report, title: str, rows: dict[str, dict[str, Any]]) -> None:
    """The table of a precision."""
    equal, by_default = (rows[name]["whole_seconds"] for name in (EQUAL, BY_DEFAULT))
    lines = [
        [
            case,
            f"{1000 * line['step_seconds']:,.0f}",
            f"{line['around_seconds']:.1f}",
            f"{line['whole_seconds']:,.0f}",
            f"{equal / line['whole_seconds']:.2f}",
            f"{by_default / line['whole_seconds']:.2f}",
        ]
        for case, line in rows.items()
    ]
    columns = ["case", "ms a step", "s around", "s for 3 epochs", "x equal", "x run_glue.py by default"]
    report.show(title, columns, lines)


def read(reading: Reading, precision: str, report: Report, rounds: int) -> None:
    """The sweep and the study of the residual twin and of BERT with the same weights, in half as many rounds."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    rounds = max(1, rounds // 2)
    reading.check()
    sweeps = interleave({"ours": reading.our_sweep, "theirs": reading.their_sweep}, rounds, warmup=1, clock=clock)
    studies = interleave({"ours": reading.our_study, "theirs": reading.their_study}, rounds, warmup=1, clock=clock)
    lines = []
    for what, times, aim in (
        ("every depth of a model", sweeps, sweep_by_cuts),
        ("noise study, 2 kinds x 2 strengths", studies, study_by_hand),
    ):
        faster = ratio(times["theirs"], times["ours"])
        report.goals.append(aim(precision).measured(faster))
        lines.append([what, *(f"{times[who].median:.2f}" for who in ("ours", "theirs")), f"{faster:.2f}"])
        report.results.setdefault("reading", []).append(
            {"what": what, "precision": precision, "seconds": {who: timing.seconds for who, timing in times.items()}}
        )
    report.show(f"{precision}: {len(reading.data)} examples, seconds", ["", "ours", "BERT by hand", "ratio"], lines)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where SST-2 is."""
    known = os.environ.get("GLUE_DIR")
    parser.add_argument(
        "--glue_dir", type=Path, default=None if known is None else Path(known),
        help="folder with sst2/train.parquet and validation.parquet (default: GLUE_DIR; else random words)",
    )  # fmt: skip


BENCHMARK = Benchmark("finetune", __doc__, measure, rounds=3, add_options=add_options)

if __name__ == "__main__":
    datasets.disable_progress_bars()
    sys.exit(BENCHMARK.main())
