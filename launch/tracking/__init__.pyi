from .config import SQLITE, SyncConfig, TrackingConfig, sqlite_path
from .mlflow_mirror import import_mlflow, read_state
from .record import METRICS, flatten, read_points, read_record
from .sync import check_run_dir, sync_run
from .tracker import Tracker, open_tracker

__all__ = [
    "METRICS",
    "SQLITE",
    "SyncConfig",
    "Tracker",
    "TrackingConfig",
    "check_run_dir",
    "flatten",
    "import_mlflow",
    "open_tracker",
    "read_points",
    "read_record",
    "read_state",
    "sqlite_path",
    "sync_run",
]
