"""acn env"""

import json
import sys
from dataclasses import dataclass

EXAMPLE = "acn env --json"


@dataclass
class Args:
    """Versions, devices and backends of this machine, to paste into a bug report."""

    json: bool = False
    """Print JSON, for programs, instead of text."""


def run(args: Args) -> int:
    """Print what there is."""
    from .facts import as_block, describe_environment

    facts = describe_environment()
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        print(as_block(facts), flush=True)
        print("paste this into the bug report, with the command and its whole output", file=sys.stderr)
    return 0
