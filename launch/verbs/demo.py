"""acn demo"""

from dataclasses import dataclass

from ..demo import DemoConfig, demo


@dataclass
class Args(DemoConfig):
    """The whole chain on the documentation of the installed Python packages, offline."""


def run(args: Args) -> int:
    """Run every stage and show what to look at."""
    return demo(args)
