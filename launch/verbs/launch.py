"""acn launch"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from data_pipeline import Problem, write_text

from ..cluster.engines import ENGINES, LaunchConfig
from ..errors import LaunchError

COMMON = (
    "engine", "config", "data", "output", "options", "nodes", "gpus_per_node", "name", "setup", "interface",
    "preflight", "dry_run", "script",
)  # fmt: skip
CHOICES = {"engine": ENGINES}
EXAMPLE = "acn launch slurm --config acn-base --data /shared/tokens --output /shared/runs/acn --nodes 4 --dry_run"


@dataclass
class Args(LaunchConfig):
    """Write the script that starts a job on an engine, with the values filled in, and submit it."""


def problems(args: Args) -> list[Problem]:
    """What is wrong with the job, its script and its recipe."""
    return _checked(args)[0]


def _checked(args: Args) -> tuple[list[Problem], LaunchConfig, list[str]]:
    """Everything that is wrong, the job with a micro-batch that fits it, and notes for people."""
    from ..cluster.engines import fit_job, header_problems, recipe_problems

    found = args.problems()
    wrong = {problem.field for problem in found}
    if wrong & {"engine", "options", "launcher_options", "slurm.srun", "slurm.sbatch"}:  # no script to look at
        return found, args, []
    found += header_problems(args)
    if wrong & {"nodes", "gpus_per_node", "torchrun.min_nodes"}:  # so the number of ranks is not known
        return found + recipe_problems(args), args, []
    try:
        config, notes = fit_job(args)
    except LaunchError as error:
        return found + error.problems, args, []
    return found, config, notes


def run(args: Args) -> int:
    """Check, render, and hand the script to the engine; with `dry_run` it is only printed, or written to `script`."""
    from ..cluster.engines import render_job

    found, config, notes = _checked(args)
    if found:
        raise LaunchError(*found)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    text = render_job(config)
    if args.script is not None:
        _write(Path(args.script), text)
    if args.dry_run:
        print(text if args.script is None else f"script: {args.script}\n", end="")
        return 0
    engine = getattr(args, args.engine)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(args.script or f"{folder}/{engine.template}")
        if args.script is None:
            script.write_text(text, encoding="utf-8", errors="surrogateescape")
        print(engine.submit(script))
    return 0


def _write(path: Path, text: str) -> None:
    if (path.is_symlink() or path.exists()) and path.read_text(encoding="utf-8", errors="surrogateescape") != text:
        raise LaunchError(f"script={path} exists and is another one: choose another name or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
