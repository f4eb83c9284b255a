"""Writes docs/performance.md from the JSON files in benchmarks/results.

    python -m benchmarks.page

A file there is what `--json` of the suite, of one benchmark or of benchmarks/gpu.sh wrote; claim-*.json and
convert-*.json are studies, of which docs/results.md tells. Of a figure that several of them have, the newest is shown,
held to what is aimed at now.
`--quick` runs measure nothing and are refused.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline import write_text

from .aims import Aim, all_aims
from .gpu import details
from .page_top import top
from .timing import table

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
PAGE = FOLDER.parent / "docs" / "performance.md"

HEAD = """# Performance

This page is written by `python -m benchmarks.page` from the measurements committed in
[benchmarks/results](../benchmarks/results); change those, not this. `python -m benchmarks --json
benchmarks/results/cpu.json` measures everything but `faults` on a CPU, `python -m benchmarks.NAME --json FILE` one
benchmark, and `bash benchmarks/gpu.sh` a GPU. Cases of a comparison run in turn, and a ratio is the median of the
rounds' ratios. Optimisations, what was expected of them and what they did are in
[benchmarks/NOTES.md](../benchmarks/NOTES.md)."""

IN_SHORT = """The same data and sizes on the same machine, in turns: 1 is as fast as the other way, 2 twice as fast.
What each figure means, and how it was measured, stands below under its benchmark."""

Record = dict[str, Any]


def records(results: Path) -> Iterator[Record]:
    """Every benchmark's record in the files of `results`, oldest first.

    Raises:
        ValueError: a file has figures of a quick run.
    """
    found: list[Record] = []
    for path in sorted(set(results.glob("*.json")) - {*results.glob("claim-*.json"), *results.glob("convert-*.json")}):
        content = json.loads(path.read_text())
        for record in content["benchmarks"].values() if "benchmarks" in content else [content]:
            if record["quick"]:
                raise ValueError(f"{path}: {record['benchmark']} was run with --quick, which measures nothing")
            found.append(record | {"file": path.name})
    yield from sorted(found, key=lambda record: record["machine"]["date"])


def page(results: Path) -> str:
    """The text of the page."""
    newest: dict[str, dict[str, tuple[Record, dict[str, Any]]]] = {}
    aims = all_aims()
    now = {(name, aim.what): aim for name, listed in aims.items() for aim in listed}
    sections: dict[str, Record] = {}
    tables: dict[str, list[Record]] = {}
    for record in records(results):
        if "sections" in record:
            sections[record["benchmark"]] = record
        if "tables" in record:
            tables[record["benchmark"]] = record["tables"]
        for goal in record["goals"]:
            if (aim := now.get((record["benchmark"], goal["what"]))) is not None:  # which may have been raised since
                held = aim.measured(goal["value"])
                goal |= {"bound": held.bound, "met": held.met}
            newest.setdefault(record["benchmark"], {})[goal["what"]] = (record, goal)
    parts = [HEAD, f"## In short\n\n{IN_SHORT}", top(newest, device)]
    for name in sorted({*newest, *aims}):
        parts.append(f"## {name}\n\n{summary(name)}")
        parts += measured(newest.get(name, {}))
        if name in sections:
            parts.append(details(sections[name]))
        parts += [f"{shown['title']}:\n\n{table(shown['columns'], shown['rows'])}" for shown in tables.get(name, [])]
        if missing := [aim for aim in aims.get(name, []) if aim.what not in newest.get(name, {})]:
            parts.append(f"**Not yet measured:**\n\n{table(['figure', 'goal'], map(_open, missing))}")
    return "\n\n".join(parts) + "\n"


def measured(figures: dict[str, tuple[Record, dict[str, Any]]]) -> Iterator[str]:
    """A line about each run and the table of its figures."""
    by_file: dict[str, list[tuple[Record, dict[str, Any]]]] = {}
    for record, goal in figures.values():
        by_file.setdefault(record["file"], []).append((record, goal))
    for file, pairs in by_file.items():
        rows = [[g["what"], _bound(g["bound"], g["at_least"]), f"{g['value']:.3g}", "yes" if g["met"] else "**no**"]
                for _, g in pairs]  # fmt: skip
        yield f"{described(pairs[0][0]['machine'])} ([{file}](../benchmarks/results/{file})):"
        yield table(["figure", "goal", "measured", "met"], rows)


def described(machine: dict[str, Any]) -> str:
    """Device, versions and date in one line."""
    versions = [f"{name} {machine[name]}" for name in ("python", "torch", "transformers", "deepspeed")
                if machine.get(name)]  # fmt: skip
    return ", ".join([device(machine), *versions, machine["date"]])


def device(machine: dict[str, Any]) -> str:
    """The GPU, or the processor as far as the record has it, with its cores."""
    if "gpu" in machine:
        return machine["gpu"]
    cores = f"{machine['cpu_cores']} CPU cores"
    return f"{cores} ({machine['processor']})" if "processor" in machine else cores


def summary(name: str) -> str:
    """The first paragraph of the benchmark's docstring."""
    text = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text()))
    assert text is not None, name
    return text.split("\n\n")[0].replace("\n", " ")


def _open(aim: Aim) -> list[str]:
    return [aim.what, _bound(aim.bound, aim.at_least)]


def _bound(bound: float, at_least: bool) -> str:
    return f"{'≥' if at_least else '≤'} {bound:g}"


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(RESULTS))
    print(PAGE)


if __name__ == "__main__":
    main()
