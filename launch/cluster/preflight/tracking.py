"""Would MLflow take the run's numbers?"""

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from data_pipeline import hide_credentials, with_credentials, without_credentials

from ...tracking import SQLITE, import_mlflow, sqlite_path
from .checks import Answer, Check, Facts, Site
from .findings import Finding, fine, warning
from .job import reach
from .storage import existing

_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def _mlflow(site: Site) -> Facts:
    tracking = site.tracking.resolved
    uri = tracking.mlflow
    if uri is None:
        return {"store": None}
    facts: Facts = {"store": without_credentials(uri)}
    scheme = uri.partition(":")[0].partition("+")[0]
    if uri.startswith(SQLITE):
        folder = existing(sqlite_path(uri).absolute().parent)
        problem = "" if os.access(folder, os.W_OK) else f"{folder} is not writable"
    elif scheme in _DATABASE_PORTS:
        parts = urlsplit(uri)
        problem = reach(parts.hostname or "localhost", parts.port or _DATABASE_PORTS[scheme], until=0.0)
    else:
        problem = _ask(uri, tracking.experiment)
    return facts | {"problem": hide_credentials(problem)}


def _ask(uri: str, experiment: str) -> str:
    """Why the server at `uri` does not answer a question that changes nothing; empty when it does."""
    import_mlflow()
    from mlflow import MlflowClient

    try:
        MlflowClient(tracking_uri=with_credentials(uri)).get_experiment_by_name(experiment)
    except Exception as error:  # whatever MLflow or the network come up with
        parts = urlsplit(uri)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        unreachable = parts.hostname and reach(parts.hostname, port, until=0.0)  # says it more clearly than MLflow
        return unreachable or f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def _judge_mlflow(answers: Sequence[Answer], site: Site) -> list[Finding]:
    (answer,) = answers
    store, where = answer.facts["store"], answer.place.node
    if store is None:
        return [fine("mlflow", where, "switched off; metrics.jsonl only")]
    if problem := answer.facts["problem"]:
        fix = (
            "start the server, correct --tracking.mlflow, or train without it: metrics.jsonl has everything, and "
            "`acn track sync RUN --tracking.mlflow URI` sends it later"
        )
        return [warning("mlflow", where, f"{store} does not answer ({problem})", fix)]
    return [fine("mlflow", where, f"{store} answers" if "sqlite" not in store else f"{store} can be written")]


MLFLOW = Check("mlflow", "job", _mlflow, _judge_mlflow, seconds=20.0)
