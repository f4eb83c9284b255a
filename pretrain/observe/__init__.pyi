from .config import ProbesConfig, ProfileConfig
from .console import Console, LineConsole
from .figures import HEATMAPS, Curves, draw_side_by_side, read_metrics, rows_of
from .meter import peak_memory
from .observer import Observer, Tracker
from .peak import DTYPES, known_peak, peak_flops
from .sample_log import SampleLog

__all__ = [
    "DTYPES",
    "HEATMAPS",
    "Console",
    "Curves",
    "LineConsole",
    "Observer",
    "ProbesConfig",
    "ProfileConfig",
    "SampleLog",
    "Tracker",
    "draw_side_by_side",
    "known_peak",
    "peak_flops",
    "peak_memory",
    "read_metrics",
    "rows_of",
]
