"""Faults injected one by one into jobs of real processes: each is named with its node, and the job does not start."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_pipeline import Manifest
from tests.launch.cluster.nodes import Nodes
from tests.launch.cluster.preflight.preflight_ranks import Machine, Result, may_unshare, run
from tests.launch.tiny import TINY
from tests.processes import reserved_port

LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"}


@pytest.fixture(scope="module", autouse=True)
def _machines() -> None:
    if not may_unshare():
        pytest.skip("needs root on Linux, for host names and mounts of its own")


@pytest.fixture
def options(tmp_path, prepared) -> list[str]:
    """Those of a run that can start on two ranks."""
    where = ["--data", str(prepared), "--output", str(tmp_path / "shared" / "run")]
    (tmp_path / "shared").mkdir()
    return [*TINY, *where, "--tracking.mlflow", "null"]


def pair(tmp_path: Path, common: list[str], **special: Any) -> Result:
    """A job of node-a, and of node-b with something special about it."""
    nodes = [Machine("node-a", environment=LOOPBACK), Machine("node-b", environment=LOOPBACK, **special)]
    return run(nodes, common, tmp_path)


def test_healthy_nodes_may_go_on_and_leave_nothing_behind(tmp_path, options):
    result = pair(tmp_path, options)
    assert result.faults() == []
    assert result.codes == [0 if result.report["preflight"] == "passed" else 1] * 2
    assert "node-a, node-b" in result.out
    assert "preflight: " in result.out
    assert list((tmp_path / "shared").iterdir()) == []
    both = result.report["measured"]
    assert both["0"]["all-reduce"]["bandwidth"] > 0
    assert both["1"]["pairs"]["pairs"][0]["node"] == 0
    assert both["0"]["config"]["hash"] == both["1"]["config"]["hash"]


def test_another_version_of_a_package_is_named_with_its_node(tmp_path, options):
    metadata = tmp_path / "site" / "transformers-5.17.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 5.17.0\n")
    result = pair(tmp_path, options, shim=str(tmp_path / "site"))
    assert result.codes == [1, 1]
    assert result.faults() == [("versions", "node-b rank 1")]
    assert result.seen("versions").startswith("transformers 5.17.0, elsewhere 5.")
    assert "install transformers 5." in result.out


def test_other_options_are_named_with_their_node_and_field(tmp_path, options):
    result = pair(tmp_path, options, options=["--optim.lr", "0.5"])
    assert result.faults() == [("config", "node-b rank 1")]
    assert result.seen("config") == "optim.lr=0.5, elsewhere 0.001"


def damaged_copy(prepared: Path, target: Path, damage: str) -> Path:
    """The prepared corpus with its first shard missing, or one byte of it another."""
    shutil.copytree(prepared, target)
    shard = target / Manifest.load(prepared).split("train").shards[0].file
    if damage == "missing":
        shard.unlink()
    else:
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    return target


@pytest.mark.parametrize(
    ("damage", "said"),
    [("missing", "is missing"), ("changed", "has another sha256")],
)
def test_a_shard_that_one_node_lacks_or_has_damaged_is_named(tmp_path, options, prepared, damage, said):
    copy = damaged_copy(prepared, tmp_path / "copy", damage)
    result = pair(tmp_path, options, mounts={str(prepared): str(copy)})
    assert result.faults() == [("data", "node-b")]
    assert f"{Manifest.load(prepared).split('train').shards[0].file} {said}" in result.seen("data")


def test_a_folder_that_one_node_cannot_write_to_is_named(tmp_path, options):
    result = pair(tmp_path, options, read_only=[str(tmp_path / "shared")])
    assert result.faults() == [("writing", "node-b")]
    assert "Read-only file system" in result.seen("writing")
    assert "choose another --output" in result.out


def test_a_shared_folder_that_is_not_shared_is_named(tmp_path, options):
    (tmp_path / "own").mkdir()
    result = pair(tmp_path, options, mounts={str(tmp_path / "shared"): str(tmp_path / "own")})
    assert result.faults() == [("shared folder", "node-b")]
    assert "is not the one of node-a" in result.seen("shared folder")
    assert list((tmp_path / "own").iterdir()) == []


@pytest.mark.parametrize("clock", [3.0, -60.0])
def test_a_clock_that_is_off_is_named_with_its_direction(tmp_path, options, clock):
    result = pair(tmp_path, options, clock=clock)
    assert result.faults() == [("clock", "node-b")]
    assert_clock(result.report["measured"]["1"]["clock"], result.seen("clock"), clock)


def assert_clock(measured: dict[str, float], seen: str, ahead: float) -> None:
    """The clock of node-b was found to be `ahead`, as exactly as a busy machine that answers late lets it be known."""
    assert measured["ahead"] == pytest.approx(ahead, abs=measured["within"] + 0.001)
    way = "ahead of" if ahead > 0 else "behind"
    assert seen == f"{abs(measured['ahead']):.2f} s {way} node-a"


def test_a_rank_that_is_slowed_down_is_a_straggler(tmp_path, options):
    result = pair(tmp_path, options, pause=0.5)
    assert result.codes == [1, 1]
    assert result.rows() == [("compute", "node-b rank 1")]
    assert "of the median rank's" in result.seen("compute")


def test_a_rank_that_never_comes_is_missed_by_name_and_soon(tmp_path, options):
    soon = [*options, "--preflight.arrival_seconds", "2"]
    nodes = [Machine("node-a", environment=LOOPBACK), Machine("node-b", environment=LOOPBACK)]
    result = run(nodes, soon, tmp_path, missing=[1])
    assert result.codes == [1, None]
    assert result.rows() == [("arrival", "node 1 of 0..1")]
    assert result.rows("fine") == [("arrival", "node-a")]
    assert "rank 1 of 2 did not arrive" in result.seen("arrival")
    assert result.seconds < 30
    headless = run(nodes, soon, tmp_path, missing=[0])
    assert headless.codes == [None, 1]
    assert "node-b rank 1  cannot reach 127.0.0.1" in headless.errors[1]
    assert "refused: nobody listens there" in headless.errors[1]


@pytest.mark.slow  # the others wait for its answers as long as those checks may take
def test_a_rank_that_dies_meanwhile_is_named_and_ends_the_others(tmp_path, options):
    result = pair(tmp_path, [*options, "--preflight.seconds", "30"], dies_after="writing")
    assert result.codes == [1, -signal.SIGKILL]
    assert ("everybody", "node-b rank 1") in result.faults()
    assert ("connect", "") in result.rows("skipped")
    assert result.seconds < 60


@pytest.mark.slow  # is waited for as long as that check may take
def test_an_mlflow_server_that_hangs_is_a_warning_and_does_not_hold_up_the_job(tmp_path, options):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = pair(tmp_path, [*options, "--tracking.mlflow", uri])
    assert result.faults() == []
    assert ("mlflow", "node-a") in result.rows("warning")
    assert f"{uri} does not answer" in result.seen("mlflow")
    assert result.seconds < 80


def machine(cluster: Nodes, node: str) -> Machine:
    """A rank on a node with a network interface of its own."""
    etc = Path("/etc/netns") / cluster.namespace(node)
    mounts = {f"/etc/{name}": str(etc / name) for name in ("hosts", "nsswitch.conf")}
    return Machine(node, network=cluster.namespace(node), mounts=mounts)


def three(cluster: Nodes, options: list[str], tmp_path: Path) -> Result:
    """Three ranks with a network between them."""
    machines = [machine(cluster, node) for node in ("node1", "node2", "node3")]
    fitting = [*options, "--global_batch_size", "12"]
    return run(machines, fitting, tmp_path, master=cluster.addresses["node1"])


def test_nodes_with_a_network_between_them_may_go_on(tmp_path, options, cluster):
    # ranks on one busy machine are not equally fast
    result = three(cluster, [*options, "--preflight.slow_pair", "0.01"], tmp_path)
    assert result.faults() == []
    assert f"node2 {cluster.addresses['node2']}" in result.seen("address")
    assert result.seen("ports").startswith("6 connections")
    assert result.seen("pairs").startswith("3 pair(s)")


def test_a_way_that_is_blocked_is_named_with_both_its_ends(tmp_path, options, cluster):
    cluster.run("node2", ["ip", "route", "add", "unreachable", cluster.addresses["node3"]])
    result = three(cluster, options, tmp_path)
    assert result.codes == [1, 1, 1]
    assert result.faults() == [("ports", "node2 to node3"), ("ports", "node3 to node2")]
    assert ("all-reduce", "") in result.rows("skipped")


@pytest.mark.slow  # megabytes take their time on it
def test_a_slow_link_is_named(tmp_path, options, cluster):
    limit = ["tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "200mbit", "burst", "256kb", "latency", "50ms"]
    cluster.run("node3", limit)
    result = three(cluster, [*options, "--preflight.bandwidth", "0.04"], tmp_path)
    assert result.faults() == [("all-reduce", "all 3 ranks"), ("pairs", "node3")]
    measured = result.report["measured"]["2"]["pairs"]["pairs"]
    assert all(entry["bandwidth"] == pytest.approx(0.025, rel=0.25) for entry in measured), "200 Mbit/s"


def drop(cluster: Nodes, node: str, packets: str) -> None:
    """Have a node lose the packets that a rule of nftables describes."""
    chain = "add table inet f; add chain inet f c { type filter hook input priority 0; }; "
    cluster.run(node, ["nft", f"{chain}add rule inet f c {packets} drop"])


@pytest.mark.slow  # every collective is waited for until its time-out
@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nftables")
def test_a_link_that_loses_large_packets_is_named_by_its_pairs(tmp_path, options, cluster):
    """As with jumbo frames that a switch does not pass on: connections come about, and then nothing does."""
    drop(cluster, "node3", "meta length > 1400")
    result = three(cluster, options, tmp_path)
    assert result.codes == [1, 1, 1]
    assert {check for check, _ in result.faults()} == {"all-reduce", "pairs"}
    assert [where for check, where in result.faults() if check == "pairs"] == ["node3"]
    assert result.seconds < 80


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nftables")
def test_a_node_with_a_firewall_is_named(tmp_path, options, cluster):
    drop(cluster, "node3", "tcp flags & (syn | ack) == syn")
    result = three(cluster, options, tmp_path)
    assert result.faults() == [("ports", "node3")]
    assert result.seen("ports").startswith(f"no node reaches it ({cluster.addresses['node3']} port ")
    assert "blocked by a firewall" in result.out
    assert "open all TCP ports" in result.out


@pytest.mark.slow  # is waited for
def test_a_node_that_cannot_reach_the_first_says_so_and_is_missed(tmp_path, options, cluster):
    cluster.run("node1", ["ip", "route", "add", "blackhole", cluster.addresses["node3"]])
    result = three(cluster, [*options, "--preflight.arrival_seconds", "6"], tmp_path)
    assert result.codes == [1, 1, 1]
    assert result.rows() == [("arrival", "node 2 of 0..2")]
    assert result.rows("fine") == [("arrival", "node1"), ("arrival", "node2")]
    assert f"node3 rank 2  cannot reach {cluster.addresses['node1']}" in result.errors[2]
    assert "no answer" in result.errors[2]


@pytest.mark.slow  # torchrun, and then Python, start twice
def test_torchrun_with_a_node_in_another_time(tmp_path, options):
    """The whole command under the real launcher. (libfaketime 0.9.10 hangs in Python's timed waits.)"""
    (tmp_path / "late").mkdir()
    shift = "import time\n_true = time.time\ntime.time = lambda: _true() + 30\n"
    (tmp_path / "late" / "sitecustomize.py").write_text(shift)
    report, root = tmp_path / "report.json", str(Path(__file__).parents[4])
    agents = []
    with reserved_port() as port:
        rendezvous = ["--rdzv-backend", "static", "--master-addr", "127.0.0.1", "--master-port", str(port)]
        common = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *rendezvous]
        for node, path in enumerate((root, f"{tmp_path / 'late'}:{root}")):
            verb = ["preflight", *options, "--preflight.arrival_seconds", "120", "--json", str(report)]
            command = [*common, "--node-rank", str(node), "-m", "launch.cli", *verb]
            named = ["unshare", "--uts", "sh", "-c", f'hostname node-{"ab"[node]}; exec "$@"', "sh", *command]
            environment = os.environ | LOOPBACK | {"PYTHONPATH": path}
            agents.append(subprocess.Popen(named, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        outputs = [agent.communicate(timeout=300)[0].decode() for agent in agents]
    assert all(agent.returncode == 1 for agent in agents), outputs
    assert report.exists(), outputs
    found = json.loads(report.read_text())
    faults = [row for row in found["findings"] if row["level"] == "fault" and row["check"] != "compute"]
    assert [(row["check"], row["where"]) for row in faults] == [("clock", "node-b")]
    assert_clock(found["measured"]["1"]["clock"], faults[0]["seen"], 30.0)
    assert "fault    clock" in outputs[0]
