"""acn publish"""

from dataclasses import dataclass

from ..publishing import PublishConfig
from . import large_imports


@dataclass
class Args(PublishConfig):
    """Publish a model, whole and cut, or a corpus on the Hugging Face Hub, with its card."""


def run(args: Args) -> int:
    """Write the publication, send it, say its address."""
    with large_imports():
        from ..publishing import publish_source

    publish_source(args)
    return 0
