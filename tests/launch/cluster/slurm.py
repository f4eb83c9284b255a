"""A real Slurm on the nodes of a test: munged, slurmctld on the head, a slurmd on each other node."""

import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.launch.cluster.nodes import Job, Nodes

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue", "sinfo")

CONF = """
ClusterName=acn
SlurmctldHost=head({head})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=5
JobRequeue=1
ReturnToService=2
KillWait=30
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
AccountingStorageType=accounting_storage/none
GresTypes=toy
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why Slurm cannot be started here; None when it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path="/usr/bin:/usr/sbin") is None]
    return f"{', '.join(missing)} not found: apt-get install slurm-wlm munge" if missing else None


@dataclass
class Slurm:
    """A cluster that answers."""

    cluster: Nodes
    conf: Path

    def client(self, *command: str) -> str:
        """Run a client of Slurm on the head and return what it printed."""
        return self.cluster.run("head", ["timeout", "120", *command], SLURM_CONF=str(self.conf)).strip()

    def state(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        return dict(re.findall(r"(\w+)=(\S*)", self.client("scontrol", "show", "job", job)))

    def await_end(self, job: str, timeout: float = 500.0) -> dict[str, str]:
        """Until a job has ended; a requeued one may start after ten seconds instead of Slurm's two minutes.

        Not at once: slurmd refuses credentials as old as those that the requeueing revoked.
        """
        deadline = time.monotonic() + timeout
        hastened = 0
        while (state := self.state(job))["JobState"] in {"PENDING", "RUNNING", "COMPLETING", "REQUEUED"}:
            assert time.monotonic() < deadline, f"job {job} did not end: {state}"
            if state["JobState"] == "PENDING" and int(state["Restarts"]) > hastened:
                hastened = int(state["Restarts"])
                self.client("scontrol", "update", f"JobId={job}", "StartTime=now+10")
            time.sleep(1)
        return state


def start_slurm(cluster: Nodes, workers: list[str], folder: Path) -> Slurm:
    """Start the daemons and wait until every node is idle."""
    folder.mkdir()
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(64))
    files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munge.pid"}
    files |= {"log-file": folder / "munge.log", "seed-file": folder / "munge.seed"}
    options = [f"--{name}={path}" for name, path in files.items()]
    munged = cluster.start("head", ["munged", "--foreground", "--force", *options])  # one serves all: same file system
    _await(lambda: (folder / "munge.socket").exists(), munged)
    features = "CPUs=1 Feature=cpu,ib Gres=toy:1 RealMemory=4000 State=UNKNOWN"
    lines = [f"NodeName={name} NodeAddr={cluster.addresses[name]} {features}" for name in workers]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(head=cluster.addresses["head"], folder=folder, nodes="\n".join(lines)))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # guessing fails where `ip netns` mounts /sys anew
    (folder / "gres.conf").write_text("Name=toy Count=1\n")  # a number to count, no device
    daemons = [cluster.start("head", ["slurmctld", "-D", "-c"], SLURM_CONF=str(conf))]
    for name in workers:
        (folder / f"spool.{name}").mkdir()
        daemons.append(cluster.start(name, ["slurmd", "-D", "-N", name], SLURM_CONF=str(conf)))
    slurm = Slurm(cluster, conf)
    _await(lambda: _idle(slurm) == len(workers), *daemons)
    return slurm


def _idle(slurm: Slurm) -> int:
    job = slurm.cluster.start(
        "head", ["timeout", "30", "sinfo", "--noheader", "--Node", "--states=idle"], SLURM_CONF=str(slurm.conf)
    )
    return len(job.output.splitlines()) if job.end() == 0 else 0


def _await(ready, *daemons: Job) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        for daemon in daemons:
            assert daemon.process.poll() is None, daemon.output
        assert time.monotonic() < deadline, "\n".join(daemon.output for daemon in daemons)
        time.sleep(0.2)
