"""Brings the local record of a run (`record`) to an MLflow server, as often as one likes: it ends up there once.

`MlflowMirror` catches up when it is told to, `MirrorThread` tells it every few seconds, so that MLflow never fails or
stalls the run. The files are the queue: nothing waits in memory, a server that was away for a day gets what it missed
when it is back, and what a killed process had not sent is sent by the next one, or by `acn track sync RUN`.

The record's id is a tag of the MLflow run, by which the run is found again in any server. Points go in the order of the
file, so those older than the newest one of their metric are there already; of the rest MLflow's database drops what it
has (same name, step, time and value). Other things are set to what the record says.
"""

import getpass
import logging
import os
import re
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data_pipeline
from data_pipeline import (
    DataError,
    files_inside,
    hide_credentials,
    path_inside,
    take_credentials,
    with_credentials,
    without_credentials,
    write_json,
)

from ..errors import LaunchError
from .config import SQLITE, sqlite_path
from .destination import Destination
from .record import METRICS, Record, read_points, read_record
from .store import check_database, check_experiment, check_run, import_mlflow, is_active, open_experiment

logger = logging.getLogger(__name__)

STATE = "mlflow.json"
"""Beside the record: the MLflow run of this run, and how much of the record it has."""

ID_TAG = "acn.record_id"

# Limits that every MLflow server since 1.x accepts; newer ones take longer values.
_MAX_NAME, _MAX_PARAM, _MAX_TAG = 250, 500, 5000
_ENTRIES_PER_BATCH, _METRICS_PER_BATCH = 100, 1000

# Seconds between two pushes: long enough for a few big requests instead of many small ones.
_FLUSH_SECONDS = 5.0
# After a failed push the pause doubles, from the first of these up to the second, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
# A failure is reported again at the end of the run when the first report is longer ago than this.
_REMIND_SECONDS = 60.0


class MirrorThread(threading.Thread):
    """Keeps a run's mirror up to date until `close`.

    Args:
        close_seconds: the longest that `close` waits for MLflow to take what is left.
    """

    def __init__(self, mirror: "MlflowMirror", close_seconds: float) -> None:
        # a daemon: a server that hangs must not keep the finished process alive
        super().__init__(name=f"mlflow {mirror.run_dir.name}", daemon=True)
        self._mirror = mirror
        self._close_seconds = close_seconds
        self._closing = threading.Event()
        self._tried = threading.Event()
        self._complete = False
        self._warned_at: float | None = None

    def wait_for_run_id(self) -> str | None:
        """Wait for the server's first answer, `close_seconds` at most: the MLflow run's id, or None."""
        self._tried.wait(self._close_seconds)
        return self._mirror.run_id

    def place(self) -> tuple[str, str] | None:
        """The ids of the MLflow run's experiment and of the run; None while the server has not answered."""
        return (self._mirror.experiment_id, self._mirror.run_id) if self._mirror.run_id else None

    def close(self) -> None:
        """Have the thread make a last push and wait for it, `close_seconds` at most."""
        self._closing.set()
        self.join(self._close_seconds)
        reported = self._warned_at is not None and time.monotonic() - self._warned_at < _REMIND_SECONDS
        if (self.is_alive() or not self._complete) and not reported:
            logger.warning(
                "MLflow at %s does not have all of this run yet; send the rest with: acn track sync %s "
                "--tracking.mlflow %s",
                self._mirror.store,
                self._mirror.run_dir,
                self._mirror.store,
            )

    def run(self) -> None:
        """Push until the run is closed, and once more; `start` calls this in the thread."""
        pause = _FIRST_PAUSE
        while True:
            last = self._closing.is_set()
            self._complete = self._push()
            self._tried.set()
            if last:
                return
            self._closing.wait(_FLUSH_SECONDS if self._complete else pause)
            pause = _FIRST_PAUSE if self._complete else min(2 * pause, _LONGEST_PAUSE)

    def _push(self) -> bool:
        """Push once; a failure is reported the first time only."""
        try:
            self._mirror.push()
        except Exception as error:  # whatever MLflow, its database or the network come up with
            if self._warned_at is None:
                self._warned_at = time.monotonic()
                logger.warning(
                    "MLflow at %s failed (%s). The run goes on and records everything in %s; MLflow is tried again "
                    "from time to time, and `acn track sync %s --tracking.mlflow %s` sends what it misses in the end.",
                    self._mirror.store,
                    self._mirror.explain(error),
                    self._mirror.run_dir / METRICS,
                    self._mirror.run_dir,
                    self._mirror.store,
                )
            return False
        return True


class MlflowMirror:
    """One run in one MLflow store. Not for several threads at once; every method may raise whatever MLflow does.

    Args:
        uri: MLflow tracking URI.
        run_dir: folder of the run.
        to: where a new run goes there, if not to the record's experiment; the MLflow run to go on with, if any.
        resend: compare every metric with the store instead of trusting what mlflow.json says was sent, and leave that
            file alone when it is about another store.
    """

    def __init__(self, uri: str, run_dir: Path, to: Destination | None = None, resend: bool = False) -> None:
        self.run_id: str | None = None
        """Id of the MLflow run once the server has answered."""
        self.experiment_id = ""
        """Id of its experiment, then."""
        self._to = to
        # Absolute, so that a later change of the working folder does not open another database.
        self._database = sqlite_path(uri).absolute() if uri.startswith(SQLITE) else None
        uri = f"{SQLITE}{self._database}" if self._database else take_credentials(uri)
        self._uri = with_credentials(uri)
        self.store = without_credentials(uri)
        """The URI as it may be shown."""
        self.run_dir = run_dir
        self._resend = resend
        self._sent_bytes = 0
        self._newest: dict[str, int] = {}  # milliseconds of the newest point that the store had, by metric
        self._sent_files: dict[str, str] = {}
        self._refused: set[str] = set()
        self._sent_record: Record | None = None
        self._saved_state: dict[str, Any] | None = None
        self._client: Any = None
        import_mlflow()

    def explain(self, error: Exception) -> str:
        """Why a push failed, in a line without credentials."""
        reason = hide_credentials((str(error).strip().splitlines() or [""])[0][:300])
        return reason if isinstance(error, LaunchError) else f"{type(error).__name__}: {reason}"

    def push(self) -> None:
        """Send what the store does not have yet of the record; raises at the first failure, and can be called again."""
        record = read_record(self.run_dir)
        assert record is not None, f"{self.run_dir} has no record"
        if self.run_id is None:
            self._open_run(record)
        if record != self._sent_record:
            self._push_params_and_tags(record)
        self._push_metrics()
        self._push_files(record)
        if record != self._sent_record:
            self._push_status(record)
        self._sent_record = record
        self._save_state(record.experiment)

    def _open_run(self, record: Record) -> None:
        """Connect; continue the run that mlflow.json or the record's id leads to, or create one."""
        from mlflow import MlflowClient

        if self._database is not None:
            check_database(self._database)
        self._client = MlflowClient(tracking_uri=self._uri)
        state = self._read_state()
        run_id = state.get("run_id")
        if self._to is not None and self._to.run_id not in (None, run_id):
            run_id = check_run(self._client, self._to)
            if self._to.run_name is not None:
                self._client.update_run(run_id, name=self._to.run_name)
        if run_id is None or not is_active(self._client, run_id):
            run_id = self._create_run(record)
        if run_id != state.get("run_id"):
            state = {}
        if not self._resend:
            self._sent_bytes = state.get("sent_bytes", 0)
            self._sent_files = state.get("sent_files", {})
        run = self._client.get_run(run_id)
        self._newest = {metric.key: metric.timestamp for metric in run.data._metric_objs}
        self.run_id, self.experiment_id = run_id, run.info.experiment_id
        self._save_state(record.experiment)

    def _create_run(self, record: Record) -> str:
        """The id of the record's run in the experiment where it belongs; a new one unless it is there already."""
        wanted = self._to.experiment_id if self._to else None
        if wanted is not None:
            experiment = check_experiment(self._client, wanted)
        else:
            experiment = open_experiment(self._client, record.experiment, self._database)
        run_id = self._find_run(experiment, record)
        if run_id is None:
            tags = {"mlflow.user": _find_user(), "mlflow.source.name": Path(sys.argv[0]).name, ID_TAG: record.id}
            start = round(record.started * 1000)
            self._client.create_run(experiment, start_time=start, tags=tags, run_name=record.name)
            run_id = self._find_run(experiment, record)
            assert run_id is not None, "MLflow has just created it"
        return run_id

    def _find_run(self, experiment: str, record: Record) -> str | None:
        """The record's run in the experiment. A server that hung may have created several: the first one is kept."""
        same_id = f"tags.`{ID_TAG}` = '{record.id}'"
        first, *others = self._client.search_runs([experiment], same_id, order_by=["attributes.run_id"]) or [None]
        for run in others:
            self._client.delete_run(run.info.run_id)
        return first.info.run_id if first else None

    def _read_state(self) -> dict[str, Any]:
        """What mlflow.json says, if it is about this store."""
        state = read_state(self.run_dir)
        return state if state.get("tracking_uri") == self.store else {}

    def _save_state(self, experiment: str) -> None:
        """Remember the run and what it has, so that a restarted process goes on from there."""
        if self._resend and (self.run_dir / STATE).exists() and not self._read_state():
            return
        state: dict[str, Any] = {"run_id": self.run_id, "experiment": experiment, "tracking_uri": self.store}
        state |= {"sent_bytes": self._sent_bytes, "sent_files": dict(self._sent_files)}
        if state != self._saved_state:
            write_json(self.run_dir / STATE, state)
            self._saved_state = state

    def _push_params_and_tags(self, record: Record) -> None:
        from mlflow.entities import Param, RunTag

        known = self._client.get_run(self.run_id).data
        params = {_clean_name(name): _shorten_param(value) for name, value in record.params.items()}
        tags = {ID_TAG: record.id} | {_clean_name(name): value[:_MAX_TAG] for name, value in record.tags.items()}
        self._log("params", [Param(*item) for item in params.items() if item[0] not in known.params])
        self._log("tags", [RunTag(*item) for item in tags.items() if known.tags.get(item[0]) != item[1]])

    def _log(self, kind: str, entries: list[Any], size: int = _ENTRIES_PER_BATCH) -> None:
        """Send params, tags or metrics in batches that the server accepts."""
        for start in range(0, len(entries), size):
            self._client.log_batch(self.run_id, **{kind: entries[start : start + size]})

    def _push_metrics(self) -> None:
        """Send the lines after the last confirmed one, in batches."""
        path = self.run_dir / METRICS
        if path.exists() and path.stat().st_size < self._sent_bytes:
            self._sent_bytes = 0  # another file than the one that was sent
        points: list[tuple[str, float, int, int]] = []
        end = self._sent_bytes
        for end, found in read_points(path, self._sent_bytes):
            points += found
            if len(points) >= _METRICS_PER_BATCH:
                self._send(points, end)
                points = []
        self._send(points, end)

    def _send(self, points: list[tuple[str, float, int, int]], end: int) -> None:
        from mlflow.entities import Metric

        if end == self._sent_bytes:
            return
        metrics = [Metric(_clean_name(name), value, when, step) for name, value, when, step in points]
        missing = [metric for metric in metrics if metric.timestamp >= self._newest.get(metric.key, 0)]
        self._log("metrics", missing, _METRICS_PER_BATCH)
        self._sent_bytes = end

    def _push_files(self, record: Record) -> None:
        """Upload the files and folders that changed since they were last sent; none that lead out of the run's."""
        for name, artifact_path in record.files.items():
            try:
                path = file_to_send(self.run_dir, name)
            except DataError as error:
                if name not in self._refused:
                    logger.warning("not sent to MLflow: %s", error)
                    self._refused.add(name)
                continue
            content = _describe_content(path)
            if content is None or self._sent_files.get(name) == content:
                continue
            upload = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            upload(self.run_id, str(path), artifact_path)
            self._sent_files[name] = content

    def _push_status(self, record: Record) -> None:
        if record.status == "RUNNING":
            self._client.update_run(self.run_id, status="RUNNING")
        else:
            ended = round((record.ended or record.started) * 1000)
            self._client.set_terminated(self.run_id, record.status, end_time=ended)


def file_to_send(run_dir: Path, name: str) -> Path:
    """The file or folder that a record names.

    Raises:
        DataError: it, or something in it, is no regular file of the run's folder.
    """
    path = path_inside(run_dir, name)
    if path.is_dir():
        files_inside(path)
    return path


@dataclass
class _State:
    """The content of mlflow.json."""

    run_id: str
    experiment: str
    tracking_uri: str
    """Without a password."""
    sent_bytes: int
    """Of metrics.jsonl."""
    sent_files: dict[str, str]


def read_state(run_dir: Path) -> dict[str, Any]:
    """What mlflow.json says of the run in `run_dir`; nothing if it is missing or damaged."""
    try:
        return vars(data_pipeline.read_record(_State, run_dir / STATE))
    except DataError:
        return {}


def _describe_content(path: Path) -> str | None:
    """What changes when a file, or a file in a folder, does; None when there is nothing."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    try:
        found = [(file.stat().st_mtime_ns, file.stat().st_size) for file in files if not file.is_dir()]
    except FileNotFoundError:
        return None
    return f"{len(found)} files, {sum(size for _, size in found)} bytes, {max(found)[0]}" if found else None


def _clean_name(name: str) -> str:
    """`name` with what MLflow forbids in names replaced."""
    return re.sub(r"[^\w./ -]", "_", name)[:_MAX_NAME]


def _shorten_param(value: str) -> str:
    return value if len(value) <= _MAX_PARAM else value[: _MAX_PARAM - 3] + "..."


def _find_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in the password file
        return str(os.getuid())
