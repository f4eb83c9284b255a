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
from typing import Any, Literal

import data_pipeline
from data_pipeline import Problem, name_problem, take_credentials, write_json

from ..errors import LaunchError

logger = logging.getLogger(__name__)

METRICS, RECORD = "metrics.jsonl", "record.json"

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

# Lines that wait in memory while the disk is full; the oldest give way.
_MAX_WAITING_LINES = 10_000


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
    """Files and folders of the run, relative to its folder: the folder of the artifacts they go to."""
    status: RunStatus | Literal["RUNNING"] = "RUNNING"
    """RUNNING also after a crash that nobody could record."""
    started: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    ended: float | None = None
    """Seconds since the epoch; None while running."""

    def add_params(self, params: Mapping[str, Any]) -> None:
        """Add settings, nested or flat; those that have another value already become tags."""
        for name, value in flatten(params).items():
            if self.params.setdefault(name, value) != value:
                self.tags[f"param.changed.{name}"] = value

    def save(self, run_dir: Path) -> None:
        """Write record.json in the run's folder."""
        write_json(run_dir / RECORD, asdict(self))


def flatten(params: Mapping[str, Any]) -> dict[str, str]:
    """Turn nested settings into text by dotted name: `{"a": {"b": 1}}` -> `{"a.b": "1"}`."""

    def walk(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                yield from walk(f"{prefix}.{key}" if prefix else str(key), inner)
        elif prefix:
            yield prefix, str(value)

    return dict(walk("", params))


def read_record(run_dir: Path) -> Record | None:
    """The record in `run_dir`, or None when there is none.

    Raises:
        LaunchError: record.json is damaged, or names files that are not in `run_dir`.
    """
    path = run_dir / RECORD
    if not path.exists():
        return None
    record = data_pipeline.read_record(Record, path, LaunchError, "remove it, the next run or sync writes a new one")
    if problems := _file_problems(record, path):
        raise LaunchError(*problems)
    return take_credentials(record)


def _file_problems(record: Record, path: Path) -> list[Problem]:
    """Files that a record may not name: it would have them sent."""
    named = [(name, name_problem(name)) for pair in record.files.items() for name in pair]
    return [
        Problem(str(path), wrong=f": files has {name[:200]!r}, which {wrong}", fix="take that entry out of it")
        for name, wrong in named
        if wrong is not None
    ]


class MetricsFile:
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

    def append(self, values: Mapping[str, float], step: int, when: float) -> None:
        """Append one line; `when` is in seconds since the epoch."""
        assert not {"time", "step"} & values.keys(), "time and step are the record's own fields"
        line: dict[str, float | str] = {"time": when, "step": step}
        for name, value in values.items():
            line[name] = value if math.isfinite(value) else json.dumps(value)
        self._waiting.append((json.dumps(line, allow_nan=False) + "\n").encode())
        self._write_waiting()

    def close(self) -> None:
        """Write what waits, if there is room now, and close the file."""
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
    over with a warning; a missing file has no lines, and what is no regular file neither.
    """
    if not path.is_file():
        return
    file = path.open("rb")
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
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
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
