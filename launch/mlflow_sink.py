"""A run's record in MLflow that never fails or stalls the run. See `launch.tracking`."""

import getpass
import json
import logging
import math
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

logger = logging.getLogger(__name__)

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

SQLITE = "sqlite:///"
"""How the URI of an SQLite file begins."""

# Limits that every MLflow server since 1.x accepts; newer ones take longer values.
_MAX_NAME, _MAX_PARAM, _MAX_TAG = 250, 500, 5000
_PARAMS_PER_BATCH, _METRICS_PER_BATCH = 100, 1000
# Points that wait in memory for a server that is down; the oldest give way, and metrics.jsonl has them all.
_MAX_PENDING = 50_000
# After a failed call MLflow is left alone for this many seconds, or for this many times as long as the
# call had blocked, so that a dead server costs a run at most about 5 % of its time.
_HOLD_OFF_SECONDS, _HOLD_OFF_FACTOR = 30.0, 20.0


class MlflowSink:
    """One MLflow run, found again through `RUN/mlflow.json` after a restart.

    No call raises for MLflow's sake. The first failure is reported, once; metrics then wait in memory and
    later calls try again after a pause. Figures and parameters of that time are not repeated: they are in
    the run's folder.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        run_dir: Path,
        run_name: str,
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        self.run_id: str | None = None
        """Id of the run once the server has answered."""
        # Absolute, so that a later change of the working folder does not open another database.
        self._database = sqlite_path(uri).absolute() if uri.startswith(SQLITE) else None
        self._uri = f"{SQLITE}{self._database}" if self._database else uri
        self._experiment = experiment
        self._run_dir = run_dir
        self._run_name = run_name
        self._first_params = params
        self._tags = {_name(key): str(value)[:_MAX_TAG] for key, value in tags.items()}
        self._client: Any = None
        self._pending: deque[tuple[str, float, int, int]] = deque(maxlen=_MAX_PENDING)
        self._held_off_until = -math.inf
        self._warned = False
        self._attempt(lambda: None)

    def log_metrics(self, values: Mapping[str, float], step: int, when: float) -> None:
        """Queue the points and send everything queued."""
        self._pending.extend((_name(key), value, round(when * 1000), step) for key, value in values.items())
        self._attempt(self._send_pending)

    def log_params(self, params: Mapping[str, str]) -> None:
        """Send parameters; what MLflow already has with another value becomes a tag param.changed.NAME."""
        self._attempt(lambda: self._send_params(params))

    def log_figure(self, path: Path, artifact_path: str) -> None:
        """Upload the file."""
        self._attempt(lambda: self._client.log_artifact(self.run_id, str(path), artifact_path))

    def close(self, status: RunStatus) -> None:
        """Send what is queued and end the run; the last attempt is made even during a pause."""
        self._held_off_until = -math.inf
        self._attempt(self._send_pending)
        self._attempt(lambda: self._client.set_terminated(self.run_id, status))

    def _attempt(self, call: Callable[[], Any]) -> None:
        """Run `call` with an open run, unless MLflow failed a moment ago."""
        began = time.monotonic()
        if began < self._held_off_until:
            return
        try:
            if self.run_id is None:
                self._start()
            call()
        except Exception as error:  # whatever MLflow, its database or the network come up with
            now = time.monotonic()
            self._held_off_until = now + max(_HOLD_OFF_SECONDS, _HOLD_OFF_FACTOR * (now - began))
            if not self._warned:
                self._warned = True
                reason = (str(error).strip().splitlines() or [""])[0][:300]
                logger.warning(
                    "MLflow at %s failed (%s: %s). The run goes on and records everything in %s; "
                    "MLflow is tried again from time to time.",
                    _without_password(self._uri),
                    type(error).__name__,
                    reason.replace(self._uri, _without_password(self._uri)),
                    self._run_dir / "metrics.jsonl",
                )

    def _start(self) -> None:
        """Connect; continue the run that mlflow.json names or create one."""
        self._client = _connect(self._uri, self._database)
        run_id = self._resumed_run()
        if run_id is None:
            tags = {"mlflow.user": _user(), "mlflow.source.name": Path(sys.argv[0]).name, **self._tags}
            experiment = self._experiment_id()
            run_id = self._client.create_run(experiment, tags=tags, run_name=self._run_name).info.run_id
            self._remember(run_id)
        self.run_id = run_id
        self._send_params(self._first_params)

    def _resumed_run(self) -> str | None:
        """The run of mlflow.json, running again, or None if this store has no such run (any more)."""
        from mlflow.exceptions import MlflowException

        try:
            run_id = json.loads((self._run_dir / "mlflow.json").read_text(encoding="utf-8"))["run_id"]
            run = self._client.get_run(run_id)
        except FileNotFoundError:
            return None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        if run.info.lifecycle_stage != "active":
            return None
        self._client.update_run(run_id, status="RUNNING")
        for key, value in self._tags.items():
            if run.data.tags.get(key) != value:
                self._client.set_tag(run_id, key, value)
        return run_id

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            # Without a location a local store would put its artifacts into the working folder.
            location = (self._database.parent / "mlruns").as_uri() if self._database else None
            try:
                return self._client.create_experiment(self._experiment, artifact_location=location)
            except MlflowException:  # another process was faster
                found = self._client.get_experiment_by_name(self._experiment)
                if found is None:
                    raise
        return found.experiment_id

    def _remember(self, run_id: str) -> None:
        record = {
            "run_id": run_id,
            "experiment": self._experiment,
            "tracking_uri": _without_password(self._uri),
        }
        aside = self._run_dir / "mlflow.json.tmp"
        aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        os.replace(aside, self._run_dir / "mlflow.json")

    def _send_pending(self) -> None:
        from mlflow.entities import Metric

        while self._pending:
            points = list(islice(self._pending, _METRICS_PER_BATCH))
            self._client.log_batch(self.run_id, metrics=[Metric(*point) for point in points])
            for _ in points:  # only now: a failed batch is sent again (MLflow drops the doubles)
                self._pending.popleft()

    def _send_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        known = self._client.get_run(self.run_id).data.params
        new, changed = [], []
        for key, value in _truncated(params).items():
            if key not in known:
                new.append(Param(key, value))
            elif known[key] != value:
                changed.append(RunTag(_name(f"param.changed.{key}"), value))
        for start in range(0, len(new), _PARAMS_PER_BATCH):
            self._client.log_batch(self.run_id, params=new[start : start + _PARAMS_PER_BATCH])
        for start in range(0, len(changed), _PARAMS_PER_BATCH):
            self._client.log_batch(self.run_id, tags=changed[start : start + _PARAMS_PER_BATCH])


def _connect(uri: str, database: Path | None) -> Any:
    """Return an `MlflowClient` with short time-outs. Imports MLflow, which takes seconds."""
    # MLflow's defaults block one call on a dead server for minutes. The user's own settings win.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    # Creating the tables of a new database is not news to the user (50 lines otherwise).
    for chatty in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)


def sqlite_path(uri: str) -> Path:
    """The database file that an SQLite URI names, relative to the working folder if the URI is."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def _name(name: str) -> str:
    """`name` with what MLflow forbids in names replaced."""
    return re.sub(r"[^\w./ -]", "_", name)[:_MAX_NAME]


def _truncated(params: Mapping[str, str]) -> dict[str, str]:
    return {
        _name(key): value if len(value) <= _MAX_PARAM else value[: _MAX_PARAM - 3] + "..."
        for key, value in params.items()
    }


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.username is None and parts.password is None:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in the password file
        return str(os.getuid())
