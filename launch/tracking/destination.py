"""Where in MLflow a run goes, who said so, and where to look at it."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from data_pipeline import take_credentials, without_credentials

from .config import (
    AUTO,
    DEFAULT_EXPERIMENT,
    EXPERIMENT_ID_VARIABLE,
    EXPERIMENT_VARIABLE,
    SQLITE,
    URI_VARIABLE,
    TrackingConfig,
    sqlite_path,
    variable,
)

RUN_ID_VARIABLE = "MLFLOW_RUN_ID"
EXPERIMENT_OPTION = "--tracking.experiment"
_DEFAULT = "the default"
# MLflow's pages open in the half for GenAI, which is empty, unless they are told of the one that has runs
_TRAINING = "workflowType=machine_learning"


@dataclass(frozen=True)
class Destination:
    """A place in an MLflow store, as options and MLflow's own environment variables name it; options win."""

    uri: str
    """The store, without credentials."""
    uri_from: str
    """Who named it."""
    experiment: str
    """Name of the experiment that a new run goes to, unless `experiment_id` says another."""
    experiment_from: str
    """Who named it."""
    experiment_id: str | None = None
    """Id of the experiment, where the environment names it by that alone."""
    run_id: str | None = None
    """The MLflow run to go on with."""
    run_name: str | None = None
    """What an option calls the run."""

    def __str__(self) -> str:
        """A line for the user."""
        name = f"experiment {self.experiment_id or self.experiment} ({self.experiment_from})"
        place = f"{shown_uri(self.uri)} ({self.uri_from})"
        if self.run_id is not None:
            return f"MLflow: {place}, going on with run {self.run_id} ({RUN_ID_VARIABLE})"
        return f"MLflow: {place}, {name}"


def find_destination(config: TrackingConfig) -> Destination | None:
    """Where a run with this configuration goes; None where MLflow is switched off.

    Like MLflow, the first run of a process takes MLFLOW_RUN_ID out of the environment: those below it have their own.
    """
    config = take_credentials(config)
    if config.mlflow is None:
        return None
    found = config.resolved
    assert found.mlflow is not None, "it is not switched off"
    uri_from = "--tracking.mlflow"
    if config.mlflow == AUTO:
        uri_from = URI_VARIABLE if variable(URI_VARIABLE) else _DEFAULT
    experiment_id, experiment_from = None, EXPERIMENT_OPTION
    if config.experiment == AUTO:
        experiment_id = None if variable(EXPERIMENT_VARIABLE) else variable(EXPERIMENT_ID_VARIABLE)
        by_name = EXPERIMENT_VARIABLE if variable(EXPERIMENT_VARIABLE) else _DEFAULT
        experiment_from = EXPERIMENT_ID_VARIABLE if experiment_id else by_name
    name = DEFAULT_EXPERIMENT if found.experiment == AUTO else found.experiment
    uri = without_credentials(found.mlflow)
    return Destination(uri, uri_from, name, experiment_from, experiment_id, _take_run_id(uri), config.run_name)


def _take_run_id(uri: str) -> str | None:
    """MLFLOW_RUN_ID, unless it is of another store than the one that an option names."""
    run_id = os.environ.pop(RUN_ID_VARIABLE, "").strip() or None
    named = variable(URI_VARIABLE)
    return run_id if named is None or without_credentials(named) == uri else None


def shown_uri(uri: str) -> str:
    """A store as it can be opened from any folder, without credentials."""
    return f"{SQLITE}{sqlite_path(uri).absolute()}" if uri.startswith(SQLITE) else without_credentials(uri)


def way_to_all(uri: str) -> str:
    """What to open, or to run, to see all runs of a store, for those who need no page of one."""
    if uri.startswith(("http://", "https://")):
        return f"{without_credentials(uri).rstrip('/')}/#/experiments?{_TRAINING}"
    return f"mlflow ui --backend-store-uri {shlex.quote(shown_uri(uri))}   (in it: Model training)"


def ways_to_look(uri: str, experiment_id: str, run_id: str) -> list[str]:
    """What to open, or to run and then to open, to see a run."""
    page = f"#/experiments/{experiment_id}/runs/{run_id}?{_TRAINING}"
    if uri.startswith(("http://", "https://")):
        return [f"MLflow: {without_credentials(uri).rstrip('/')}/{page}"]
    if uri.startswith("databricks"):
        return [f"MLflow: run {run_id} of experiment {experiment_id} in the Databricks workspace"]
    return [
        f"MLflow: mlflow ui --backend-store-uri {shlex.quote(shown_uri(uri))}",
        f"        then open http://127.0.0.1:5000/{page}",
    ]


def missing_there(uri: str, run_dir: Path) -> str:
    """What to do for a run that the store has not taken."""
    command = shlex.join(["acn", "track", "sync", str(run_dir), "--tracking.mlflow", shown_uri(uri)])
    return f"MLflow: {shown_uri(uri)} does not have this run yet; send it: {command}"
