"""Where runs are recorded."""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipeline import Problem

AUTO = "auto"
DEFAULT_STORE, DEFAULT_EXPERIMENT = "sqlite:///mlruns.db", "acn-lm"
URI_VARIABLE, EXPERIMENT_VARIABLE = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
EXPERIMENT_ID_VARIABLE = "MLFLOW_EXPERIMENT_ID"
_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")


@dataclass
class TrackingConfig:
    """Where a run is recorded besides its own `metrics.jsonl`."""

    mlflow: str | None = AUTO
    """MLflow tracking URI: an SQLite file (sqlite:///mlruns.db), a server (http://host:port) or another
    database (postgresql://...). null records in metrics.jsonl only. auto: MLFLOW_TRACKING_URI, or without it
    sqlite:///mlruns.db."""

    experiment: str = AUTO
    """MLflow experiment that the run belongs to; created when missing. auto: MLFLOW_EXPERIMENT_NAME or
    MLFLOW_EXPERIMENT_ID, or without them acn-lm."""

    run_name: str | None = None
    """Name of the run in MLflow; null takes the name of the run's folder."""

    log_model: bool = False
    """Also copy the finished model (or models) into the run's artifacts: 440 MB for a BERT-base, so it must be asked
    for."""

    system_seconds: float = 10.0
    """Seconds between two samples of processors, memory and GPUs, logged with the next metrics; 0 for none."""

    close_seconds: float = 30.0
    """The longest that the end of a run waits for MLflow to take what is left; `acn track sync RUN` sends the rest."""

    def problems(self) -> list[Problem]:
        found = []
        if self.mlflow == AUTO:
            found += _uri_problems(variable(URI_VARIABLE) or DEFAULT_STORE, URI_VARIABLE)
        elif self.mlflow is not None:
            found += _uri_problems(self.mlflow)
        if not self.experiment.strip():
            found.append(Problem("tracking.experiment", wrong=": it is empty; give a name such as acn-lm"))
        if self.run_name is not None and not self.run_name.strip():
            found.append(
                Problem("tracking.run_name", wrong=": it is empty; give a name, or null for the folder's name")
            )
        for name in ("system_seconds", "close_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                found.append(Problem(f"tracking.{name}", getattr(self, name), "must be 0 or more seconds"))
        return found

    @property
    def resolved(self) -> "TrackingConfig":
        """The same with what `auto` stands for here; it stays for an experiment of which only the id is known."""
        store = (variable(URI_VARIABLE) or DEFAULT_STORE) if self.mlflow == AUTO else self.mlflow
        name = self.experiment
        if name == AUTO and (variable(EXPERIMENT_VARIABLE) or not variable(EXPERIMENT_ID_VARIABLE)):
            name = variable(EXPERIMENT_VARIABLE) or DEFAULT_EXPERIMENT
        return replace(self, mlflow=store, experiment=name)


def variable(name: str) -> str | None:
    """An environment variable; None also where it is empty."""
    return os.environ.get(name, "").strip() or None


def _uri_problems(uri: str, field: str = "tracking.mlflow") -> list[Problem]:
    """What is wrong with an MLflow tracking URI."""
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in _SCHEMES:
        return [
            Problem(
                field,
                wrong=f": {uri!r} is no tracking URI that MLflow accepts; use sqlite:///mlruns.db, http://host:port, a "
                "database URI, or null to switch MLflow off",
            )
        ]
    if scheme == "sqlite" and (not uri.startswith(SQLITE) or not sqlite_path(uri).name):
        return [
            Problem(
                field,
                wrong=f": {uri!r} names no database file; use sqlite:///FILE.db (three slashes and a relative "
                "path, or four and an absolute one)",
            )
        ]
    return []


@dataclass
class SyncConfig:
    """The server that gets the record."""

    mlflow: str | None = None
    """MLflow tracking URI; null takes the one that the run recorded to, where that is the default of all runs or
    MLFLOW_TRACKING_URI: any other has to be named."""

    def problems(self) -> list[Problem]:
        return _uri_problems(self.mlflow) if self.mlflow else []


SQLITE = "sqlite:///"
"""How the URI of an SQLite file begins."""


def sqlite_path(uri: str) -> Path:
    """The database file that an SQLite URI names, relative to the working folder if the URI is."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0])
