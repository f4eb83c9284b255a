from .config import EmaConfig, OptimConfig
from .ema import EMA_FILE, Ema
from .optimizers import CONVERTIBLE, adapt_to_engine, build_optimizer, master_copies, set_learning_rate
from .schedule import ScheduleConfig

__all__ = [
    "CONVERTIBLE",
    "EMA_FILE",
    "Ema",
    "EmaConfig",
    "OptimConfig",
    "ScheduleConfig",
    "adapt_to_engine",
    "build_optimizer",
    "master_copies",
    "set_learning_rate",
]
