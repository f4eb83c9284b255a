from .config import ENGINES, LaunchConfig
from .fit import fit_micro_batch, recipe_problems
from .render import header_problems, render_job
from .submit import SubmitError

__all__ = [
    "ENGINES",
    "LaunchConfig",
    "SubmitError",
    "fit_micro_batch",
    "header_problems",
    "recipe_problems",
    "render_job",
]
