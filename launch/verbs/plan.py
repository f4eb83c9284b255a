"""acn plan"""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline import Problem, write_json

from ..cli import read_recipe
from ..cluster.planning import ClusterConfig
from ..config_file import report_problems
from ..errors import LaunchError
from . import large_imports

if TYPE_CHECKING:
    from rich.console import Console

    from ..cluster.planning import PlanConfig, RunPlan

COMMON = (
    "config", "options", "data", "vocab_size", "seq_length", "nodes", "gpus", "gpu", "mfu",
    "price_per_gpu_hour", "find_micro_batch", "json",
)  # fmt: skip
EXAMPLE = "acn plan --config acn-base --nodes 4 --gpus 8 --gpu H100 --price_per_gpu_hour 2.5"


@dataclass
class Args(ClusterConfig):
    """What a recipe needs on a cluster, before it is paid for: memory of every ZeRO stage, time, disk, price."""

    config: str | None = None
    """The recipe, as in `acn pretrain --config`: a file, or the name of one that comes with acn-lm. Left out: the
    defaults of `acn pretrain`."""
    options: str = ""
    """Further options of `acn pretrain`, in one string: "--steps 1000 --zero_stage 2"."""
    data: str | None = None
    """Folder written by `acn prepare`, if there is one: its vocabulary and sequence length are taken, and its size."""
    find_micro_batch: bool = False
    """Try on the GPU of this machine how large a micro-batch fits, which takes some seconds."""
    json: str | None = None
    """Also write the plan to this file; an earlier plan there is replaced."""


def problems(args: Args) -> list[Problem]:
    """What shows without torch, in the cluster and in the recipe."""
    return _read(args)[0]


def _read(args: Args) -> tuple[list[Problem], "PlanConfig"]:
    """Everything that is wrong, and what is to be planned (with the default recipe where the one given is wrong)."""
    from ..cluster.planning import PlanConfig, find_gpu

    found = report_problems("json", args.json, "layouts", "plan")
    if args.data == "":
        found.append(Problem("data", wrong="is empty", fix="name the folder of a corpus, or leave it out"))
    config = PlanConfig(**{field.name: getattr(args, field.name) for field in fields(ClusterConfig)})
    try:
        config.recipe = read_recipe(args.config, args.data or "", "", args.options)
        found += config.problems()
    except LaunchError as error:
        found += error.problems + ClusterConfig.problems(config)
    given = (config.gpu_memory, config.gpu_tflops, config.node_bandwidth, config.network_bandwidth)
    if isinstance(gpu := find_gpu(config.gpu, config.arithmetic, *given), Problem):
        found.append(gpu)
    return found, config


def run(args: Args) -> int:
    """Plan, search the micro-batch on this machine's GPU if asked to, print."""
    found, config = _read(args)
    if found:
        raise LaunchError(*found)
    if args.find_micro_batch:
        _require_gpu()
    from rich.console import Console

    from ..cluster.planning import plan_run, render_plan

    plan = plan_run(config)
    console = Console(width=None if os.isatty(1) else 120, highlight=False)
    render_plan(plan, console)
    numbers = plan.plain()
    if args.find_micro_batch:
        numbers["largest_micro_batch"] = _search(config, plan, console)
    if args.json is not None:
        write_json(Path(args.json), numbers)
    return 0


def _require_gpu() -> None:
    with large_imports():
        import torch

    if not torch.cuda.is_available():
        raise LaunchError("find_micro_batch: this machine has no GPU to try on; the table estimates what fits")


def _search(config: "PlanConfig", plan: "RunPlan", console: "Console") -> int:
    """The largest micro-batch, found on this machine's GPU and printed."""
    with large_imports():
        import torch

        from ..cluster.planning import search_micro_batch

    found = search_micro_batch(config, plan)
    console.print(f"Largest micro-batch on this machine's {torch.cuda.get_device_name()}: {found}")
    return found
