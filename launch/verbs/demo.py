"""acn demo"""

from dataclasses import dataclass

from ..demo import DemoConfig

EXAMPLE = "acn demo"


@dataclass
class Args(DemoConfig):
    """The whole chain on the documentation of the installed Python packages, offline."""


def run(args: Args) -> int:
    """Run every stage and show what to look at."""
    from ..demo import demo

    return demo(args)
