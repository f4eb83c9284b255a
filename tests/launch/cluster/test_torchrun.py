"""The scripts for plain torchrun, on nodes of their own."""

import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from launch.cluster.engines.torchrun import TorchrunConfig
from pretrain.observe.figures import read_metrics
from tests.launch.cluster.conftest import GLOBAL_BATCH, assert_each_sample_once, samples
from tests.launch.cluster.nodes import Job, Nodes

# One test of the script is not slow. Those that are start torchrun, and then Python, on three nodes or again and again,
# as the script does; and what is lost is noticed after torchrun's own time-outs.

AT_NODE1 = TorchrunConfig(head="node1")
ELASTIC = TorchrunConfig(head="head", min_nodes=1)
PORT = "29500"
ENDLESS = 1_000_000
TIMEOUT_SECONDS = 20.0
"""After which a rank of an elastic job takes another one for lost."""


def start(cluster: Nodes, script: Path, names: Sequence[str]) -> dict[str, Job]:
    """The same script on several nodes."""
    return {name: cluster.start(name, ["bash", str(script)]) for name in names}


def test_two_nodes_train_together(cluster, script, tmp_path):
    jobs = start(cluster, script("torchrun", steps=6, torchrun=AT_NODE1), ["node1", "node2"])
    assert [job.end() for job in jobs.values()] == [0, 0], outputs_of(jobs)
    assert "2 rank(s), ZeRO stage 2" in outputs_of(jobs)
    assert_each_sample_once(tmp_path / "run", steps=6)


@pytest.mark.slow
def test_three_nodes_compute_what_one_process_does(cluster, script, tmp_path):
    jobs = start(cluster, script("torchrun", steps=20, nodes=3, torchrun=AT_NODE1), ["node1", "node2", "node3"])
    one = script("torchrun", steps=20, run="alone", nodes=1, torchrun=TorchrunConfig(head="head"))
    alone = start(cluster, one, ["head"])
    assert [job.end() for job in (*jobs.values(), *alone.values())] == [0, 0, 0, 0], outputs_of(jobs | alone)
    assert "3 rank(s), ZeRO stage 2" in outputs_of(jobs)
    assert_each_sample_once(tmp_path / "run", steps=20)
    losses = [read_metrics(tmp_path / run)["train/loss"] for run in ("run", "alone")]
    assert losses[0] == pytest.approx(losses[1], rel=2e-5)


@pytest.mark.slow
def test_acn_launch_runs_this_node_s_part_and_passes_signals_on(cluster, script, tmp_path):
    script("torchrun", steps=ENDLESS, nodes=1)  # for its recipe
    given = {
        "config": tmp_path / "run.yaml", "data": yaml.safe_load((tmp_path / "run.yaml").read_text())["data"],
        "output": tmp_path / "run", "nodes": 1, "gpus_per_node": 0, "torchrun.head": "node1", "preflight": "false",
    }  # fmt: skip
    options = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    job = cluster.start("node1", ["python", "-m", "launch.cli", "launch", "torchrun", *options])
    job.wait_for(r"^step +10/")
    job.process.send_signal(signal.SIGTERM)
    assert job.end() == 1
    assert re.search(r"stopped by SIGTERM at step \d+", job.output)
    assert re.search("acn launch: error: .*bash ended with 1", job.output)


@pytest.fixture
def elastic(cluster, script):
    """Start the store on the head and an elastic job of three nodes; returns it when it has trained some steps."""

    def begin() -> tuple[dict[str, Job], Path]:
        store = cluster.start("head", ["python", "-m", "launch.cluster.engines.store", PORT])
        store.wait_for("rendezvous store on head")
        recipe = {"timeout_seconds": TIMEOUT_SECONDS}
        written = script("torchrun", steps=ENDLESS, nodes=3, torchrun=ELASTIC, recipe=recipe)
        jobs = start(cluster, written, ["node1", "node2", "node3"])
        await_step(jobs, 25, 3)
        return jobs, written

    return begin


def assert_ends_well(jobs: dict[str, Job], run: Path) -> None:
    """Stop the run by its file: all nodes end without an error, and every sample up to there was used exactly once."""
    (run / "STOP").touch()
    assert [job.end() for job in jobs.values()] == [0] * len(jobs), outputs_of(jobs)
    stopped = re.findall(r"stopped by the file STOP at step (\d+)", outputs_of(jobs))
    assert len(stopped) == 1, "torchrun does not start ranks again that were asked to stop"
    assert samples(run) == list(range(int(stopped[0]) * GLOBAL_BATCH))


def outputs_of(jobs: dict[str, Job]) -> str:
    """What all nodes printed."""
    return "".join(job.output for job in jobs.values())


def await_text(jobs: dict[str, Job], text: str, timeout: float) -> None:
    """Until one of the nodes has printed it."""
    deadline = time.monotonic() + timeout
    while text not in outputs_of(jobs):
        assert time.monotonic() < deadline, f"no {text!r} within {timeout} s:\n{outputs_of(jobs)}"
        time.sleep(0.05)


def last_step(text: str, ranks: int) -> int:
    """The last step that was logged since the last start, if that was one of so many ranks; otherwise 0."""
    *_, start = [None, *re.finditer(r"tokens; (\d+) rank\(s\), ZeRO stage", text)]
    if start is None or int(start[1]) != ranks:
        return 0
    return max((int(step) for step in re.findall(r"^step +(\d+)/", text[start.end() :], re.MULTILINE)), default=0)


def marks(jobs: dict[str, Job]) -> dict[str, int]:
    """How much each node has printed."""
    return {name: len(job.output) for name, job in jobs.items()}


def await_step(jobs: dict[str, Job], step: int, ranks: int, since: Mapping[str, int] | None = None) -> float:
    """Until a run of `ranks` that began after the first `since` letters has logged that step; the time it took."""
    began = time.monotonic()
    while not any(last_step(job.output[(since or {}).get(name, 0) :], ranks) >= step for name, job in jobs.items()):
        assert any(job.process.poll() is None for job in jobs.values()), outputs_of(jobs)
        assert time.monotonic() - began < 300, f"no step {step} of {ranks} ranks:\n{outputs_of(jobs)}"
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.slow
def test_a_fixed_job_waits_for_the_node_that_was_lost_and_ends_without_the_head(cluster, script, tmp_path):
    """Started again by somebody, the node is taken back; the head has the rendezvous and cannot be missed.

    The loss is noticed by the connection, not after PATIENCE_SECONDS.
    """
    written = script("torchrun", steps=ENDLESS, torchrun=AT_NODE1)
    jobs = start(cluster, written, ["node1", "node2"])
    await_step(jobs, 25, 2)
    since = marks(jobs)
    cluster.kill("node2")
    jobs["node1"].wait_for(r"acn pretrain: error: rank \d on node1 lost another rank \(.+\)")
    jobs |= start(cluster, written, ["node2"])
    await_step(jobs, 1, 2, since={"node1": since["node1"]})
    cluster.kill("node1")
    began = time.monotonic()
    assert jobs["node2"].end() == 1
    print(f"\nhead lost: node2 ended after {time.monotonic() - began:.1f} s")
    assert "RendezvousConnectionError: The connection to the C10d store has failed" in jobs["node2"].output
    jobs = start(cluster, written, ["node1", "node2"])
    await_step(jobs, 1, 2)
    assert_ends_well(jobs, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "unplug"])
def test_a_lost_node_costs_an_elastic_job_no_sample(cluster, elastic, tmp_path, fault):
    """Also the first node, which has rank 0 and the store of the process group."""
    jobs, _ = elastic()
    rank0 = next(name for name, job in jobs.items() if last_step(job.output, 3))
    left = {name: job for name, job in jobs.items() if name != rank0}
    since = marks(left)
    getattr(cluster, fault)(rank0)
    lost = time.monotonic()
    await_text(left, "lost another rank", timeout=TIMEOUT_SECONDS + 100)
    noticed = time.monotonic() - lost
    await_step(left, 1, 2, since=since)
    print(f"\n{fault}: noticed after {noticed:.1f} s, next step after {time.monotonic() - lost:.1f} s")
    assert_ends_well(left, tmp_path / "run")


@pytest.mark.slow
def test_a_node_that_comes_back_joins_after_a_checkpoint(cluster, elastic, tmp_path):
    jobs, written = elastic()
    left = {name: job for name, job in jobs.items() if name != "node3"}
    since = marks(left)
    cluster.kill("node3")
    print(f"\ndown: {await_step(left, 1, 2, since=since):.1f} s")
    since = marks(left)
    back = left | start(cluster, written, ["node3"])
    began = time.monotonic()
    await_step(back, 1, 3, since=since)
    print(f"up: {time.monotonic() - began:.1f} s")
    assert_ends_well(back, tmp_path / "run")
