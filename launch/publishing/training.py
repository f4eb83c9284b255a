"""What is known of a pretraining run: read from its own files, and None where they do not say."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline import DataError, Manifest, is_url, parse_record
from data_pipeline.stream import PreparedFolder, RemoteConfig
from pretrain import PretrainConfig, PretrainError
from pretrain.checkpoints import find_checkpoint

from ..config_file import RUN_CONFIG, plain_config, read_config
from ..errors import LaunchError
from ..tracking import METRICS, read_points, read_record

# what somebody needs to train such a model again; the rest says where this one was trained
_RECIPE = (
    "model", "steps", "tokens", "epochs", "hours", "global_batch_size", "batch_warmup", "micro_batch_size", "precision",
    "zero_stage", "seed", "optim", "schedule", "masking", "ema",
)  # fmt: skip
_RECIPE_STREAM = ("lanes", "window", "seed")


@dataclass(frozen=True)
class Pretraining:
    """The facts of a run."""

    config: Mapping[str, Any]
    """RUN/config.yaml."""
    metrics: Mapping[str, float]
    """The last value of every metric."""
    tags: Mapping[str, str]
    """Versions, commit and hardware, of RUN/record.json."""
    status: str | None
    """How the record says that it ended."""
    progress: Mapping[str, Any]
    """step, samples, seconds (of training, all restarts together), precision and zero_stage of the last checkpoint."""
    watts: Mapping[str, float]
    """Mean power of what was measured on the first machine: "GPUs", "processors"; empty where nothing was."""
    corpus: Manifest | None
    """The manifest of the corpus, if it is still where it was."""
    whole: bool
    """Whether the weights are those that the run ended with."""

    @property
    def tokens(self) -> float | None:
        """Tokens seen."""
        return self.metrics.get("train/tokens")

    @property
    def energy_kwh(self) -> float | None:
        """Mean power times the time of training: of the first machine only."""
        seconds = self.progress.get("seconds")
        return sum(self.watts.values()) * seconds / 3.6e6 if self.watts and seconds else None

    def recipe(self) -> dict[str, Any]:
        """The part of the configuration that another run can take over with --config."""
        kept = {name: self.config[name] for name in _RECIPE if self.config.get(name) is not None}
        stream = self.config.get("stream", {})
        kept |= {"stream": {name: stream[name] for name in _RECIPE_STREAM if name in stream}}
        if self.config.get("carry_shortcuts"):
            kept["carry_shortcuts"] = True
        if (anneal := self.config.get("anneal", {})).get("share"):
            kept["anneal"] = anneal
        if (teacher := self.config.get("teacher", {})).get("weight"):  # without where it was on this machine
            kept["teacher"] = {name: value for name, value in teacher.items() if name != "model"}
        return kept

    def by_depth(self) -> list[float]:
        """Masked accuracy on the validation split at depth 0, 1, ..., L; empty where it was not measured."""
        name = "validation/accuracy_depth_"
        return [value for key, value in sorted(self.metrics.items()) if key.startswith(name)]


def read_pretraining(run: Path, whole: bool) -> Pretraining:
    """The facts of a run; `whole` says whether what is published is its last state."""
    config = _read_recipe(run)
    metrics, watts = _read_metrics(run / METRICS)
    record = read_record(run)
    try:
        at = find_checkpoint(run).progress
        progress = {name: getattr(at, name) for name in ("step", "samples", "seconds", "precision", "zero_stage")}
    except PretrainError:
        progress = {}  # checkpoints are large, and the first to be removed
    return Pretraining(
        config=config,
        metrics=metrics,
        tags=record.tags if record is not None else {},
        status=record.status if record is not None else None,
        progress=progress,
        watts=watts,
        corpus=_manifest(config["data"], run),
        whole=whole,
    )


def _read_recipe(run: Path) -> dict[str, Any]:
    """The configuration of a run with the type of every field looked at; what the run did not know has its default."""
    try:
        return plain_config(parse_record(PretrainConfig, read_config(run)))
    except ValueError as error:
        raise LaunchError(f"{run / RUN_CONFIG} is damaged: {error}: put the file of the run back") from error


def _read_metrics(path: Path) -> tuple[dict[str, float], dict[str, float]]:
    """The last value of every metric, and the mean power of the GPUs together and of the processors together."""
    last: dict[str, float] = {}
    samples: dict[str, list[float]] = defaultdict(list)
    for _, points in read_points(path):
        last |= {name: value for name, value, _, _ in points}
        for name, value, _, _ in points:
            if name.endswith("_power_usage_watts"):
                samples[name].append(value)
    means: dict[str, float] = defaultdict(float)
    for name, values in samples.items():
        means["processors" if name.startswith("system/cpu") else "GPUs"] += sum(values) / len(values)
    return last, dict(means)


def _manifest(data: str, run: Path) -> Manifest | None:
    """The manifest of the corpus of a run: at its URL, or in its folder below here or above the run."""
    places = [data] if is_url(data) else [root / data for root in (Path.cwd(), *run.resolve().parents)]
    for place in places:
        try:
            return Manifest.load(PreparedFolder(place, RemoteConfig(retries=1)).path)
        except (DataError, OSError):
            continue
    return None
