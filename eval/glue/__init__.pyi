from .aggregate import aggregate_seeds, glue_average
from .config import FinetuneConfig
from .encoding import count_cut, encode, say_cut
from .finetune import subset, trainer_arguments
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
    "say_cut",
    "subset",
    "trainer_arguments",
]
