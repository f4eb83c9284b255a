"""What `acn launch` is told: the header of every script."""

import re
import shlex
import sys
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from data_pipeline import Problem, hide_credentials, number_problems

from .deepspeed import DeepSpeedConfig
from .kubernetes import KubernetesConfig
from .skypilot import SkyPilotConfig
from .slurm import SlurmConfig
from .torchrun import TorchrunConfig

ENGINES = ("slurm", "torchrun", "deepspeed", "kubernetes", "skypilot")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
IN_AN_IMAGE = ("kubernetes", "skypilot")
"""Engines whose nodes have their own files: nothing of this machine is there."""


_ASSIGNMENT = re.compile(
    r"\w*(?:TOKEN|PASSWORD|PASSWD|SECRET|_KEY|CREDENTIALS?)\w*=[\"']?(?![$\"'\s;&]|$)", re.IGNORECASE
)


def _holds_secret(script: str) -> bool:
    """Whether shell has a URL with credentials, a token, or a variable of such a name set to a plain value."""
    return bool(hide_credentials(script) != script or _ASSIGNMENT.search(script))


def _text_problems(config: Any, above: str = "") -> list[Problem]:
    """Text that is empty, or has line ends or other control characters, with which it becomes lines of a script."""
    found = []
    for one in fields(config):
        name, value = one.name, getattr(config, one.name)
        if is_dataclass(value):
            found += _text_problems(value, f"{above}{name}.")
        elif value == "" != one.default:
            found.append(Problem(f"{above}{name}", wrong="is empty", fix="give a value, or leave it out"))
        elif isinstance(value, str) and _CONTROL.search(value):
            found.append(Problem(f"{above}{name}", repr(value), "must be one line, without control characters"))
    return found


@dataclass
class LaunchConfig:
    """Write the script that starts a job on an engine, with the values filled in, and submit it."""

    WITHOUT_CREDENTIALS: ClassVar = ("setup",)
    """Fields whose URLs are used as they stand: credentials cannot be taken out of them, only refused."""

    engine: str
    """slurm, torchrun, deepspeed, kubernetes or skypilot."""
    config: str = "acn-base"
    """The recipe, as in `acn pretrain --config` (slurm.job prepare: as in `acn prepare --config`): the name of one that
    comes with acn-lm, or a file, which the nodes read at the same place."""
    data: str | None = None
    """The prepared corpus, as in `acn pretrain --data`: a folder that all nodes see, or a URL."""
    output: str | None = None
    """The run's folder, as in `acn pretrain --output`: on storage that all nodes share."""
    options: str = ""
    """Further options of the verb, in one string: "--steps 1000 --zero_stage 2"."""
    nodes: int = 2
    """Nodes of the job."""
    gpus_per_node: int = 8
    """GPUs of a node, a rank each; 0 for nodes without GPUs, one rank each."""
    name: str = "acn-pretrain"
    """Name of the job."""
    setup: str | None = None
    """What a node's shell does first, so that `acn` and the recipe are found. Left out: this folder and this Python
    environment, which the nodes must see at the same place (kubernetes, skypilot: those of the image)."""
    interface: str | None = None
    """Network interface between the nodes (`ip -br addr` lists them); left out, NCCL and gloo choose."""
    port: int = 29500
    """Port of the rendezvous on the head node; preflight takes the next one."""
    mlflow: str | None = None
    """MLflow tracking server of the run, http://HOST:5000, as all nodes reach it. Left out, the recipe's; on kubernetes
    and skypilot, whose nodes and their files go away, not a file that the recipe names there: RUN/metrics.jsonl has the
    same, and `acn track sync RUN` sends it."""
    rank_logs: str | None = None
    """Folder, on storage that all nodes share, for a log file of every rank, by node; left out, the job's log alone."""
    launcher_options: str = ""
    """Further options of the launcher of the ranks (torchrun, deepspeed; for slurm.job glue, accelerate launch), in one
    string: "--rdzv-conf join_timeout=1200"."""
    max_restarts: int = 3
    """How often torchrun starts the ranks again after one of them failed. Nodes that come and go do not count."""
    preflight: bool = True
    """Check all nodes with `acn preflight` first, and start nothing when there is a fault."""
    dry_run: bool = False
    """Print the script, or write it to `script`, and submit nothing."""
    script: str | None = None
    """File to keep the script in; left out, a submitted script is not kept here."""
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    """Slurm's own."""
    torchrun: TorchrunConfig = field(default_factory=TorchrunConfig)
    """Plain torchrun's own."""
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    """The deepspeed launcher's own."""
    kubernetes: KubernetesConfig = field(default_factory=KubernetesConfig)
    """Kubernetes' own."""
    skypilot: SkyPilotConfig = field(default_factory=SkyPilotConfig)
    """SkyPilot's own."""

    @property
    def ranks_per_node(self) -> int:
        """A rank for every GPU, one on a node without."""
        return max(1, self.gpus_per_node)

    @property
    def shell_setup(self) -> str:
        """`setup`, or what makes this folder and this Python environment a node's."""
        if self.setup is not None:
            return self.setup
        if self.engine in IN_AN_IMAGE:
            return ""
        if self.engine == "slurm" and self.slurm.container is not None:
            return ":"
        here, programs = shlex.quote(str(Path.cwd())), shlex.quote(str(Path(sys.executable).parent))
        return f"cd {here} && export PATH={programs}:$PATH"

    def problems(self) -> list[Problem]:
        """`header_problems` has more once these are fixed."""
        if self.engine not in ENGINES:
            return [Problem("engine", repr(self.engine), f"must be one of: {', '.join(ENGINES)}")]
        found = number_problems(self)
        found += [
            Problem(name, getattr(self, name), f"must be at least {least}")
            for name, least in {"nodes": 1, "gpus_per_node": 0, "max_restarts": 0}.items()
            if getattr(self, name) < least
        ]
        if not 1024 <= self.port < 65535:
            found.append(Problem("port", self.port, "must be from 1024 to 65534"))
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", self.name):
            found.append(
                Problem(
                    "name", repr(self.name), "must be 1 to 40 lower-case letters, digits and -, as Kubernetes wants it"
                )
            )
        found += _text_problems(self)
        if self.setup is not None and _holds_secret(self.setup):
            fix = "have it in the environment or a credentials file of the nodes"
            found.append(
                Problem("setup", wrong="holds a password or token, and scripts are written and shown", fix=fix)
            )
        if self.interface is not None and not re.fullmatch(r"[\w.@:^=,-]+", self.interface):
            found.append(Problem("interface", repr(self.interface), "must be the name of a network interface"))
        found += self._words_problems("options", "values that need quotes have to stand in the recipe")
        found += self._words_problems("launcher_options", "values that need quotes cannot be given on this engine")
        if self.mlflow is not None and self.engine in IN_AN_IMAGE and is_file_uri(self.mlflow):
            fix = "give a server, http://HOST:5000, or leave it out"
            found.append(Problem("mlflow", self.mlflow, "is a file on a node that goes away", fix))
        own: list[Problem] = getattr(self, self.engine).problems(self.nodes)
        return found + own

    def _words_problems(self, name: str, fix: str) -> list[Problem]:
        """What is wrong with options in one string."""
        text = getattr(self, name)
        try:
            words = shlex.split(text)
        except ValueError as error:
            return [Problem(name, repr(text), fix=str(error))]
        quoted = self.engine in IN_AN_IMAGE and shlex.join(words) != " ".join(words)
        return [Problem(name, repr(text), fix=fix)] if quoted else []


def is_file_uri(uri: str) -> bool:
    """Whether a tracking URI is a file of the machine that a rank runs on, and not one on the volume at /shared."""
    return uri.startswith(("sqlite:", "file:")) and not uri.startswith(("sqlite:////shared/", "file:///shared/"))
