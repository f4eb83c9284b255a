"""Where a run's numbers go: always `RUN/metrics.jsonl`, and an MLflow run when one is configured.

The local record is the source of truth. It is written first, and a failing or unreachable MLflow never stops or
noticeably slows a run: a thread mirrors the record. `pretrain` and `eval` know none of this: they are handed a
`Tracker` and call `log_metrics`.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..provenance import provenance_tags
from .config import TrackingConfig
from .mlflow_mirror import MlflowMirror
from .mlflow_sink import MlflowSink
from .record import METRICS, JsonlSink, Record, RecordSink, RunStatus, Sink, read_record
from .system import SystemMonitor


class Tracker:
    """Records one run. Without sinks it does nothing, which is what the ranks other than 0 are given.

    As a context manager it closes itself: FINISHED, FAILED after an exception, KILLED after Ctrl-C. Several can be
    open at once.

    Args:
        sinks: what records, in this order.
        system: adds system metrics to what is logged.
        log_models: whether `log_model` does anything.
    """

    def __init__(
        self, sinks: Sequence[Sink] = (), system: SystemMonitor | None = None, log_models: bool = False
    ) -> None:
        self._sinks = tuple(sinks)
        self._system = system
        self._log_models = log_models
        self._closed = False

    @property
    def mlflow_run_id(self) -> str | None:
        """Id of the MLflow run, to make other runs its children; None without MLflow or while it is down.

        Waits for the server's first answer, `tracking.close_seconds` at most.
        """
        ids = (sink.run_id() for sink in self._sinks if isinstance(sink, MlflowSink))
        return next(ids, None)

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record named scalars (floats or 0-dimensional tensors) at `step`."""
        assert not self._closed, "the tracker is closed"
        when = round(time.time(), 3)  # milliseconds, as in MLflow: a replay of the file gives equal points
        numbers = {name: float(value) for name, value in values.items()}
        if self._system is not None:
            numbers |= self._system.sample()
        for sink in self._sinks:
            sink.log_metrics(numbers, step, when)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; nested mappings become dotted names."""
        flat = flatten(params)
        for sink in self._sinks:
            sink.log_params(flat)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Record free text by name; a later value replaces the former."""
        for sink in self._sinks:
            sink.log_tags(tags)

    def log_figure(self, path: Path, artifact_path: str = "figures") -> None:
        """Attach the file at `path` to the run, in the folder `artifact_path` of its artifacts.

        It is uploaded in the background, again whenever its content has changed.

        Raises:
            FileNotFoundError: there is no such file, whether or not MLflow is configured.
        """
        if self._sinks and not path.is_file():
            raise FileNotFoundError(path)
        for sink in self._sinks:
            sink.log_file(path, artifact_path)

    def log_model(self, path: Path) -> None:
        """Attach the exported model in the folder `path`, if `tracking.log_model` asks for it."""
        if not self._log_models:
            return
        if self._sinks and not path.is_dir():
            raise FileNotFoundError(path)
        for sink in self._sinks:
            sink.log_file(path, path.name)

    def close(self, status: RunStatus = "FINISHED") -> None:
        """End the record with `status`. Only the first call counts."""
        if self._closed:
            return
        self._closed = True
        for sink in self._sinks:
            sink.close(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or (isinstance(error, SystemExit) and not error.code):
            self.close("FINISHED")
        else:
            self.close("KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED")


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
        config: where to record, free of `problems()`.
        run_dir: the run's folder, created when missing; gets metrics.jsonl, record.json and mlflow.json.
        name: name in MLflow unless `config.run_name` says otherwise.
        params: the settings, nested as they like.
        tags: free text by name, e.g. the verb and the git commit.
        parent_run_id: MLflow run that this one is part of (`Tracker.mlflow_run_id` of a suite).
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    record = read_record(run_dir) or Record(config.run_name or name, config.experiment)
    record.status, record.ended = "RUNNING", None
    record.add_params(flatten(params))
    record.tags |= {**provenance_tags(), **tags}
    if parent_run_id is not None:
        record.tags["mlflow.parentRunId"] = parent_run_id
    sinks: list[Sink] = [JsonlSink(run_dir / METRICS), RecordSink(run_dir, record)]
    if config.mlflow is not None:
        sinks.append(MlflowSink(MlflowMirror(config.mlflow, run_dir), run_dir, config.close_seconds))
    return Tracker(sinks, SystemMonitor(config.system_seconds), config.log_model)


def flatten(params: Mapping[str, Any]) -> dict[str, str]:
    """Turn nested settings into text by dotted name: `{"a": {"b": 1}}` -> `{"a.b": "1"}`."""

    def walk(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                yield from walk(f"{prefix}.{key}" if prefix else str(key), inner)
        elif prefix:
            yield prefix, str(value)

    return dict(walk("", params))
