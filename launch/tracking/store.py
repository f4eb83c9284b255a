"""An MLflow store: whether it can be used, and the experiments and runs that are asked for there.

`client` is an `MlflowClient`; whatever it raises goes up.
"""

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from data_pipeline import without_credentials

from ..errors import LaunchError
from .config import EXPERIMENT_ID_VARIABLE
from .destination import EXPERIMENT_OPTION, RUN_ID_VARIABLE, Destination


def import_mlflow() -> None:
    """Import MLflow, which takes seconds, here and now: in a thread it could meet a half-imported module of another.

    MLflow's defaults block one call on a dead server for minutes; the user's own settings win over ours.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow.entities
    import mlflow.store.tracking.rest_store  # noqa: F401

    # Creating the tables of a new database is not news to the user (50 lines otherwise).
    for chatty in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def check_database(path: Path) -> None:
    """Raise `LaunchError` if an SQLite file cannot be written: MLflow would try to open it for minutes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("CREATE TABLE acn_can_write (x)")
            database.execute("ROLLBACK")
    except (OSError, sqlite3.Error) as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:  # somebody else is writing
            raise LaunchError(
                f"{path} cannot be written ({error}): choose another --tracking.mlflow, or make it writable"
            ) from error


def open_experiment(client: Any, name: str, database: Path | None) -> str:
    """The id of the experiment of that name, which is made when missing.

    Args:
        database: the file of a local store.

    Raises:
        LaunchError: it was deleted.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # Without a location a local store would put its artifacts into the working folder.
        location = (database.parent / "mlruns").as_uri() if database else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return _active(client, found)


def check_experiment(client: Any, number: str) -> str:
    """The id, if there is an experiment of it.

    Raises:
        LaunchError: there is none, or it was deleted.
    """
    from mlflow.exceptions import MlflowException

    try:
        return _active(client, client.get_experiment(number))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise LaunchError(
            f"{EXPERIMENT_ID_VARIABLE}={number}: there is no such experiment there; correct it, or name one with "
            "--tracking.experiment"
        ) from error


def _active(client: Any, experiment: Any) -> str:
    if experiment.lifecycle_stage != "active":
        raise LaunchError(
            f"experiment {experiment.name} was deleted there: bring it back with "
            f"`MLFLOW_TRACKING_URI={without_credentials(client.tracking_uri)} mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}`; a new run may have another one, --tracking.experiment"
        )
    return experiment.experiment_id


def is_active(client: Any, run_id: str) -> bool:
    """Whether the store has the run, and it is not deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def check_run(client: Any, to: Destination) -> str:
    """The MLflow run that the environment wants continued.

    Raises:
        LaunchError: it is not there, or not in the experiment that an option names.
    """
    assert to.run_id is not None, "nobody wants one"
    wanted = f"{RUN_ID_VARIABLE}={to.run_id}"
    if not is_active(client, to.run_id):
        raise LaunchError(f"{wanted}: there is no such run there; correct it, or unset it to have a new one")
    name = client.get_experiment(client.get_run(to.run_id).info.experiment_id).name
    if to.experiment_from == EXPERIMENT_OPTION and name != to.experiment:
        raise LaunchError(f"{wanted} is a run of experiment {name}: leave --tracking.experiment {to.experiment} out")
    return to.run_id
