"""The scripts for Slurm, run by a real one."""

import re

import pytest
from safetensors.torch import load_file

from launch.engines.slurm import SlurmConfig
from launch.engines.torchrun import TorchrunConfig
from tests.launch.cluster.conftest import assert_each_sample_once
from tests.launch.cluster.nodes import Job
from tests.launch.cluster.slurm import Slurm, start_slurm, why_not


@pytest.fixture
def slurm(cluster, tmp_path) -> Slurm:
    """Two nodes of Slurm."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    return start_slurm(cluster, ["node1", "node2"], tmp_path / "slurm")


@pytest.mark.slow
def test_a_pre_empted_job_requeues_itself_and_ends_as_if_nothing_had_been(slurm, cluster, script, tmp_path):
    steps = 600
    batch = script("slurm", steps=steps, slurm=SlurmConfig(time="30", stop_seconds=60))
    job = slurm.client("sbatch", "--parsable", f"--output={tmp_path}/job.out", str(batch))
    waiting = cluster.start("head", ["tail", "--retry", "-n", "+1", "-F", f"{tmp_path}/job.out"])
    waiting.wait_for(r"^step +40/")
    slurm.client("scancel", "--batch", "--signal=USR1", job)  # what --signal=B:USR1 has Slurm do near the time limit
    waiting.wait_for("stopped by SIGUSR1 at step")
    ended = slurm.await_end(job, timeout=180)
    output = (tmp_path / "job.out").read_text()
    assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), output
    assert int(ended["Restarts"]) == 1
    stopped = re.search(r"stopped by SIGUSR1 at step (\d+)", output)
    assert stopped is not None
    assert f"step-{int(stopped[1]):07d} at step {stopped[1]}" in output, "it goes on from the checkpoint of the stop"
    assert "2 rank(s), ZeRO stage 2" in output
    assert_each_sample_once(tmp_path / "run", steps)

    calm = script("torchrun", steps=steps, run="calm", torchrun=TorchrunConfig(head="node1"))
    jobs: list[Job] = [cluster.start(node, ["bash", str(calm)]) for node in ("node1", "node2")]
    assert [one.end() for one in jobs] == [0, 0], jobs[0].output
    ours, theirs = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("run", "calm"))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in theirs)
