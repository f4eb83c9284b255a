"""From the templates to the scripts; the committed ones are renderings too.

    python -m launch.cluster.engines.render        writes launch/cluster/slurm, launch/cluster/torchrun, ... anew

A script is for reading and for editing: what may have to change stands in its header, and everything below refers to
that.
"""

import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data_pipeline import Problem, write_text

from .config import LaunchConfig
from .deepspeed import DeepSpeedConfig
from .environment import variables
from .fit import fitted
from .kubernetes import KubernetesConfig
from .slurm import SlurmConfig
from .torchrun import TorchrunConfig

ROOM = Path(__file__).parent.parent
TO_FILL_IN = {"data": "/shared/tokens", "output": "/shared/runs/acn"}
"""What stands in the header where nothing was given."""
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
    header |= {"options": shlex.join(shlex.split(config.options)), "script": config.script or template}
    return environment.get_template(f"{config.engine}/{template}").render(
        **header,
        ranks=config.ranks_per_node,
        threads=max(1, config.kubernetes.cpus // config.ranks_per_node),
        shell_setup=config.shell_setup,
        variables=variables(config.interface, config.gpus_per_node),
    )


def header_problems(config: LaunchConfig) -> list[Problem]:
    """Fields that the script wants and are missing, and fields that were given and change nothing in it."""
    script = render_job(config)
    found = []
    for name in () if config.dry_run else TO_FILL_IN:
        if getattr(config, name) is None and render_job(_altered(config, name, "given")) != script:
            found.append(
                Problem(name, wrong="is missing", fix="only with dry_run the script may be left to be filled in")
            )
    for name, without in _without(config, LaunchConfig(config.engine)):
        if is_dataclass(getattr(config, name)):
            own = _without(getattr(config, name), without)
            changes = {f"{name}.{field}": _altered(getattr(config, name), field, value) for field, value in own}
        else:
            changes = {name: without}
        for dotted, value in changes.items():
            if render_job(_altered(config, name, value)) == script:
                found.append(Problem(dotted, wrong=f"does nothing on {config.engine}", fix="leave it out"))
    return found


def _without(given: Any, default: Any) -> list[tuple[str, Any]]:
    """The fields of a dataclass that are not as in `default`, with what they are there."""
    both = [(field.name, getattr(given, field.name), getattr(default, field.name)) for field in fields(given)]
    return [(name, usual) for name, value, usual in both if value != usual and name not in NOT_IN_THE_SCRIPT]


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
        replace(example, engine="skypilot", setup=None, interface=None),
    ]
    for config in configs:
        path = ROOM / config.engine / getattr(config, config.engine).template
        script = path.relative_to(ROOM.parents[1]).as_posix()
        yield path, render_job(fitted(replace(config, script=script))[0])


if __name__ == "__main__":
    for path, text in committed():
        write_text(path, text)
        print(path)
