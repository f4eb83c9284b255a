from .aggregate import aggregate_seeds, glue_average
from .config import FinetuneConfig
from .encoding import count_cut, encode, say_cut
from .finetune import run_trainer, subset, trainer_arguments
from .recorded import load_recorded
from .suite import TRACKING_FOLDER, check_suite, run_suite
from .trial import EVAL_SUBSET_SEED

__all__ = [
    "EVAL_SUBSET_SEED",
    "TRACKING_FOLDER",
    "FinetuneConfig",
    "aggregate_seeds",
    "check_suite",
    "count_cut",
    "encode",
    "glue_average",
    "load_recorded",
    "run_suite",
    "run_trainer",
    "say_cut",
    "subset",
    "trainer_arguments",
]
