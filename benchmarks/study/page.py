"""docs/results.md and its figures, from committed claim.json files: conversions first, then twins.

    python -m benchmarks.study.page
    python -m benchmarks.study.page runs/claim/claim.json --output runs/claim/page/results.md

Figures go to OUTPUT's folder, figures/results/NAME/, NAME being that of the JSON file.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from eval.report import depth_table, paper_table
from launch import LaunchError, reported

from . import comparisons, tables, verdicts
from .claim import Claim
from .conversion import page as conversion
from .conversion.rivals import is_rivals
from .figures import Picture, pretraining_pictures, study_pictures, task_pictures
from .plan import KINDS
from .tables import shown

COMMITTED = Path(__file__).parents[1] / "results"
PAGE = Path(__file__).parents[2] / "docs" / "results.md"
OPENING = COMMITTED / "opening.md"
"""What the committed studies show together, by hand: the page of these begins with it."""
FIGURES = Path("figures") / "results"

GAP_NOTE = """Tokens are those of the first validation at or below the loss, interpolated. The faster of two runs passes
the slower one's final loss while its learning rate is still high; with a schedule that ended there it would have needed
fewer tokens, so that a gap is understated. Where twins were also trained on more tokens, with a schedule as long, the
slower one of more is compared with the faster one of fewer above, if their final losses are equal.
"""

TOLD = ("failed", "stopped")

TITLE = "# Results\n"
TWINS = "## From nothing: ACN against its residual twin\n"
INTRODUCTION = """## How this page is made

Written by `python -m benchmarks.study.page` from `benchmarks/results/convert-*.json` and `claim-*.json`, which have
every raw score; how a study is run is told by `python -m benchmarks.study --help`. Arms differ in connectivity and in
how they start (*plain*: weights from normal(0.02); *identity*: the identity added to the query, key, value and output
projections; others: `benchmarks/study/budgets.py`), and in nothing else but the learning rate, where a budget has a
grid to choose each arm's from. Sentences about numbers follow from them by the rules in `benchmarks/study/verdicts.py`
and, of conversions, in `conversion/page.py`; only the remarks and what was seen of the twins are written by hand.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="*", type=Path, help="claim.json files; left out, the committed ones")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page (docs/results.md)")
    args = parser.parse_args(argv)
    return reported("study.page", lambda: _write(args.claims or committed(), args.output))


def committed() -> list[Path]:
    """The files that docs/results.md is made of."""
    return [path for kind in ("rivals", "convert", "claim") for path in sorted(COMMITTED.glob(f"{kind}-*.json"))]


def _write(paths: Sequence[Path], output: Path) -> int:
    if not paths:
        raise LaunchError(f"claims: {COMMITTED} has no claim-*.json: run a study and name its claim.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    claims = [Claim.read(path) for path in paths]
    for claim in claims:
        folder = output.parent / FIGURES / claim.name
        folder.mkdir(parents=True, exist_ok=True)
        for picture in pictures(claim):
            picture.draw(folder / picture.file)
    opening = OPENING.read_text(encoding="utf-8") if paths == committed() else ""
    output.write_text(render(claims, opening), encoding="utf-8")
    print(f"{output}")
    return 0


def render(claims: Sequence[Claim], opening: str = "") -> str:
    """The whole page in Markdown, with what is said by hand at its head."""
    converted = [line for claim in claims if conversion.is_conversion(claim) for line in _conversion(claim)]
    others = [line for claim in claims if not conversion.is_conversion(claim) for line in _claim(claim)]
    return "\n".join([TITLE, *converted, *([TWINS, opening] if opening else []), INTRODUCTION, *others]).rstrip() + "\n"


def pictures(claim: Claim) -> list[Picture]:
    """Every figure of a claim."""
    if conversion.is_conversion(claim):
        return [*conversion.pictures(claim)]
    of_tasks = [
        picture for task in claim.tasks for longer in (False, True) for picture in task_pictures(claim, task, longer)
    ]
    return [*pretraining_pictures(claim), *of_tasks, *study_pictures(claim)]


def _claim(claim: Claim) -> Iterator[str]:
    """A study of twins: its part of the page."""
    budget = claim.budget
    yield f"## Budget {budget['name']}\n"
    variants = dict.fromkeys(job["variant"] for job in claim.jobs if "variant" in job)
    tasks = dict.fromkeys(job["task"] for job in claim.jobs if job["task"])
    options = f"--variants {','.join(variants)} --tasks {','.join(tasks)}"
    if (precision := budget.get("precision", "auto")) != "auto":
        options += f" --precision {precision}"
    yield (
        f"`python -m benchmarks.study --budget {budget['name']} {options}`: "
        f"{budget['layers']} layers x {budget['hidden']}, "
        f"sequences of {budget['seq_length']}, {budget['tokens'] / 1e6:g}M tokens for each pretraining. "
        f"{_machine(claim)}.\n"
    )
    yield "### In short\n"
    yield from (f"- {sentence}" for sentence in comparisons.in_short(claim))
    yield ""
    if claim.remarks:
        yield f"### Remarks, by hand\n\n{claim.remarks}"
    yield from _what_ran(claim)
    yield from _pretraining(claim)
    for task in claim.tasks:
        yield from _task(claim, task)
    yield from _studies(claim)


def _conversion(claim: Claim) -> Iterator[str]:
    """A conversion's part of the page."""
    title = "The rivals in one table" if is_rivals(claim) else "From a BERT to an ACN"
    yield f"## {title}: budget {claim.budget['name']}\n"
    yield (
        f"`python -m benchmarks.study --budget {claim.budget['name']} --source MODEL --glue_dir GLUE`: "
        f"{claim.budget['model']}, {_machine(claim)}.\n"
    )
    yield from _images(claim, conversion.pictures(claim))
    yield from conversion.section(claim)


def _machine(claim: Claim) -> str:
    """What a study was measured on, when and at which commit."""
    machine = claim.machine
    where = machine.get("gpu") or f"{machine['cpu_cores']} CPU cores, {machine['processor']}"
    return f"{where}, torch {machine['torch']}, {machine['date']}, commit {str(machine['commit'])[:10]}"


def _what_ran(claim: Claim) -> Iterator[str]:
    yield "### What ran\n"
    yield from shown(tables.what_ran(claim))
    yield from (f"- {job['name']}: {job['status']}: {job['why']}" for job in claim.jobs if job["status"] in TOLD)
    for kind in KINDS:
        names = [job["name"] for job in claim.jobs if (job["kind"], job["status"]) == (kind, "not run")]
        if names:
            others = f" and {len(names) - 1} more of the plan after it" if len(names) > 1 else ""
            yield f"- Not run: {names[0]}{others}."
    yield ""


def _pretraining(claim: Claim) -> Iterator[str]:
    if not claim.arms:
        return
    yield "### Pretraining\n"
    yield from shown(tables.rates(claim))
    for arm in claim.arms:
        tried = [job["tried_rate"] for job in claim.done("rate", **vars(arm))]
        if claim.runs(arm) and (caution := verdicts.rate_at_the_edge(arm.name, claim.runs(arm)[0].rate, tried)):
            yield f"- {caution}"
    yield ""
    yield from shown(tables.pretraining(claim))
    for arm in claim.arms:
        accuracies = [run.result["validation_accuracy"] for run in claim.runs(arm)]
        if accuracies and claim.corpus is not None:
            yield f"- {verdicts.masked_accuracy(arm.name, accuracies, claim.corpus['baseline_accuracy'])}"
    yield ""
    if (table := tables.equal_loss(claim)) is not None:
        yield from shown(table)
        yield GAP_NOTE
    yield from _images(claim, pretraining_pictures(claim))


def _task(claim: Claim, task: str) -> Iterator[str]:
    """A task at equal tokens, then with the longer pretrainings."""
    runs = tables.task_runs(claim, task, [(arm, 1) for arm in claim.arms])
    yield f"### {task}\n"
    if runs:
        yield (
            f"At equal tokens. A constant answer scores {runs[0].results.majority_score:.4f}. A run's seed is 1000 "
            "times that of its pretraining plus that of its fine-tuning.\n"
        )
        yield from shown(paper_table(runs))
        yield from shown(depth_table(task, runs))
        yield from _images(claim, task_pictures(claim, task))
    longer = [(side.arm, side.longer) for side in comparisons.sides(claim) if side.longer > 1]
    if more := tables.task_runs(claim, task, longer):
        yield "After pretraining on more tokens:\n"
        yield from shown(paper_table(more))
        yield from shown(depth_table(task, more))
        yield from _images(claim, task_pictures(claim, task, longer=True))


def _studies(claim: Claim) -> Iterator[str]:
    found = tables.studies(claim)
    if not found:
        return
    yield "### Noise, pruning, early exit\n"
    for table in found:
        yield from shown(table)
    yield from _images(claim, study_pictures(claim))


def _images(claim: Claim, found: Iterator[Picture]) -> Iterator[str]:
    for picture in found:
        yield f"![{picture.caption}]({(FIGURES / claim.name / picture.file).as_posix()})\n\n*{picture.caption}.*\n"


if __name__ == "__main__":
    sys.exit(main())
