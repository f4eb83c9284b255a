"""Send the record of a run to an MLflow server, again or for the first time."""

import os
from pathlib import Path

from ..config_file import RUN_CONFIG, read_config
from ..errors import LaunchError
from .config import SyncConfig
from .mlflow_mirror import MlflowMirror, read_state, without_password
from .record import METRICS, Record, flatten, read_record


def sync_run(run_dir: Path, config: SyncConfig) -> tuple[str, str]:
    """Bring parameters, tags, every metric, the files and the status of the run in `run_dir` to the server.

    Can be repeated: what the server has is not doubled. A run of before record.json existed gets a record from its
    config.yaml. A run that is going on may be synced too.

    Returns:
        The server, without password, and the id of its MLflow run.

    Raises:
        LaunchError: `run_dir` is no run, no server is known, or the server failed; the message has its reason.
    """
    check_run_dir(run_dir, config)
    if read_record(run_dir) is None:
        _make_record(run_dir).save(run_dir)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")  # nobody trains meanwhile: a slow server may be slow
    mirror = MlflowMirror(config.mlflow or _find_uri(run_dir), run_dir, resend=True)
    try:
        mirror.push()
    except Exception as error:  # whatever MLflow, its database or the network come up with
        reason = mirror.explain(error)
        raise LaunchError(f"MLflow at {mirror.store} failed ({reason}); what it has is kept, sync again") from error
    assert mirror.run_id is not None
    return mirror.store, mirror.run_id


def check_run_dir(run_dir: Path, config: SyncConfig) -> None:
    """Raise `LaunchError` if `run_dir` is no run, or nobody knows which server is meant."""
    if not (run_dir / METRICS).is_file():
        raise LaunchError(f"{run_dir} has no {METRICS}: give the folder of a run")
    if config.mlflow is None and _find_uri(run_dir) == "":
        raise LaunchError(f"{run_dir} was recorded without MLflow: say which server, --tracking.mlflow URI")


def _find_uri(run_dir: Path) -> str:
    """The server that the run recorded to, or "" for none."""
    configured = _read_config(run_dir).get("tracking", {}).get("mlflow") or ""
    used = read_state(run_dir).get("tracking_uri", configured)
    # mlflow.json has the absolute path of a database, but no password
    return configured if without_password(configured) == used else used


def _make_record(run_dir: Path) -> Record:
    """The record of a run of before record.json existed, as far as its folder tells."""
    config = _read_config(run_dir)
    experiment = config.get("tracking", {}).get("experiment", "acn-lm")
    files = {path.name: "figures" for path in sorted(run_dir.glob("*.png"))}
    return Record(run_dir.resolve().name, experiment, params=flatten(config), files=files)


def _read_config(run_dir: Path) -> dict:
    return read_config(run_dir) if (run_dir / RUN_CONFIG).exists() else {}
