from .mlflow_mirror import SQLITE, import_mlflow, sqlite_path, without_password
from .record import METRICS, read_points, read_record, write_json
from .sync import SyncConfig, check_run_dir, sync_run
from .tracker import Tracker, TrackingConfig, flatten, open_tracker

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
    "sqlite_path",
    "sync_run",
    "without_password",
    "write_json",
]
