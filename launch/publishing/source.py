"""What MODEL is, and which run and results belong to it: by its place, by what its files name, and by its weights."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from data_pipeline import DataError, Problem, file_sha256, find_model, path_inside
from eval import (
    RESULTS_FILE,
    CutResults,
    EvalError,
    TaskResults,
    find_cut,
    find_recorded,
    find_results,
    load_tokenizer,
    read_json,
    read_model_config,
    read_results,
)
from modeling import AcnConfig, model_type_of
from pretrain.checkpoints import MARKER, step_folders, step_of

from ..config_file import RUN_CONFIG
from .config import PublishConfig

Kind = Literal["pretrained", "finetuned", "cut", "dataset"]
MANIFEST, TOKENIZER = "manifest.json", "tokenizer.json"


@dataclass
class Source:
    """What is to be published, and where the facts of its card are."""

    kind: Kind
    folder: Path
    """The model's (or corpus's) own folder."""
    cut: CutResults | None = None
    """Of a model that `acn compress` wrote."""
    task_folder: Path | None = None
    """TASK folder with the sweep over the depths: a fine-tuned model's own, or that a cut model came from."""
    run: Path | None = None
    """The pretraining run."""
    whole_run: bool = False
    """The weights, or those that were fine-tuned, are the ones `run` ended with."""
    suite: list[Path] = field(default_factory=list)
    """TASK folders for the table of results."""
    layers: int | None = None
    """Of a model whose configuration can be read."""
    hub_name: str | None = None
    """OWNER/NAME of the model itself, where it was taken from the Hub."""
    convert: str | None = None
    """The model as it is to be found again, where it is of the BERT line: what is published is written from it."""
    notes: list[str] = field(default_factory=list)
    """What the user should know of what was looked for in vain."""

    @property
    def base_model(self) -> str | None:
        """OWNER/NAME of what this model was made from, as far as records know it."""
        record = self.cut or self.results
        if record is not None:
            return record.origin.hub_name if record.origin is not None else None
        return self.hub_name if self.convert is not None else None

    @property
    def results(self) -> TaskResults | None:
        """The sweep over the depths of this very model, or of the one it was cut from."""
        return read_results(self.task_folder) if self.task_folder is not None else None


def find_source(config: PublishConfig) -> tuple[Source | None, list[Problem]]:
    """What `config.model` is, and everything that is wrong with it, each with its fix."""
    try:
        found = find_model(config.model)
    except DataError as error:
        return None, error.problems
    path = found.path
    problems: list[Problem] = []
    if config.run is not None and not is_run(Path(config.run)):
        problems.append(Problem("run", config.run, f"is no run of `acn pretrain` (no {RUN_CONFIG} with a model in it)"))
    for suite in config.suites or []:
        if not list(_task_folders(suite)):
            problems.append(Problem("glue", suite, "holds no results of `acn glue`", "give OUTPUT of a suite"))
    source = _identify(path)
    if isinstance(source, Problem):
        return None, [source, *problems]
    if source.kind == "dataset":
        return source, problems + _options_of_models(config)
    source.hub_name = found.hub_name
    if _is_of_the_bert_line(source.folder):
        source.convert = found.name
    problems += _model_problems(source, config)
    if not problems:
        _find_run(source, config)
        _find_suite(source, config)
    return source, problems


def is_run(path: Path) -> bool:
    """Whether `path` is the folder of a pretraining run."""
    try:
        text = path_inside(path, RUN_CONFIG).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return any(line.startswith("global_batch_size:") for line in text.splitlines())


def _identify(path: Path) -> Source | Problem:
    """The source with its kind and folder, or why there is none."""
    if not path.is_dir():
        return Problem("model", path, "is no folder", "give a run, a model folder or a prepared corpus")
    if (path / MANIFEST).is_file():
        return Source("dataset", path)
    if is_run(path):
        if not (path / "model" / "config.json").is_file():
            return Problem(
                "model",
                path,
                "is a run without a model yet",
                f"let it finish, or `acn export {path} FOLDER` and publish FOLDER with --run {path}",
            )
        try:
            return Source("pretrained", path_inside(path, "model"))
        except DataError as error:  # a link to somebody else's model
            return error.problems[0]
    if not (path / "config.json").is_file():
        if tasks := [folder.name for folder in _task_folders(path)]:
            return Problem(
                "model", path, "is a suite", f"give one of its tasks, {path}/{tasks[0]} ({', '.join(tasks)})"
            )
        return Problem("model", path, "holds no model (config.json), run or corpus (manifest.json)")
    if _is_of_the_bert_line(path):
        return Source("pretrained", path)
    try:
        if (cut := find_cut(path)) is not None:
            return Source("cut", path, cut=cut)
        if find_results(path) is None:
            return Source("pretrained", path)
    except EvalError as error:
        return error.problems[0]
    return Source("finetuned", path, task_folder=path)


def _is_of_the_bert_line(folder: Path) -> bool:
    try:
        return model_type_of(folder) != AcnConfig.model_type
    except (OSError, ValueError):  # `read_model_config` says so
        return False


def _options_of_models(config: PublishConfig) -> list[Problem]:
    given = [name for name in ("depths", "steps", "run", "glue", "base_model") if getattr(config, name) is not None]
    given += ["cuts"] if config.cuts != "revisions" else []
    if not given:
        return []
    wrong = f"{', '.join(given)}: for models only, {config.model} is a corpus"
    return [Problem("", wrong=wrong, fix="leave out")]


def _model_problems(source: Source, config: PublishConfig) -> list[Problem]:
    """What a model folder lacks, and options that do not fit it."""
    folder, found = source.folder, []
    try:
        if not weight_files(folder) and source.convert is None:
            fix = "save the model there with save_pretrained"
            found.append(Problem(str(folder), wrong="has no weights (*.safetensors)", fix=fix))
    except DataError as error:
        found += error.problems
    try:
        model_config = read_model_config(str(folder))
        source.layers = model_config.num_hidden_layers
        if (folder / TOKENIZER).is_file() or source.convert is not None:
            load_tokenizer(str(folder), model_config)
        else:
            found.append(
                Problem(str(folder), wrong=f"has no tokenizer ({TOKENIZER})", fix="save it there with save_pretrained")
            )
    except EvalError as error:
        found += error.problems
    if not config.number_problems():
        found += _depth_problems(source, config) + _step_problems(Path(config.model), config)
    if config.base_model is not None and source.kind == "pretrained" and source.convert is None:
        found.append(Problem("base_model", wrong="is for a fine-tuned model", fix="leave it out"))
    return found


def _depth_problems(source: Source, config: PublishConfig) -> list[Problem]:
    wanted = config.wanted_depths
    if config.cuts == "siblings" and not wanted and (wanted is not None or source.kind != "finetuned"):
        return [Problem("cuts", "siblings", ": there is nothing to cut", "give --depths, or leave it out")]
    if source.layers is None or all(depth < source.layers for depth in wanted or []):
        return []
    deepest = source.layers - 1
    return [
        Problem(
            "depths", config.depths, fix=f"{source.folder} has {source.layers} layers, it can be cut at 0..{deepest}"
        )
    ]


def _step_problems(run: Path, config: PublishConfig) -> list[Problem]:
    if config.steps is None:
        return []
    if not is_run(run):
        return [Problem("steps", config.steps, f": {run} is not a run, which has checkpoints", "leave it out")]
    steps, wanted = steps_of(run), config.wanted_steps
    absent = [step for step in wanted if step not in steps] if wanted != "all" else []
    if not absent:
        return []
    known = ", ".join(map(str, steps)) or "none"
    return [
        Problem("steps", ",".join(map(str, absent)), fix=f"{run} has no model or checkpoint of that; it has {known}")
    ]


def steps_of(run: Path) -> list[int]:
    """The steps that a run has a model or a complete checkpoint of."""
    signs = {"models": "config.json", "checkpoints": MARKER}
    found = [path for name, sign in signs.items() for path in step_folders(run / name) if (path / sign).is_file()]
    return sorted({step_of(path.name) for path in found})


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder.

    Raises:
        DataError: one leads out of the folder, or is no regular file.
    """
    return sorted(path_inside(folder, path.name) for path in folder.glob("*.safetensors"))


def _digests(folder: Path) -> list[str]:
    return [file_sha256(path) for path in weight_files(folder)]


def _weights_of(results: TaskResults | None) -> list[str] | None:
    """The digests of the weights that a fine-tuning began with, where its results state them."""
    return (results.settings or {}).get("weights") if results is not None else None


def _run_of(folder: Path) -> Path | None:
    """The run that a model folder lies in: RUN/model, RUN/model-ema or RUN/models/step-N."""
    found = [parent for parent in folder.resolve().parents[:2] if is_run(parent)]
    return _as_typed(found[0]) if found else None


def _as_typed(path: Path) -> Path:
    """A path below the working folder relative to it, as the user would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _recorded(name: str, near: Path) -> Path | None:
    """A folder that a record in the folder `near` names."""
    found = find_recorded(name, near)
    return _as_typed(found) if found is not None and found.is_dir() else None


def _find_run(source: Source, config: PublishConfig) -> None:
    """Set the task folder that a cut model came from, and the pretraining run."""
    if source.cut is not None:
        origin = _recorded(source.cut.source, source.folder)
        if origin is not None and _is_origin(origin, source.cut):
            source.task_folder = origin
        else:
            source.notes.append(f"{source.cut.source}, which this model was cut from, is not there any more")
    results = source.results
    weights = _weights_of(results)
    record = source.cut or results
    base = source.folder if record is None else _recorded(record.model, source.folder)
    if config.run is not None:
        source.run = Path(config.run)
    elif base is not None:
        source.run = _run_of(base)
        # a results.json can name any folder: what it says counts where the weights are those that it states
        if source.run is not None and record is not None and weights != _digests(base):
            source.notes.append(
                f"{base} has other weights than those that were fine-tuned: is it another run? --run RUN"
            )
            source.run = None
    if source.run is None:
        source.notes.append("no pretraining run was found: the card says so (name it with --run RUN)")
        return
    mine = weights if record is not None else _digests(source.folder)
    source.whole_run = mine is not None and mine == _digests(source.run / "model")


def _is_origin(folder: Path, cut: CutResults) -> bool:
    """Whether a task folder holds the sweep that a cut was made from."""
    results = find_results(folder)
    if results is None:
        return False
    same = all(getattr(results, name) == getattr(cut, name) for name in ("task", "seed", "full_score", "connectivity"))
    return same and results.depth_scores[cut.depth : cut.depth + 1] == [cut.score]


def _task_folders(suite: Path) -> Iterator[Path]:
    """The TASK folders of a suite that are finished; cut models are left out, and links, which name other folders."""
    for path in sorted(suite.glob(f"*/{RESULTS_FILE}")):
        if not path.parent.is_symlink() and _is_sweep(read_json(path)):
            yield path.parent


def _is_sweep(value: object) -> bool:
    """Whether the content of a results.json is a fine-tuning's: other programs have files of that name too."""
    return isinstance(value, dict) and "depth_scores" in value


def _find_suite(source: Source, config: PublishConfig) -> None:
    """Set the results for the card's table."""
    if config.suites is not None:
        source.suite = [folder for suite in config.suites for folder in _task_folders(suite)]
    elif source.task_folder is not None:
        weights = _weights_of(source.results)
        source.suite = _of_weights(source.task_folder.parent, weights, source.notes) or [source.task_folder]
    elif source.run is not None:
        digests = _digests(source.folder)
        for suite in sorted(path for path in source.run.resolve().parent.iterdir() if path.is_dir()):
            source.suite += _of_weights(_as_typed(suite), digests, source.notes)


def _of_weights(suite: Path, weights: list[str] | None, notes: list[str]) -> list[Path]:
    """The TASK folders of a suite that started from exactly these weights.

    Nobody asked for this suite: what is damaged there goes to the `notes`, and is no obstacle.
    """
    found = []
    for path in sorted(suite.glob(f"*/{RESULTS_FILE}")) if weights else []:
        try:
            value = read_json(path)
            if _is_sweep(value) and _weights_of(TaskResults.from_json(value, path)) == weights:
                found.append(path.parent)
        except EvalError as error:
            notes.append(f"left out: {error}")
    return found
