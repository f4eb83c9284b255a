from .config import LaunchConfig
from .fit import fitted
from .render import header_problems, render_job
from .submit import SubmitError

__all__ = [
    "LaunchConfig",
    "SubmitError",
    "fitted",
    "header_problems",
    "render_job",
]
