"""The script for DeepSpeed's own launcher, over ssh."""

import shutil
from pathlib import Path

import pytest

from launch.cluster.engines.deepspeed import DeepSpeedConfig
from tests.launch.cluster.conftest import assert_each_sample_once
from tests.launch.cluster.nodes import ENVIRONMENT, ROOT
from tests.launch.cluster.ssh import start_sshd, why_not


@pytest.fixture
def run_sshd():
    """The folder that sshd insists on."""
    folder = Path("/run/sshd")
    is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    yield
    if is_new:
        folder.rmdir()


@pytest.mark.slow  # sshd, pdsh, and Python on every node
def test_a_hostfile_drives_two_nodes_over_ssh(cluster, run_sshd, script, tmp_path):
    reason = why_not() or (None if shutil.which("pdsh") else "pdsh not found: apt-get install pdsh")
    if reason is not None:
        pytest.skip(reason)
    programs = start_sshd(cluster, ["node1", "node2"], tmp_path / "ssh")
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("# name, ranks\nnode1 slots=1\nnode2 slots=1\n")
    written = script("deepspeed", steps=20, setup=f"cd {ROOT}", deepspeed=DeepSpeedConfig(str(hostfile)))
    job = cluster.start("head", ["bash", str(written)], PATH=f"{programs}:{ENVIRONMENT['PATH']}")
    assert job.end() == 0, job.output
    assert "node2: " in job.output, "pdsh names the node of every line"
    assert "2 rank(s), ZeRO stage 2" in job.output
    assert_each_sample_once(tmp_path / "run", steps=20)
