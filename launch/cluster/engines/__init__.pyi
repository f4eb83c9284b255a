from .config import ENGINES, LaunchConfig
from .fit import fit_job, recipe_problems
from .render import header_problems, render_job
from .submit import SubmitError

__all__ = [
    "ENGINES",
    "LaunchConfig",
    "SubmitError",
    "fit_job",
    "header_problems",
    "recipe_problems",
    "render_job",
]
