"""Send the record of a run to an MLflow server, again or for the first time."""

import os
from pathlib import Path
from typing import Any

from data_pipeline import DataError, take_credentials, without_credentials

from ..config_file import RUN_CONFIG, read_config
from ..errors import LaunchError
from .config import (
    AUTO,
    DEFAULT_EXPERIMENT,
    DEFAULT_STORE,
    SQLITE,
    URI_VARIABLE,
    SyncConfig,
    TrackingConfig,
    sqlite_path,
    variable,
)
from .destination import ways_to_look
from .mlflow_mirror import MlflowMirror, file_to_send, read_state
from .record import METRICS, RECORD, Record, flatten, read_record


def is_run(folder: Path) -> bool:
    """Whether there is a record of a run, and not a file, a report or any other folder."""
    return (folder / METRICS).is_file() or (folder / RECORD).is_file()


def sync_run(run_dir: Path, config: SyncConfig) -> tuple[str, list[str]]:
    """Bring parameters, tags, every metric, the files and the status of the run in `run_dir` to the server.

    Can be repeated: what the server has is not doubled. A run of before record.json existed gets a record from its
    config.yaml. A run that is going on may be synced too. Run folders also come from others, so nothing of what they
    name is sent that lies outside of them, and nothing to a server that only they name.

    Returns:
        The id of its MLflow run, and the lines that say where to look at it.

    Raises:
        LaunchError: as `check_run_dir`, or the server failed; the message has its reason.
    """
    server = check_run_dir(run_dir, config)
    if read_record(run_dir) is None:
        _make_record(run_dir).save(run_dir)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")  # nobody trains meanwhile: a slow server may be slow
    mirror = MlflowMirror(server, run_dir, resend=True)
    try:
        mirror.push()
    except Exception as error:  # whatever MLflow, its database or the network come up with
        reason = mirror.explain(error)
        raise LaunchError(f"MLflow at {mirror.store} failed ({reason}); what it has is kept, sync again") from error
    assert mirror.run_id is not None
    return mirror.run_id, ways_to_look(mirror.store, mirror.experiment_id, mirror.run_id)


def check_run_dir(run_dir: Path, config: SyncConfig) -> str:
    """The server to send to.

    Raises:
        LaunchError: `run_dir` is no run, its record names files that are not its own, no server is known, or one that
            the user has not named.
    """
    if not (run_dir / METRICS).is_file():
        raise LaunchError(f"{run_dir} has no {METRICS}: give the folder of a run")
    record = read_record(run_dir)
    problems = []
    for name in record.files if record is not None else ():
        try:
            file_to_send(run_dir, name)
        except DataError as error:
            problems += error.problems
    if problems:
        raise LaunchError(*problems)
    return config.mlflow or _find_server(run_dir)


def _find_server(run_dir: Path) -> str:
    """The server that the run recorded to, where that is what every run of this folder or environment records to."""
    recorded = _recorded_server(run_dir)
    here = TrackingConfig().resolved.mlflow or ""
    if not recorded and variable(URI_VARIABLE):
        return here
    if not recorded:
        raise LaunchError(f"{run_dir} was recorded without MLflow: say which server, --tracking.mlflow URI")
    if _plain(recorded) not in map(_plain, (here, DEFAULT_STORE)):
        raise LaunchError(
            f"{run_dir} says that it was recorded to {recorded}, which only its own files name: if you want it sent "
            f"there, say so, --tracking.mlflow {recorded}"
        )
    return recorded


def _recorded_server(run_dir: Path) -> str:
    """What the files of the run say, without credentials; "" for none."""
    configured = _tracking(_read_config(run_dir)).get("mlflow") or ""
    if configured == AUTO:
        configured = TrackingConfig().resolved.mlflow
    return take_credentials(str(read_state(run_dir).get("tracking_uri", configured)))


def _plain(uri: str) -> str:
    """A server's URI to compare: mlflow.json has the absolute path of a database, and no password."""
    return str(sqlite_path(uri).resolve()) if uri.startswith(SQLITE) else without_credentials(uri).rstrip("/")


def _make_record(run_dir: Path) -> Record:
    """The record of a run of before record.json existed, as far as its folder tells."""
    config = _read_config(run_dir)
    experiment = str(_tracking(config).get("experiment", AUTO))
    experiment = DEFAULT_EXPERIMENT if experiment == AUTO else experiment
    files = {path.name: "figures" for path in sorted(run_dir.glob("*.png"))}
    return Record(run_dir.resolve().name, experiment, params=flatten(config), files=files)


def _tracking(config: dict[str, Any]) -> dict[str, Any]:
    tracking = config.get("tracking")
    return tracking if isinstance(tracking, dict) else {}


def _read_config(run_dir: Path) -> dict[str, Any]:
    return read_config(run_dir) if (run_dir / RUN_CONFIG).exists() else {}
