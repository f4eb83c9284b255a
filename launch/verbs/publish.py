"""acn publish"""

from dataclasses import dataclass

from ..publishing import PublishConfig
from . import large_imports

COMMON = (
    "config", "model", "repo_id", "dry_run", "output", "public", "license", "language", "depths", "cuts",
    "steps", "run", "glue",
)  # fmt: skip
EXAMPLE = "acn publish runs/small --repo_id me/acn-small --dry_run --output runs/hub"


@dataclass
class Args(PublishConfig):
    """Publish a model, whole and cut, or a corpus on the Hugging Face Hub, with its card."""


def run(args: Args) -> int:
    """Write the publication, send it, say its address."""
    with large_imports():
        from ..publishing import publish_source

    publish_source(args)
    return 0
