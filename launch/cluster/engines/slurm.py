"""Slurm: a job of one torchrun per node, an array that prepares a corpus, and a job that fine-tunes afterwards."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_pipeline import Problem

from .submit import program, run_and_read

_FORMS = {
    r"[\w.+,-]*": "must be a name: letters, digits and . _ + , - only",
    r"[\w.+,&|!*()\[\]@:=-]*": "must be features, with & or | between",
    r"[\w.:,-]*": "must be as sbatch takes it: gpu:TYPE:COUNT",
    r"\d*[KMGTkmgt]?": "must be as sbatch takes it: a number with K, M, G or T",
    r"[\w.+/ -]*": "must be names of modules, with spaces between",
    r"[\w.:/@#+-]*": "must be an image: a file.sqsh, or HOST#NAME:TAG",
    r"[\w.:/,+-]*": "must be FROM:TO, with commas between several",
}
"""What an option may look like, and what is said where it does not."""
_NAME, _FEATURES, _RESOURCES, _SIZE, _MODULES, _IMAGE, _MOUNTS = _FORMS
_FORM_OF = {
    "partition": _NAME, "account": _NAME, "qos": _NAME, "constraint": _FEATURES, "gres": _RESOURCES, "mem": _SIZE,
    "modules": _MODULES, "container": _IMAGE, "mounts": _MOUNTS,
}  # fmt: skip
_ELSEWHERE = {
    "nodes": "nodes", "N": "nodes", "gpus-per-node": "gpus_per_node", "job-name": "name", "J": "name",
    "time": "slurm.time", "t": "slurm.time", "partition": "slurm.partition", "p": "slurm.partition",
    "account": "slurm.account", "A": "slurm.account", "qos": "slurm.qos", "q": "slurm.qos",
    "constraint": "slurm.constraint", "C": "slurm.constraint", "gres": "slurm.gres", "mem": "slurm.mem",
    "dependency": "slurm.after", "d": "slurm.after", "signal": "slurm.stop_seconds",
}  # fmt: skip
"""Options of sbatch that have an option here."""
_THE_SCRIPT_S = ("ntasks-per-node", "ntasks", "n", "array", "a", "requeue", "no-requeue", "open-mode", "wrap")


def sbatch_lines(options: str) -> list[str]:
    """Options of sbatch, in one string, as lines of a script: an option and its value each."""
    lines: list[list[str]] = []
    for word in shlex.split(options):
        if word.startswith("-") or not lines:
            lines.append([word])
        else:
            lines[-1].append(word)
    return [shlex.join(line) for line in lines]


def _sbatch_problems(options: str) -> list[Problem]:
    found = _word_problems("sbatch", options)
    for line in [] if found else sbatch_lines(options):
        name = line.partition("=")[0].partition(" ")[0].lstrip("-")
        if name in _ELSEWHERE:
            found.append(Problem("slurm.sbatch", repr(line), fix=f"give it as {_ELSEWHERE[name]}"))
        elif name in _THE_SCRIPT_S:
            found.append(Problem("slurm.sbatch", repr(line), "is the script's, which depends on it", "leave it out"))
    return found


def _word_problems(name: str, options: str) -> list[Problem]:
    try:
        words = shlex.split(options)
    except ValueError as error:
        return [Problem(f"slurm.{name}", repr(options), fix=str(error))]
    wrong = bool(words) and not words[0].startswith("-")
    return [Problem(f"slurm.{name}", repr(options), "must begin with an option")] if wrong else []


@dataclass
class SlurmConfig:
    """Slurm's own options."""

    job: Literal["pretrain", "prepare", "glue"] = "pretrain"
    """pretrain; prepare for an array of `nodes` tasks that tokenize a corpus together, and a job that merges their
    parts; glue for fine-tuning the model of `output` on one node."""
    time: str = "24:00:00"
    """Time limit. Pretraining is requeued before it, and goes on."""
    stop_seconds: int = 300
    """How long before the time limit pretraining stops with a checkpoint. It must have been written by then."""
    partition: str | None = None
    """Partition; left out, the cluster's default."""
    account: str | None = None
    """Account to charge; left out, the user's default."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that the nodes must have, as in `sbatch --constraint`: "a100&ib"."""
    gres: str | None = None
    """Generic resources of a node, as in `sbatch --gres`, instead of `gpus_per_node` of any kind: gpu:a100:8."""
    mem: str | None = None
    """Memory of a node, as in `sbatch --mem`: 480G, or 0 for all of it."""
    modules: str | None = None
    """Environment modules to load first, with spaces between: "cuda/12.8 nccl"."""
    container: str | None = None
    """Image that the steps run in, for clusters with the plugin pyxis: a file.sqsh, or HOST#NAME:TAG. It has `acn`."""
    mounts: str = "/shared:/shared"
    """What the container sees of a node: FROM:TO, with commas between several."""
    sbatch: str = ""
    """Further options of sbatch, in one string, for lines #SBATCH: "--reservation=maintenance --mail-type=END"."""
    srun: str = ""
    """Further options of srun, in one string: "--mpi=none --cpu-bind=none"."""
    after: str | None = None
    """Id of a job that must have succeeded before."""
    tasks: str = "cola,sst2,mrpc,qqp,stsb,mnli,qnli,rte"
    """Tasks of the glue job."""

    @property
    def template(self) -> str:
        """The script of the job."""
        return f"{self.job}.sbatch"

    def problems(self, nodes: int) -> list[Problem]:
        found = []
        if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", self.time):
            found.append(
                Problem("slurm.time", repr(self.time), "must be as sbatch takes it: MINUTES, HH:MM:SS or DAYS-HH:MM:SS")
            )
        if self.stop_seconds < 60 and self.job == "pretrain":
            found.append(
                Problem("slurm.stop_seconds", self.stop_seconds, "must be at least 60: Slurm looks once a minute")
            )
        found += [
            Problem(f"slurm.{name}", repr(getattr(self, name)), _FORMS[form])
            for name, form in _FORM_OF.items()
            if not re.fullmatch(form, getattr(self, name) or "")
        ]
        found += _sbatch_problems(self.sbatch) + _word_problems("srun", self.srun)
        if self.container is None and self.mounts != SlurmConfig.mounts:
            found.append(
                Problem("slurm.mounts", self.mounts, "is for a container", "give slurm.container, or leave it out")
            )
        if self.after is not None and not re.fullmatch(r"\d+(_\d+)?", self.after):
            found.append(Problem("slurm.after", repr(self.after), "must be the id of a job"))
        return found

    def submit(self, script: Path) -> str:
        """Submit the script; what Slurm said."""
        sbatch = program("sbatch", "run this on a login node of the cluster")
        job = run_and_read([sbatch, "--parsable", str(script)]).split(";")[0].strip()
        if self.job != "prepare":
            return f"job {job}: squeue --job {job}"
        merge = run_and_read([sbatch, "--parsable", "--array=0", f"--dependency=afterok:{job}", str(script)])
        return f"array {job}, and job {merge.split(';')[0].strip()} that merges its parts"
