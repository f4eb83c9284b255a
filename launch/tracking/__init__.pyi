from .config import AUTO, SQLITE, URI_VARIABLE, SyncConfig, TrackingConfig, sqlite_path
from .destination import way_to_all
from .mlflow_mirror import read_state
from .record import METRICS, flatten, read_points, read_record
from .store import import_mlflow
from .sync import check_run_dir, is_run, sync_run
from .tracker import Tracker, open_tracker

__all__ = [
    "AUTO",
    "METRICS",
    "SQLITE",
    "URI_VARIABLE",
    "SyncConfig",
    "Tracker",
    "TrackingConfig",
    "check_run_dir",
    "flatten",
    "import_mlflow",
    "is_run",
    "open_tracker",
    "read_points",
    "read_record",
    "read_state",
    "sqlite_path",
    "sync_run",
    "way_to_all",
]
