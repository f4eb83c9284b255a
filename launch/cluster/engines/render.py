"""From the templates to the scripts; the committed ones are renderings too.

    python -m launch.cluster.engines.render        writes launch/cluster/slurm, launch/cluster/torchrun, ... anew

A script is for reading and for editing: what may have to change stands in its header, and everything below refers to
that.
"""

import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data_pipeline import Problem, write_text

from .config import LaunchConfig
from .deepspeed import DeepSpeedConfig
from .environment import to_try, variables
from .fit import fit_job
from .kubernetes import KubernetesConfig
from .skypilot import SkyPilotConfig
from .slurm import SlurmConfig, sbatch_lines
from .torchrun import TorchrunConfig

ROOM = Path(__file__).parent.parent
TO_FILL_IN = {"data": "/shared/tokens", "output": "/shared/runs/acn"}
"""What stands in the header where nothing was given; somebody's own values may be the same."""
NOT_IN_THE_SCRIPT = {"engine", "nodes", "gpus_per_node", "dry_run", "script"}
"""Fields that are never without effect: a hostfile has the nodes, but they decide whether the recipe fits."""


def render_job(config: LaunchConfig) -> str:
    """The script of `config.engine`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["sh"] = shlex.quote
    header = vars(config) | {name: getattr(config, name) or text for name, text in TO_FILL_IN.items()}
    template = getattr(config, config.engine).template
    header |= {name: shlex.join(shlex.split(header[name])) for name in ("options", "launcher_options")}
    header |= {"script": config.script or template, "srun_options": shlex.join(_srun_options(config.slurm))}
    return environment.get_template(f"{config.engine}/{template}").render(
        **header,
        ranks=config.ranks_per_node,
        threads=max(1, config.kubernetes.cpus // config.ranks_per_node),
        shell_setup=config.shell_setup,
        variables=variables(config.interface, config.gpus_per_node),
        sbatch_lines=sbatch_lines(config.slurm.sbatch),
        to_try=to_try(config.gpus_per_node),
    )


def _srun_options(slurm: SlurmConfig) -> list[str]:
    container = [] if slurm.container is None else [
        f"--container-image={slurm.container}", f"--container-mounts={slurm.mounts}"
    ]  # fmt: skip
    return shlex.split(slurm.srun) + container


def header_problems(config: LaunchConfig) -> list[Problem]:
    """Fields that the script wants and are missing, and fields that were given and change nothing in it."""
    found = []
    for name in () if config.dry_run else TO_FILL_IN:
        if getattr(config, name) is None and _has_effect(config, name):
            found.append(
                Problem(name, wrong="is missing", fix="only with dry_run the script may be left to be filled in")
            )
    for dotted in _given(config, LaunchConfig(config.engine)):
        if dotted not in NOT_IN_THE_SCRIPT and not _has_effect(config, dotted):
            found.append(Problem(dotted, wrong=f"does nothing on {config.engine}", fix="leave it out"))
    return found


def _given(config: Any, default: Any, above: str = "") -> Iterator[str]:
    """The dotted names of the fields that are not as in `default`."""
    for field in fields(config):
        value, usual = getattr(config, field.name), getattr(default, field.name)
        if is_dataclass(value):
            yield from _given(value, usual, f"{above}{field.name}.")
        elif value != usual:
            yield f"{above}{field.name}"


def _has_effect(config: LaunchConfig, dotted: str) -> bool:
    """Whether some other value of a field makes another script.

    Two others are tried where that can be: what the script has without the field may be what was given.
    """
    name, _, inner = dotted.partition(".")
    part = getattr(config, name) if inner else config
    field = inner or name
    default = LaunchConfig(config.engine)
    values = [getattr(getattr(default, name) if inner else default, field)]
    if get_type_hints(type(part))[field] in (str, str | None):
        values.append("another-value")
    others = [_altered(part, field, value) for value in values]
    scripts = {render_job(_altered(config, name, other) if inner else other) for other in others}
    return scripts != {render_job(config)}


def _altered(config: Any, name: str, value: Any) -> Any:
    return replace(config, **{name: value})


def committed() -> Iterator[tuple[Path, str]]:
    """The scripts that lie in the repository, with their places: every engine's, with the defaults."""
    example = LaunchConfig("slurm", setup="cd /shared/acn-lm && . .venv/bin/activate", interface="eth0", dry_run=True)
    configs = [
        example,
        replace(example, slurm=SlurmConfig("prepare"), config="acn-base-corpus", nodes=16),
        replace(example, slurm=SlurmConfig("glue"), nodes=1),
        replace(example, engine="torchrun"),
        replace(example, engine="torchrun", torchrun=TorchrunConfig("head", min_nodes=1)),
        replace(example, engine="deepspeed", deepspeed=DeepSpeedConfig("launch/cluster/deepspeed/hostfile")),
        *(
            replace(example, engine="kubernetes", setup=None, kubernetes=KubernetesConfig(kind))
            for kind in ("trainjob", "job")
        ),
        replace(
            example,
            engine="skypilot",
            setup=None,
            interface=None,
            skypilot=SkyPilotConfig(image=example.kubernetes.image),
        ),
    ]
    for config in configs:
        path = ROOM / config.engine / getattr(config, config.engine).template
        script = path.relative_to(ROOM.parents[1]).as_posix()
        yield path, render_job(fit_job(replace(config, script=script))[0])


if __name__ == "__main__":
    for path, text in committed():
        write_text(path, text)
        print(path)
