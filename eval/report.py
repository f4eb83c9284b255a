"""One page, one table and one figure per task from the results of any number of fine-tunings."""

import base64
import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import EvalError
from .figures import COLOURS, OTHER_COLOUR, DepthCurve, save_depth_figure
from .files import new_folder, read_json
from .report_page import render_page
from .results import RESULTS_FILE, Results, check_results, is_cut_model, size_mb
from .tasks import TASKS

PAGE_FILE, TABLE_FILE, FIGURES = "index.html", "results.csv", "figures"


@dataclass
class ReportConfig:
    """Tables and figures from the results of one or several fine-tunings."""

    results: list[str]
    """Folders to search for results.json (OUTPUT of `acn glue`, or a folder above several)."""
    output: str
    """Folder to write index.html, results.csv and figures/TASK.png into; an earlier report there is replaced."""

    def problems(self) -> list[str]:
        """Everything that is wrong with the values, each with its mend."""
        problems = [] if self.results else ["results is empty: name at least one folder that `acn glue` wrote"]
        absent = [folder for folder in self.results if not Path(folder).is_dir()]
        problems += [f"results: {folder} is not a folder: give one that `acn glue` wrote" for folder in absent]
        return problems


def _find_results(folders: list[str]) -> dict[Path, Results]:
    """Every fine-tuning below `folders`, each once, by the folder it is in."""
    found: dict[Path, Results] = {}
    seen: set[Path] = set()
    for folder in folders:
        for path in sorted(Path(folder).rglob(RESULTS_FILE)):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if hidden or path.resolve() in seen:  # hidden: a fine-tuning that is being written
                continue
            seen.add(path.resolve())
            value = read_json(path)
            if not is_cut_model(value):
                found[path.parent] = check_results(value, path)
    if not found:
        raise EvalError(f"results: no {RESULTS_FILE} of a fine-tuning below {', '.join(folders)}: run `acn glue` first")
    return found


def _run_labels(folders: list[Path]) -> dict[Path, str]:
    """A short name for the run each task folder belongs to: its parent's name, or the path where names collide."""
    runs = {folder: folder.resolve().parent for folder in folders}
    uses = Counter(run.name for run in set(runs.values()))
    return {folder: run.name if uses[run.name] == 1 else str(folder.parent) for folder, run in runs.items()}


def _row(folder: Path, run: str, results: Results) -> dict[str, Any]:
    cut, params, flops = results["cut_depth"], results["params_by_depth"], results["flops_by_depth"]
    return {
        "task": results["task"],
        "run": run,
        "connectivity": results["connectivity"],
        "seed": results["seed"],
        "metric": results["metric"],
        "full_score": results["full_score"],
        "tolerance": results["tolerance"],
        "layers": len(params) - 1,
        "cut_depth": cut,
        "cut_score": results["depth_scores"][cut],
        "full_params": params[-1],
        "cut_params": params[cut],
        "full_gflops": flops[-1] / 1e9,
        "cut_gflops": flops[cut] / 1e9,
        "seq_length": results.get("seq_length"),
        "full_mb": size_mb(params[-1]),
        "cut_mb": size_mb(params[cut]),
        "depth_scores": " ".join(map(str, results["depth_scores"])),
        "path": str(folder),
    }


def _by_task(found: dict[Path, Results]) -> dict[str, list[Path]]:
    """The folders of each task: GLUE's tasks in its order, then the others; ACN first among runs."""
    order = {name: i for i, name in enumerate((*COLOURS, *TASKS))}
    groups: dict[str, list[Path]] = {}
    for folder, results in found.items():
        groups.setdefault(results["task"], []).append(folder)
    for task, folders in groups.items():
        if len(metrics := {found[folder]["metric"] for folder in folders}) > 1:
            raise EvalError(
                f"results: {task} is scored by {' and '.join(sorted(metrics))}: report these runs separately"
            )
        folders.sort(key=lambda folder: (order.get(found[folder]["connectivity"], len(order)), str(folder)))
    return {task: groups[task] for task in sorted(groups, key=lambda task: (order.get(task, len(order)), task))}


def _check_output(output: Path) -> None:
    """Raise `EvalError` if `output` holds anything but an earlier report."""
    if not output.exists() and not output.is_symlink():
        return
    mend = "choose another --output, or remove it"
    if output.is_symlink() or not output.is_dir():
        raise EvalError(f"output: {output} is not a folder: {mend}")
    ours = {output / PAGE_FILE, output / TABLE_FILE, output / FIGURES}
    foreign = [path for path in output.iterdir() if path not in ours]
    if (output / FIGURES).is_dir():
        foreign += [path for path in (output / FIGURES).iterdir() if path.suffix != ".png"]
    if foreign or not all(path.exists() for path in ours):
        what = f"holds {sorted(foreign)[0].name}" if foreign else "exists and is not an earlier report"
        raise EvalError(f"output: {output} {what}: {mend}")


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write_report(folder: Path, found: dict[Path, Results]) -> None:
    labels = _run_labels(list(found))
    tasks, rows = [], []
    (folder / FIGURES).mkdir()
    for task, folders in _by_task(found).items():
        figure = folder / FIGURES / f"{task}.png"
        curves = [DepthCurve.from_results(found[f], f"{labels[f]} ({found[f]['connectivity']})") for f in folders]
        save_depth_figure(figure, curves, task)
        task_rows = [_row(f, labels[f], found[f]) for f in folders]
        rows += task_rows
        shown = [row | {"colour": COLOURS.get(row["connectivity"], OTHER_COLOUR)} for row in task_rows]
        image = f"data:image/png;base64,{base64.b64encode(figure.read_bytes()).decode()}"
        tasks.append({"name": task, "metric": task_rows[0]["metric"], "image": image, "rows": shown})
    (folder / PAGE_FILE).write_text(render_page(tasks, len(found)), encoding="utf-8")
    _write_table(folder / TABLE_FILE, rows)


def report(config: ReportConfig) -> Path:
    """Write OUTPUT/index.html (self-contained), OUTPUT/results.csv and OUTPUT/figures/TASK.png; returns the page.

    Models that `compress` cut are left out: their curve is their source's.

    Raises:
        EvalError: a folder is absent or has no results, a results.json is broken, two runs score a task differently,
            or OUTPUT holds anything but an earlier report.
    """
    if problems := config.problems():
        raise EvalError("\n".join(problems))
    output = Path(config.output)
    _check_output(output)
    found = _find_results(config.results)
    with new_folder(output, replace=True) as aside:
        _write_report(aside, found)
    return output / PAGE_FILE
