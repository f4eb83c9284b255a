"""Where a run's numbers go: always into its own folder, and from there to MLflow when it is configured.

The local record is the source of truth. It is written first, and a failing or unreachable MLflow never stops or
noticeably slows a run: a thread mirrors the record. `pretrain` and `eval` know none of this: they are handed a
`Tracker` and call `log_metrics`.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from data_pipeline import path_inside, take_credentials

from ..config_file import RUN_CONFIG, write_config
from ..provenance import machine_name, provenance_tags
from .config import AUTO, DEFAULT_EXPERIMENT, TrackingConfig
from .destination import Destination, find_destination, missing_there, ways_to_look
from .mlflow_mirror import MirrorThread, MlflowMirror
from .record import METRICS, RECORD, MetricsFile, Record, RunStatus, read_record
from .system import SystemMonitor

logger = logging.getLogger(__name__)


class Tracker:
    """Keeps the record of one run; `open_tracker` makes one. Several can be open at once.

    As a context manager it closes itself: FINISHED, FAILED after an exception, KILLED after Ctrl-C.
    """

    def __init__(self, config: TrackingConfig, to: Destination | None, run_dir: Path, record: Record) -> None:
        self._to = to
        """Where in MLflow; None to record in the run's folder only."""
        self._run_dir = run_dir
        self._args: Any = None
        self._record = record
        self._metrics = MetricsFile(run_dir / METRICS)
        record.save(run_dir)
        self._config = config
        self._system = SystemMonitor(config.system_seconds)
        self._mirror: MirrorThread | None = None
        self._closed = False

    @property
    def mlflow_run_id(self) -> str | None:
        """Id of the MLflow run, to make other runs its children; None without MLflow or while it is down.

        Waits for the server's first answer, `tracking.close_seconds` at most.
        """
        mirror = self._start_mirror()
        return mirror.wait_for_run_id() if mirror else None

    def start_lines(self) -> list[str]:
        """Where the numbers go and why, for the user."""
        return [str(self._to)] if self._to else []

    def end_lines(self) -> list[str]:
        """Where to look at the run in MLflow once it is closed, for the user."""
        if self._to is None:
            return []
        found = self._mirror.place() if self._mirror else None
        return ways_to_look(self._to.uri, *found) if found else [missing_there(self._to.uri, self._run_dir)]

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record named scalars (floats or 0-dimensional tensors) at `step`."""
        assert not self._closed, "the tracker is closed"
        when = round(time.time(), 3)  # milliseconds, as in MLflow: a replay of the file gives equal points
        numbers = {name: float(value) for name, value in values.items()}
        self._metrics.append(numbers | self._system.sample(), step, when)
        self._start_mirror()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; nested mappings become dotted names."""
        self._record.add_params(params)
        self._save_record()

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Record free text by name; a later value replaces the former."""
        self._record.tags.update(tags)
        self._save_record()

    def log_figure(self, path: Path, artifact_path: str = "figures") -> None:
        """Attach the file at `path` to the run, in the folder `artifact_path` of its artifacts.

        It is uploaded in the background, again whenever its content has changed.

        Raises:
            FileNotFoundError: there is no such file, whether or not MLflow is configured.
            ValueError: it is not in the run's folder.
        """
        if not path.is_file():
            raise FileNotFoundError(path)
        self._add_file(path, artifact_path)

    def log_config(self, args: Any) -> None:
        """Write the configuration `args`, a dataclass, as config.yaml of the run's folder, and attach that."""
        self._args = args
        write_config(args, self._run_dir / RUN_CONFIG)
        self._add_file(self._run_dir / RUN_CONFIG, "config")

    def log_settings(self, values: Mapping[str, Any]) -> None:
        """Record what the configuration left open, now that it is decided: as parameters, and in its file."""
        self.log_params(values)
        if self._args is not None:
            options = values.keys() & vars(self._args).keys()
            self.log_config(replace(self._args, **{name: values[name] for name in options}))

    def log_model(self, path: Path) -> None:
        """Attach the exported model in the folder `path`, if `tracking.log_model` asks for it."""
        if not self._config.log_model:
            return
        if not path.is_dir():
            raise FileNotFoundError(path)
        self._add_file(path, path.name)

    def close(self, status: RunStatus = "FINISHED") -> None:
        """End the record with `status`. Only the first call counts."""
        if self._closed:
            return
        self._closed = True
        self._metrics.close()
        self._record.status, self._record.ended = status, round(time.time(), 3)
        self._save_record()
        mirror = self._start_mirror()
        if mirror is not None:
            mirror.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or (isinstance(error, SystemExit) and not error.code):
            self.close("FINISHED")
        else:
            self.close("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")

    def _start_mirror(self) -> MirrorThread | None:
        """The thread that keeps MLflow up to date; started when there is something to tell, as it takes a second."""
        if self._mirror is None and self._to is not None:
            mirror = MlflowMirror(self._to.uri, self._run_dir, self._to)
            self._mirror = MirrorThread(mirror, self._config.close_seconds)
            self._mirror.start()
        return self._mirror

    def _add_file(self, path: Path, artifact_path: str) -> None:
        """Name the file; that its content changed later is seen by whoever mirrors it."""
        name = str(path.absolute().relative_to(self._run_dir.absolute()))
        if self._record.files.get(name) != artifact_path:
            self._record.files[name] = artifact_path
            self._save_record()

    def _save_record(self) -> None:
        """Write record.json. A full disk delays it; it never stops the run."""
        try:
            self._record.save(self._run_dir)
        except OSError as error:
            logger.warning("%s cannot be written (%s): the run goes on", self._run_dir / RECORD, error)


def open_tracker(
    config: TrackingConfig,
    run_dir: Path,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    parent_run_id: str | None = None,
) -> Tracker:
    """Open the record of the run in `run_dir`, or continue the one a former process left there.

    Args:
        config: where to record, free of `problems()`; `auto` follows MLflow's environment variables.
        run_dir: the run's folder, created when missing; gets metrics.jsonl, record.json and mlflow.json.
        name: name in MLflow unless `config.run_name` says otherwise.
        params: the settings, nested as they like.
        tags: free text by name, e.g. the verb and the git commit.
        parent_run_id: MLflow run that this one is part of (`Tracker.mlflow_run_id` of a suite).

    Raises:
        LaunchError: record.json is damaged, or names files that are not in `run_dir`.
        DataError: what should be a file of the run is a link out of its folder, or no file.
    """
    to = find_destination(config)
    config, params = take_credentials((config.resolved, params))
    run_dir.mkdir(parents=True, exist_ok=True)
    for file in (METRICS, RECORD):  # a run that is continued may be of somebody else's making
        path_inside(run_dir, file)
    before = read_record(run_dir)
    if to is not None and before is not None and before.experiment != to.experiment:
        to = replace(to, experiment=before.experiment, experiment_from="as the run began")
    record = before or Record(config.run_name or name, _experiment(config))
    record.status, record.ended = "RUNNING", None
    record.add_params(params)
    record.tags |= {**provenance_tags(), "machine": machine_name(), **tags}
    if parent_run_id is not None:
        record.tags["mlflow.parentRunId"] = parent_run_id
    return Tracker(config, to, run_dir, record)


def _experiment(config: TrackingConfig) -> str:
    """The experiment by name, which the record needs for any other store; one known by its id alone has ours there."""
    return DEFAULT_EXPERIMENT if config.experiment == AUTO else config.experiment
