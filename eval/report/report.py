"""One page, tables and figures from any number of fine-tunings and studies of any number of models."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data_pipeline import OutputLock, hide_credentials, new_folder

from ..chance import AT_CHANCE, is_at_chance
from ..errors import EvalError
from ..figures import COLOURS, OTHER_COLOUR, DepthCurve, save_depth_figure, seeds_curve
from ..files import read_json
from ..results import CONTENDERS_FOLDER, RESULTS_FILE, TaskResults, check_files, is_cut_record, size_mb
from ..tasks import GLUE_TASKS
from .config import ReportConfig
from .headline import first_sentence
from .images import save_image
from .origin import Origin, OriginOf, origin_of_file, summary
from .sections import Run, depth_table, glue_table, paper_table, recut_table, study_table, unlike_precision
from .study_figures import NamedStudy, save_comparison
from .study_file import STUDY_FILE, StudyResults, read_study
from .tables import write_csv, write_tables

PAGE_FILE, TABLE_FILE, FIGURES, TABLES = "index.html", "results.csv", "figures", "tables"


def _found(folders: list[str], name: str) -> list[Path]:
    """Every file of this name below `folders`, once; not those in folders that are being written, nor what a study has
    made for itself, unless its folder is one of `folders`."""
    found: dict[Path, Path] = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob(name)):
            below = path.relative_to(folder)
            inner = [Path(folder, parent) for parent in below.parents[:-1]]
            if not any(part.startswith(".") for part in below.parts) and not any(map(_is_of_a_study, inner)):
                found.setdefault(path.resolve(), path)
    return list(found.values())


def _is_of_a_study(folder: Path) -> bool:
    """Whether a folder holds the fine-tunings that the study beside it has made."""
    return folder.name == CONTENDERS_FOLDER and any(folder.parent.glob(f"*/{STUDY_FILE}"))


def _find_results(folders: list[str]) -> dict[Path, TaskResults]:
    """Every fine-tuning below `folders`, each once, by the folder it is in; the seeds of a task are part of it.

    Those that a study has made for itself are told of by its study.json.
    """
    found = {path.parent: read_json(path) for path in _found(folders, RESULTS_FILE)}
    models = {folder: value for folder, value in found.items() if not is_cut_record(value)}
    whole = {folder.resolve() for folder in models}
    results = {
        folder: TaskResults.from_json(value, folder / RESULTS_FILE)
        for folder, value in models.items()
        if not whole & set(folder.resolve().parents)
    }
    for folder, one in results.items():
        check_files(folder, one, all_there=False)  # a report needs no weights, but no others may lie beside the scores
    return results


def _run_labels(folders: list[Path]) -> dict[Path, str]:
    """A short name for the run each task folder belongs to: its parent's name, or the path where names collide."""
    runs = {folder: folder.resolve().parent for folder in folders}
    uses = Counter(run.name for run in set(runs.values()))
    return {folder: run.name if uses[run.name] == 1 else str(folder.parent) for folder, run in runs.items()}


def _row(folder: Path, run: str, results: TaskResults) -> dict[str, Any]:
    cut, params, flops = results.cut_depth, results.params_by_depth, results.flops_by_depth
    return {
        "task": results.task,
        "run": run,
        "connectivity": results.connectivity,
        "precision": results.precision,
        "seed": results.seed,
        "metric": results.metric,
        "full_score": results.full_score,
        "tolerance": results.tolerance,
        "layers": len(params) - 1,
        "cut_depth": cut,
        "at_chance": is_at_chance(results),
        "cut_score": results.depth_scores[cut],
        "full_params": params[-1],
        "cut_params": params[cut],
        "full_gflops": flops[-1] / 1e9,
        "cut_gflops": flops[cut] / 1e9,
        "seq_length": results.seq_length,
        "full_mb": size_mb(params[-1]),
        "cut_mb": size_mb(params[cut]),
        "depth_scores": " ".join(map(str, results.depth_scores)),
        "path": str(folder),
    }


def _by_task(found: dict[Path, TaskResults]) -> dict[str, list[Path]]:
    """The folders of each task: GLUE's tasks in its order, then the others; ACN first among runs."""
    order = {name: i for i, name in enumerate((*COLOURS, *GLUE_TASKS))}
    groups: dict[str, list[Path]] = {}
    for folder, results in found.items():
        groups.setdefault(results.task, []).append(folder)
    for task, folders in groups.items():
        if len(metrics := {found[folder].metric for folder in folders}) > 1:
            raise EvalError(
                f"results: {task} is scored by {' and '.join(sorted(metrics))}: report these runs separately"
            )
        folders.sort(key=lambda folder: (order.get(found[folder].connectivity, len(order)), str(folder)))
    return {task: groups[task] for task in sorted(groups, key=lambda task: (order.get(task, len(order)), task))}


def _check_output(output: Path) -> None:
    """Raise `EvalError` if `output` holds anything but an earlier report."""
    if not output.exists() and not output.is_symlink():
        return
    fix = "choose another --output, or remove it"
    if output.is_symlink() or not output.is_dir():
        raise EvalError(f"output: {output} is not a folder: {fix}")
    ours = {output / PAGE_FILE, output / TABLE_FILE, output / FIGURES, output / TABLES}
    foreign = [path for path in output.iterdir() if path not in ours]
    for folder, suffixes in ((output / FIGURES, (".png", ".svg")), (output / TABLES, (".csv", ".tex"))):
        if folder.is_dir():
            foreign += [path for path in folder.iterdir() if path.suffix not in suffixes]
    if foreign or not all(path.exists() for path in (output / PAGE_FILE, output / FIGURES)):
        reason = f"holds {sorted(foreign)[0].name}" if foreign else "exists and is not an earlier report"
        raise EvalError(f"output: {output} {reason}: {fix}")


def _save_depths(curves: list[DepthCurve], task: str, path: Path, width: float) -> bool:
    return save_depth_figure(path, curves, task, width)


def _save_study(group: list[NamedStudy], title: str, path: Path, width: float) -> bool:
    return save_comparison(path, group, title, width)


def _task_sections(folder: Path, found: dict[Path, TaskResults], labels: dict[Path, str]) -> list[dict[str, Any]]:
    """A figure and the rows of each task."""
    sections = []
    for task, folders in _by_task(found).items():
        curves = [seeds_curve(found[f], f"{labels[f]} ({found[f].connectivity})") for f in folders]
        image = save_image(folder / FIGURES, task, partial(_save_depths, curves, task))
        runs = [Run(f, labels[f], found[f]) for f in folders]
        rows = [_row(f, labels[f], found[f]) for f in folders]
        tables = [table for table in (depth_table(task, runs), recut_table(task, runs)) if table is not None]
        sections.append(
            {"name": task, "metric": rows[0]["metric"], "headline": first_sentence(runs), "image": image, "rows": rows,
             "runs": runs, "tables": tables}
        )  # fmt: skip
    return sections


def _study_sections(folder: Path, studies: list[NamedStudy]) -> list[dict[str, Any]]:
    """A figure, a table and the sources of each study, several models together."""
    order = {name: i for i, name in enumerate(COLOURS)}
    groups: dict[tuple[str, str], list[NamedStudy]] = {}
    for study, run in studies:
        groups.setdefault((study.study, study.task), []).append((study, run))
    sections = []
    for (name, task), group in groups.items():
        group.sort(key=lambda study: order.get(study[0].connectivity, len(order)))
        stem = re.sub(r"[^\w.-]+", "-", f"{name}-{task}" if sum(key[0] == name for key in groups) > 1 else name)
        section: dict[str, Any] = {"name": name, "stem": stem, "task": task, "image": None, "studies": group}
        if any(study.curves for study, _ in group):
            draw = partial(_save_study, group, f"{name}: {task}")
            section["image"] = save_image(folder / FIGURES, f"study-{stem}", draw)
        section["unlike"] = unlike_precision([(run, study.precision) for study, run in group])
        table = study_table(stem, group)
        section["tables"] = [table] if table is not None else []
        sections.append(section)
    return sections


@dataclass(frozen=True)
class _Found:
    """What a report is made of, and where it comes from."""

    results: dict[Path, TaskResults]
    studies: list[StudyResults]
    origins: dict[Path, Origin]
    """By the folder of the results or of the study."""

    def origin(self) -> str:
        """Dates, commits, seeds and machines of all of it, in a line."""
        seeds = {seed for one in self.results.values() for seed in one.all_seeds}
        return summary(list(self.origins.values()), seeds.union(*(study.seeds for study in self.studies)))


def _render_page(**values: Any) -> str:
    """The page, one file that needs nothing else, from page.html beside this module."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("page.html").render(
        palette=COLOURS, other_colour=OTHER_COLOUR, at_chance=AT_CHANCE, **values
    )
    return hide_credentials(page)


def _write_report(folder: Path, found: _Found, made: Origin) -> None:
    (folder / FIGURES).mkdir()
    tasks = _task_sections(folder, found.results, _run_labels(list(found.results)))
    study_labels = _run_labels([study.path for study in found.studies])
    shown = _study_sections(folder, [(study, study_labels[study.path]) for study in found.studies])
    runs = [run for task in tasks for run in task["runs"]]
    overview = [table for table in (glue_table(runs), paper_table(runs)) if table is not None]
    tables = [*overview, *(table for section in (*tasks, *shown) for table in section["tables"])]
    page = _render_page(
        tasks=tasks, studies=shown, overview=overview, runs=len(found.results), made=made, origins=found.origins,
        origin=found.origin(),
    )  # fmt: skip
    (folder / PAGE_FILE).write_text(page, encoding="utf-8")
    rows = [row for task in tasks for row in task["rows"]]
    if rows:
        write_csv(folder / TABLE_FILE, list(rows[0]), [list(row.values()) for row in rows])
    write_tables(folder / TABLES, tables)


def write_report(
    config: ReportConfig,
    made: Origin | None = None,
    recorded: OriginOf = lambda folder: None,
) -> Path:
    """Write OUTPUT/index.html (self-contained), results.csv, figures/ (PNG and SVG) and tables/ (CSV and LaTeX).

    Everything below the folders is merged: fine-tunings (their seeds together) and studies of any number of models.
    Models that `compress` cut are left out: their curve is their source's.

    Args:
        made: when and with what the report itself is made, as far as the page is to say it.
        recorded: what is known of how the numbers in a run's folder were made.

    Returns:
        The page.

    Raises:
        EvalError: a folder is absent or has no results, a results.json or study.json is broken, two runs score a task
            differently, or OUTPUT holds anything but an earlier report.
        DataError: OUTPUT is being written by another job, or cannot be written.
    """
    if problems := config.problems():
        raise EvalError(*problems)
    output = Path(config.output)
    with OutputLock(output, beside=True):
        _report(config, output, made or Origin(), recorded)
    return output / PAGE_FILE


def _report(config: ReportConfig, output: Path, made: Origin, recorded: OriginOf) -> None:
    _check_output(output)
    results = _find_results(config.results)
    studies = [read_study(path) for path in _found(config.results, STUDY_FILE)]
    if not results and not studies:
        where = ", ".join(config.results)
        raise EvalError(
            f"results: no {RESULTS_FILE} of a fine-tuning and no {STUDY_FILE} below {where}: run `acn glue` first"
        )
    files = {folder: folder / RESULTS_FILE for folder in results} | {one.path: one.path / STUDY_FILE for one in studies}
    origins = {folder: origin_of_file(file, recorded) for folder, file in files.items()}
    with new_folder(output, replace=True) as aside:
        _write_report(aside, _Found(results, studies, origins), made)
        _check_output(output)  # again, for it is replaced now
