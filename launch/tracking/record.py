"""The local record of a run, from which any MLflow server can be told everything, now or later.

    RUN/metrics.jsonl   every metric, one complete JSON object a line, written before anything else happens
    RUN/record.json     the rest: name, experiment, parameters, tags, the files that belong to the run, its status

MLflow is a mirror of these two (`launch.tracking.mlflow_mirror`), so nothing is lost while a server is away.
"""

import json
import logging
import math
import os
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from ..errors import LaunchError

logger = logging.getLogger(__name__)

METRICS, RECORD = "metrics.jsonl", "record.json"

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

# Lines that wait in memory while the disk is full; the oldest give way.
_MAX_WAITING_LINES = 10_000


class Sink(Protocol):
    """One place that a `Tracker` writes to."""

    def log_metrics(self, values: Mapping[str, float], step: int, when: float) -> None:
        """Record `values` at `step`; `when` is in seconds since the epoch."""

    def log_params(self, params: Mapping[str, str]) -> None:
        """Record flat parameters (dotted names)."""

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Record free text by name; a later value replaces the former."""

    def log_file(self, path: Path, artifact_path: str) -> None:
        """Record that a file, or a folder with all its files, belongs to the run; it exists already."""

    def close(self, status: RunStatus) -> None:
        """Write what is left and end the record."""


@dataclass
class Record:
    """What MLflow is told of a run besides its metrics."""

    name: str
    """Name of the run in MLflow."""
    experiment: str
    """MLflow experiment that the run belongs to."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Our own id of the run, a tag in MLflow: by it the run is found again in any server."""
    params: dict[str, str] = field(default_factory=dict)
    """Settings by dotted name, as they were when the run began; later ones are tags `param.changed.NAME`."""
    tags: dict[str, str] = field(default_factory=dict)
    """Free text by name."""
    files: dict[str, str] = field(default_factory=dict)
    """Files and folders of the run, relative to its folder (or absolute): the folder of the artifacts they go to."""
    status: Literal["RUNNING", "FINISHED", "FAILED", "KILLED"] = "RUNNING"
    """RUNNING also after a crash that nobody could record."""
    started: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    ended: float | None = None
    """Seconds since the epoch; None while running."""

    def add_params(self, params: Mapping[str, str]) -> None:
        """Add settings; those that have another value already become tags."""
        for name, value in params.items():
            if self.params.setdefault(name, value) != value:
                self.tags[f"param.changed.{name}"] = value


def read_record(run_dir: Path) -> Record | None:
    """The record in `run_dir`, or None when there is none.

    Raises:
        LaunchError: record.json is damaged.
    """
    path = run_dir / RECORD
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise LaunchError(f"{path} is damaged ({error}): remove it, the next run or sync writes a new one") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON to `path`, atomically."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(aside, path)


class RecordSink:
    """Keeps `RUN/record.json` up to date. A full disk delays it; it never stops the run."""

    def __init__(self, run_dir: Path, record: Record) -> None:
        self._run_dir = run_dir
        self._record = record
        write_json(run_dir / RECORD, asdict(record))

    def log_metrics(self, values: Mapping[str, float], step: int, when: float) -> None:
        """Nothing to do: metrics.jsonl has them."""

    def log_params(self, params: Mapping[str, str]) -> None:
        """Add parameters."""
        self._record.add_params(params)
        self._write()

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Add or replace tags."""
        self._record.tags.update(tags)
        self._write()

    def log_file(self, path: Path, artifact_path: str) -> None:
        """Name the file; that its content changed later is seen by whoever mirrors it."""
        inside = path.absolute().is_relative_to(self._run_dir.absolute())
        name = path.absolute().relative_to(self._run_dir.absolute()) if inside else path.absolute()
        if self._record.files.get(str(name)) != artifact_path:
            self._record.files[str(name)] = artifact_path
            self._write()

    def close(self, status: RunStatus) -> None:
        """Say how the run ended."""
        self._record.status, self._record.ended = status, round(time.time(), 3)
        self._write()

    def _write(self) -> None:
        try:
            write_json(self._run_dir / RECORD, asdict(self._record))
        except OSError as error:
            logger.warning("%s cannot be written (%s): the run goes on", self._run_dir / RECORD, error)


class JsonlSink:
    """Appends `{"time", "step", NAME: VALUE, ...}` lines; every line is on disk's way when the call returns.

    JSON has no non-finite numbers: they are written as the strings "NaN", "Infinity" and "-Infinity" (as
    Protocol Buffers do), which `float()` reads back. On a full disk the lines wait in memory, whole, until there is
    room again.
    """

    def __init__(self, path: Path) -> None:
        _cut_torn_line(path)
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._waiting: deque[bytes] = deque(maxlen=_MAX_WAITING_LINES)
        self._warned = False

    def log_metrics(self, values: Mapping[str, float], step: int, when: float) -> None:
        """Append one line."""
        assert not {"time", "step"} & values.keys(), "time and step are the record's own fields"
        record: dict[str, float | str] = {"time": when, "step": step}
        for name, value in values.items():
            record[name] = value if math.isfinite(value) else json.dumps(value)
        self._waiting.append((json.dumps(record, allow_nan=False) + "\n").encode())
        self._write_waiting()

    def log_params(self, params: Mapping[str, str]) -> None:
        """Nothing to do: record.json has them."""

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Nothing to do: record.json has them."""

    def log_file(self, path: Path, artifact_path: str) -> None:
        """Nothing to do: record.json names it."""

    def close(self, status: RunStatus) -> None:
        """Close the file."""
        self._write_waiting()
        self._file.close()

    def _write_waiting(self) -> None:
        while self._waiting:
            end = os.fstat(self._file.fileno()).st_size
            try:
                if self._file.write(self._waiting[0]) == len(self._waiting[0]):
                    self._waiting.popleft()
                    continue
                reason = "no space left"
            except OSError as error:
                reason = str(error)
            os.ftruncate(self._file.fileno(), end)  # half a line is worse than none
            if not self._warned:
                self._warned = True
                logger.warning("%s cannot be written (%s): the run goes on, its metrics wait", self._path, reason)
            return


def read_points(path: Path, start: int = 0) -> Iterator[tuple[int, list[tuple[str, float, int, int]]]]:
    """Read metrics.jsonl from byte `start`, which begins a line: the byte after each complete line, and its points.

    A point is (name, value, milliseconds since the epoch, step), as MLflow takes it. Lines that are no JSON are passed
    over with a warning; a missing file has no lines.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return  # being written
            start += len(line)
            try:
                record = json.loads(line)
                when, step = round(record.pop("time") * 1000), record.pop("step")
                yield start, [(name, float(value), when, step) for name, value in record.items()]
            except (ValueError, KeyError, TypeError, AttributeError):
                logger.warning("%s: the line that ends at byte %d is no record and is left out", path, start)
                yield start, []


def _cut_torn_line(path: Path) -> None:
    """Remove an unfinished last line, which a killed process or a full disk can leave behind."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
