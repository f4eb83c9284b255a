"""Slurm: a job of one torchrun per node, an array that prepares a corpus, and a job that fine-tunes afterwards."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_pipeline import Problem

from .submit import program, run_and_read


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
            Problem(f"slurm.{name}", repr(getattr(self, name)), "must be a name: letters, digits and . _ + , - only")
            for name in ("partition", "account")
            if not re.fullmatch(r"[\w.+,-]*", getattr(self, name) or "")
        ]
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
