"""Where a run's numbers go: always `RUN/metrics.jsonl`, and an MLflow run when one is configured.

The local file is the source of truth. It is written first, one complete JSON object a line, and a
failing or unreachable MLflow never stops or noticeably slows a run. `pretrain` and `eval` know none of
this: they are handed a `Tracker` and call `log_metrics`.
"""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from launch.mlflow_sink import SQLITE, MlflowSink, RunStatus, sqlite_path

_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")


@dataclass
class TrackingConfig:
    """Where a run is recorded besides its own `metrics.jsonl`."""

    mlflow: str | None = "sqlite:///mlruns.db"
    """MLflow tracking URI: an SQLite file (sqlite:///mlruns.db), a server (http://host:port) or another
    database (postgresql://...). null records in metrics.jsonl only."""

    experiment: str = "acn-lm"
    """MLflow experiment that the run belongs to; created when missing."""

    run_name: str | None = None
    """Name of the run in MLflow; null takes the name of the run's folder."""

    def problems(self) -> list[str]:
        """Return every mistake in this configuration, each naming the field and the mend."""
        found = []
        if self.mlflow is not None:
            scheme = self.mlflow.partition(":")[0].partition("+")[0]
            if scheme not in _SCHEMES:
                found.append(
                    f"tracking.mlflow: {self.mlflow!r} is no tracking URI that MLflow accepts; "
                    "use sqlite:///mlruns.db, http://host:port, a database URI, or null to switch MLflow off"
                )
            elif scheme == "sqlite" and (not self.mlflow.startswith(SQLITE) or not sqlite_path(self.mlflow).name):
                found.append(
                    f"tracking.mlflow: {self.mlflow!r} names no database file; use sqlite:///FILE.db "
                    "(three slashes and a relative path, or four and an absolute one)"
                )
        if not self.experiment.strip():
            found.append("tracking.experiment: it is empty; give a name such as acn-lm")
        if self.run_name is not None and not self.run_name.strip():
            found.append("tracking.run_name: it is empty; give a name, or null for the folder's name")
        return found


class Sink(Protocol):
    """One place that a `Tracker` writes to."""

    def log_metrics(self, values: Mapping[str, float], step: int, when: float) -> None:
        """Record `values` at `step`; `when` is in seconds since the epoch."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record flat parameters (dotted names)."""

    def log_figure(self, path: Path, artifact_path: str) -> None:
        """Record a file that exists already."""

    def close(self, status: RunStatus) -> None:
        """Write what is left and end the record."""


class Tracker:
    """Records one run. Without sinks it does nothing, which is what the ranks other than 0 are given.

    As a context manager it closes itself: FINISHED, FAILED after an exception, KILLED after Ctrl-C.
    """

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self._sinks = tuple(sinks)
        self._closed = False

    @property
    def mlflow_run_id(self) -> str | None:
        """Id of the MLflow run, to make other runs its children; None without MLflow or while it is down."""
        ids = (sink.run_id for sink in self._sinks if isinstance(sink, MlflowSink))
        return next(ids, None)

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record named scalars (floats or 0-dimensional tensors) at `step`."""
        assert not self._closed, "the tracker is closed"
        when = round(time.time(), 3)  # milliseconds, as in MLflow: a replay of the file gives equal points
        numbers = {name: float(value) for name, value in values.items()}
        for sink in self._sinks:
            sink.log_metrics(numbers, step, when)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; nested mappings become dotted names."""
        flat = flatten(params)
        for sink in self._sinks:
            sink.log_params(flat)

    def log_figure(self, path: Path, artifact_path: str = "figures") -> None:
        """Attach the file at `path` to the run, in the folder `artifact_path` of its artifacts.

        Raises:
            FileNotFoundError: there is no such file, whether or not MLflow is configured.
        """
        if self._sinks and not path.is_file():
            raise FileNotFoundError(path)
        for sink in self._sinks:
            sink.log_figure(path, artifact_path)

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
        run_dir: the run's folder, created when missing; gets metrics.jsonl and mlflow.json.
        name: name in MLflow unless `config.run_name` says otherwise.
        params: the settings, nested as they like.
        tags: free text by name, e.g. the verb and the git commit.
        parent_run_id: MLflow run that this one is part of (`Tracker.mlflow_run_id` of a suite).
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    sinks: list[Sink] = [JsonlSink(run_dir / "metrics.jsonl")]
    if config.mlflow is not None:
        tags = dict(tags) if parent_run_id is None else {**tags, "mlflow.parentRunId": parent_run_id}
        run_name = config.run_name or name
        sinks.append(MlflowSink(config.mlflow, config.experiment, run_dir, run_name, flatten(params), tags))
    return Tracker(sinks)


class JsonlSink:
    """Appends `{"time", "step", NAME: VALUE, ...}` lines; every line is on disk's way when the call returns.

    JSON has no non-finite numbers: they are written as the strings "NaN", "Infinity" and "-Infinity" (as
    Protocol Buffers do), which `float()` reads back.
    """

    def __init__(self, path: Path) -> None:
        _cut_torn_line(path)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def log_metrics(self, values: Mapping[str, float], step: int, when: float) -> None:
        """Append one line."""
        assert not {"time", "step"} & values.keys(), "time and step are the record's own fields"
        record: dict[str, float | str] = {"time": when, "step": step}
        for name, value in values.items():
            record[name] = value if math.isfinite(value) else json.dumps(value)
        self._file.write(json.dumps(record, allow_nan=False) + "\n")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Nothing to do: the run's config.yaml has them."""

    def log_figure(self, path: Path, artifact_path: str) -> None:
        """Nothing to do: the figure is a file of the run already."""

    def close(self, status: RunStatus) -> None:
        """Close the file."""
        self._file.close()


def flatten(params: Mapping[str, Any]) -> dict[str, str]:
    """Turn nested settings into text by dotted name: `{"a": {"b": 1}}` -> `{"a.b": "1"}`."""

    def walk(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                yield from walk(f"{prefix}.{key}" if prefix else str(key), inner)
        elif prefix:
            yield prefix, str(value)

    return dict(walk("", params))


def _cut_torn_line(path: Path) -> None:
    """Remove an unfinished last line, which a killed process or a full disk can leave behind."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
