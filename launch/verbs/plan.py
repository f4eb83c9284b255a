"""acn plan"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ..cluster.planning import PlanConfig
from ..errors import LaunchError
from . import large_imports


@dataclass
class Args(PlanConfig):
    """What a recipe needs on a cluster, before it is paid for: memory of every ZeRO stage, time, disk, price."""


def run(args: Args) -> int:
    """Plan, search the micro-batch on this machine's GPU if asked to, print."""
    with large_imports():
        import torch
        from rich.console import Console

        from ..cluster.planning import plan_run, render_plan, search_micro_batch

    if args.find_micro_batch and not torch.cuda.is_available():
        raise LaunchError("find_micro_batch: this machine has no GPU to try on; the table estimates what fits")
    plan = plan_run(args)
    console = Console(width=None if os.isatty(1) else 120, highlight=False)
    render_plan(plan, console)
    found = plan.plain()
    if args.find_micro_batch:
        found["largest_micro_batch"] = search_micro_batch(args, plan)
        console.print(
            f"Largest micro-batch on this machine's {torch.cuda.get_device_name()}: {found['largest_micro_batch']}"
        )
    if args.json is not None:
        path = Path(args.json)
        aside = path.with_name(f".{path.name}.tmp")
        aside.write_text(json.dumps(found, indent=1) + "\n")
        os.replace(aside, path)
    return 0
