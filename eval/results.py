"""What fine-tuning and cutting leave as JSON: a trial's results.json, a task's, and a cut model's cut.json.

A precision has a factory for its default, so that every file says it; those of before do not.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from data_pipeline import as_json, file_sha256, name_problem, parse_record

from .errors import EvalError
from .files import read_json
from .precision import UNSAID, Resolved
from .tasks import TASKS

RESULTS_FILE, CUT_FILE, FIGURE_FILE = "results.json", "cut.json", "depth.png"
CONTENDERS_FOLDER = "contenders"
"""Fine-tunings that belong to a study beside it."""


@dataclass(frozen=True)
class DepthSpeed:
    """How fast a model is when cut at one depth."""

    latency_ms: float
    """Of one sequence."""
    sequences_per_second: float
    """In batches of 32."""


@dataclass(frozen=True)
class Speed:
    """Latency and throughput as `measure_speed` finds them, and on what."""

    threads: int
    depths: dict[str, DepthSpeed]
    device: str = ""
    seq_length: int | None = None
    precision: Resolved = field(default_factory=lambda: UNSAID)


@dataclass(frozen=True)
class ScoredOn:
    """The examples that scores were measured on."""

    split: str
    examples: int | None
    """How many; None in what is known of old files."""
    of: int | None
    """How many the split has; None where that was not recorded."""
    hub_dataset: str | None = None
    """OWNER/NAME on the Hub; None for files of the user's."""
    hub_config: str | None = None
    place: str | None = None
    """The folder or file, of data that is not from the Hub."""

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole split."""
        return self.examples == self.of


@dataclass(frozen=True)
class ModelOrigin:
    """What kind of model was fine-tuned, and where on the Hub it is."""

    model_type: str
    """acn, or that of the BERT line which it came as: bert, roberta, ..."""
    hub_name: str | None = None
    """OWNER/NAME; None for a folder of the user's."""
    revision: str | None = None
    """The commit."""


@dataclass(frozen=True, kw_only=True)
class TrialResults:
    """One fine-tuning on one task with one seed. Scores are of the metric `metric`, lists are by depth 0, 1, ..., L."""

    task: str
    metric: str
    seed: int
    model: str
    """The pretrained folder, or NAME@COMMIT of the Hub."""
    connectivity: str
    precision: Resolved = field(default_factory=lambda: UNSAID)
    """What it was trained and scored in."""
    full_score: float
    depth_scores: list[float]
    cut_depth: int
    tolerance: float
    params_by_depth: list[int]
    flops_by_depth: list[int]
    """Forward FLOPs of one sequence of `seq_length` tokens."""
    seq_length: int | None = None
    majority_score: float | None = None
    """What the best constant answer scores, for accuracy that of the commonest validation label."""
    metrics: dict[str, dict[str, list[float]]] | None = None
    """Every validation split: every metric, by depth. `depth_scores` is `metric` on the first one."""
    standard_error: float | None = None
    """Of `full_score`, over the validation examples: sqrt(p (1 - p) / N) for accuracy, by bootstrap otherwise."""
    scored_on: ScoredOn | None = None
    """What `depth_scores` were measured on; None in a file of version 0.1."""
    absent_splits: list[str] | None = None
    """Splits that the task has by rights and the data has not."""
    train: dict[str, Any]
    """Hyperparameters and what happened in training."""
    truncation: dict[str, dict[str, int]] | None = None
    """What `seq_length` cuts off each split: `cut_texts` of `texts`, `cut_tokens` of `tokens`."""
    settings: dict[str, Any] | None = None
    """All that the numbers depend on; a suite is resumed with the same settings only."""
    probes: dict[str, list[float]] | None = None
    """Scores of linear probes by depth, on the features of the "pretrained" and of the "finetuned" encoder."""
    recut: list[dict[str, float]] | None = None
    """Cut, then trained on: `depth`, `epochs`, `score_before`, `score`."""
    files: dict[str, str] | None = None
    """The sha256 of the model's weights and tokenizer, by file; None where no model was written, or by version 0.1."""
    origin: ModelOrigin | None = None
    """Of `model`; None in a file of version 0.1."""

    @property
    def data(self) -> ScoredOn | None:
        """`scored_on`, or what the settings in a file of version 0.1 say of it; None where they say nothing."""
        if self.scored_on is not None or self.settings is None:
            return self.scored_on
        known, most = TASKS.get(self.task), self.settings.get("max_eval_samples")
        split = known.validation_splits[0] if known is not None else "validation"
        examples = (self.truncation or {}).get(split, {}).get("texts", most)
        of = examples if most is None else None
        dataset, glue_dir = self.settings.get("dataset"), self.settings.get("glue_dir")
        if dataset is not None:
            return ScoredOn(dataset["validation_split"], examples, of, place=dataset["path"])
        if glue_dir is not None or known is None:
            return ScoredOn(split, examples, of, place=None if glue_dir is None else str(Path(glue_dir) / self.task))
        return ScoredOn(split, examples, of, known.hub_dataset, known.hub_config)

    @classmethod
    def from_json(cls, value: Any, path: Path) -> Self:
        """The content `value` of the file `path`.

        Raises:
            EvalError: fields are missing, of the wrong type, or do not fit each other.
        """
        try:
            results = parse_record(cls, value)
            if problems := results._problems():
                raise ValueError("; ".join(problems))
        except ValueError as error:
            raise EvalError(f"{path} is not a result of fine-tuning: {error}: run `acn glue` again") from error
        return results

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return as_json(self)

    def _problems(self) -> list[str]:
        depths = len(self.depth_scores)
        lists = {name: getattr(self, name) for name in ("depth_scores", "params_by_depth", "flops_by_depth")}
        problems = [
            f"{name} is not one number per depth"
            for name, values in lists.items()
            if len(values) != depths or not depths
        ]
        if not 0 <= self.cut_depth < depths:
            problems.append(f"cut_depth={self.cut_depth} is outside 0..{depths - 1}")
        if (wrong := name_problem(self.task, plain=True)) is not None:  # files are called after it
            problems.append(f"task {self.task[:80]!r} {wrong}")
        return problems


@dataclass(frozen=True)
class Aggregate:
    """The seeds of a task together. Lists by depth are of the metric `metric` on the first validation split."""

    by_seed: dict[str, list[float]]
    """The depth scores of each seed."""
    depth_mean: list[float]
    depth_std: list[float] | None
    """Sample standard deviation (n - 1) over the seeds; None with one seed."""
    standard_error: float
    """Of the mean full score: over validation examples and over seeds, their squares added."""
    cut_depth_tolerance: int
    """The smallest depth whose mean is within `tolerance` of the full model's."""
    cut_depth_one_standard_error: int
    """The smallest depth whose mean is within one standard error of the full model's (Breiman et al. 1984)."""
    glue_scores: list[float]
    """The task's part of the GLUE average for each seed: the mean of its metrics, of MNLI's two splits."""


@dataclass(frozen=True, kw_only=True)
class TaskResults(TrialResults):
    """The trials of a task together: the fields of a trial are those of the seed `seed`, whose model was kept."""

    seeds: list[int] | None = None
    selection: str | None = None
    """How `seed`, and its epoch and hyperparameters, were chosen."""
    aggregate: Aggregate | None = None
    """None in a file from before seeds were put together."""
    grid: list[dict[str, Any]] | None = None
    """Every point of the grid that was tried, with its score."""
    diagnostic: dict[str, float] | None = None
    """Of MNLI: Matthews' coefficient on GLUE's diagnostic set `ax`, where its labels are known."""
    speed: Speed | None = None
    """Measured at some depths."""

    @property
    def all_seeds(self) -> list[int]:
        """`seeds`, or the one `seed`."""
        return self.seeds or [self.seed]

    @property
    def how_selected(self) -> str:
        """`selection`, or the seed where the file does not say more."""
        return self.selection or f"seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class CutResults:
    """A fine-tuned model that was cut. FLOPs are forward, for one sequence of `seq_length` tokens."""

    task: str
    metric: str
    seed: int
    model: str
    """The pretrained folder, or NAME@COMMIT of the Hub."""
    connectivity: str
    precision: Resolved = field(default_factory=lambda: UNSAID)
    """What the scores were computed in."""
    source: str
    """The fine-tuned folder that was cut, or NAME@COMMIT of the Hub."""
    depth: int
    layers: int
    """Of the source."""
    rule: str
    """How `depth` was picked, in words."""
    selection: str
    """How the source's seed was chosen."""
    tolerance: float | None
    """None where another rule picked the depth."""
    score: float
    """At `depth`, in the source's sweep."""
    full_score: float
    seeds: list[int]
    seed_mean: float | None
    """At `depth`, over the seeds; None with one."""
    seed_std: float | None
    params: int
    full_params: int
    flops: int
    full_flops: int
    seq_length: int | None
    scored_on: ScoredOn | None = None
    """What the scores were measured on; None where the source did not say."""
    majority_score: float | None = None
    """What the best constant answer scores there."""
    standard_error: float | None = None
    """Of `full_score`, over those examples."""
    speed: Speed | None = None
    """Of the whole and of the cut model."""
    checked_score: float | None = None
    """What the written model scored when it was run again; None where that was not done."""
    variants: dict[str, dict[str, float]] | None = None
    """ONNX files: `mb`, `latency_ms`, and `score` where it was measured."""
    files: dict[str, str] | None = None
    """The sha256 of the model's weights and tokenizer, by file; None in a record of version 0.1."""
    origin: ModelOrigin | None = None
    """Of `model`; None in a record of version 0.1."""

    @classmethod
    def from_json(cls, value: Any, path: Path) -> Self:
        """The content `value` of the file `path`.

        Raises:
            EvalError: fields are missing or of the wrong type.
        """
        try:
            cut = parse_record(cls, value)
            if (wrong := name_problem(cut.task, plain=True)) is not None:
                raise ValueError(f"task {cut.task[:80]!r} {wrong}")
            if not 0 <= cut.depth <= cut.layers:
                raise ValueError(f"depth={cut.depth} is outside 0..{cut.layers}")
            if cut.speed is not None and not {str(cut.depth), str(cut.layers)} <= cut.speed.depths.keys():
                raise ValueError("speed.depths lacks the whole or the cut model")
            return cut
        except ValueError as error:
            raise EvalError(f"{path} is not the record of a cut: {error}: run `acn compress` again") from error

    @property
    def data(self) -> ScoredOn | None:
        """`scored_on`."""
        return self.scored_on

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return as_json(self)


def is_cut_record(value: Any) -> bool:
    """Whether the content of a results.json is a cut model's, as `acn compress` wrote it before there was cut.json."""
    return isinstance(value, dict) and "source" in value and "depth_scores" not in value


def find_cut(folder: Path) -> CutResults | None:
    """The record of the cut model in `folder`; None where the model was not cut.

    Raises:
        EvalError: there is one that is not complete, or cannot be read.
    """
    if (path := folder / CUT_FILE).is_file():
        return CutResults.from_json(read_json(path), path)
    if (path := folder / RESULTS_FILE).is_file() and is_cut_record(value := read_json(path)):
        return CutResults.from_json(value, path)
    return None


def find_results(folder: Path) -> TaskResults | None:
    """The results of the fine-tuned model in `folder`; None where it is not of a fine-tuning.

    Raises:
        EvalError: the model was cut: it has one depth, and no results of its own. Or they are not complete.
    """
    if (cut := find_cut(folder)) is not None:
        raise EvalError(
            f"{folder} is not a result of fine-tuning, but a model that was cut: give its source, {cut.source}"
        )
    path = folder / RESULTS_FILE
    return TaskResults.from_json(read_json(path), path) if path.is_file() else _find_published(folder)


def _find_published(folder: Path) -> TaskResults | None:
    """The results that a published model has with it, as results/TASK.json: those of the very weights in `folder`."""
    for path in sorted((folder / "results").glob("*.json")):
        value = read_json(path)
        files = value.get("files") if isinstance(value, dict) else None
        weights = {name: digest for name, digest in (files or {}).items() if name.endswith(".safetensors")}
        present = {file.name: file for file in folder.glob("*.safetensors")}
        if weights.keys() == present.keys() != set() and all(file_sha256(present[n]) == d for n, d in weights.items()):
            return TaskResults.from_json(value, path)
    return None


def read_results(folder: Path) -> TaskResults:
    """The results of a task in `folder`, OUTPUT/TASK.

    Raises:
        EvalError: there are none, or they are not complete.
    """
    if (results := find_results(folder)) is None:
        raise EvalError(f"{folder} has no {RESULTS_FILE}: give a folder that `acn glue` wrote (OUTPUT/TASK)")
    return results


def read_trial(folder: Path) -> TrialResults:
    """The results of a trial in `folder`, OUTPUT/TASK/seed-N.

    Raises:
        EvalError: they are not there, or not complete.
    """
    path = folder / RESULTS_FILE
    return TrialResults.from_json(read_json(path), path)


def check_files(folder: Path, record: TrialResults | CutResults, all_there: bool = True) -> None:
    """Refuse a model that is not the one its record speaks of.

    Args:
        all_there: whether files may not be missing either.

    Raises:
        EvalError: weights or tokenizer were changed since, or are missing.
    """
    for name, digest in (record.files or {}).items():
        path = folder / name
        if path.parent != folder:
            raise EvalError(f"{folder}: its record names {name!r}, which is not in the folder")
        if path.is_file():
            if file_sha256(path) != digest:
                raise EvalError(
                    f"{path} is not the file that the scores in {folder} were measured with: it is damaged or was "
                    "replaced; put the original back, or run `acn glue` again"
                )
        elif all_there:
            raise EvalError(f"{path} is missing: put it back, or run `acn glue` again")


def size_mb(params: int) -> float:
    """Megabytes (2**20 bytes, as in the paper's tables) of float32 weights."""
    return params * 4 / 2**20
