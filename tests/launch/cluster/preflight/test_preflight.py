"""What preflight makes of the measurements of a job, however large, and of checks that do not end."""

import io
import itertools
import json
import threading
import time
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from launch.cluster.preflight import PreflightConfig, show
from launch.cluster.preflight.checks import ERROR, Answer, Check, Site, judge, measure, name_places
from launch.cluster.preflight.collectives import judge_pairs, pair_figures, time_all_reduce, tournament
from launch.cluster.preflight.compute import COMPUTE
from launch.cluster.preflight.data import DATA
from launch.cluster.preflight.devices import DEVICES, ecc_findings
from launch.cluster.preflight.findings import fault, fine, listed, merged
from launch.cluster.preflight.job import Job, absence, roster
from launch.cluster.preflight.network import Beacon, judge_address, judge_ports, partners
from launch.cluster.preflight.recipe import RECIPE
from launch.cluster.preflight.storage import judge_shared, size_of_checkpoint, space_findings
from launch.cluster.preflight.tracking import MLFLOW
from launch.cluster.preflight.versions import VERSIONS, source_hash
from launch.tracking.tracker import TrackingConfig
from pretrain import PretrainConfig
from tests.launch.tiny import TINY
from tests.processes import reserved_port


def card(host: str, local_rank: int = 0, group: str = "", local_world_size: int = 1) -> dict:
    return {"host": host, "group": group, "local_rank": local_rank, "local_world_size": local_world_size}


def job(nodes: int, ranks: int = 1, rank: int = 0) -> Job:
    """A job of `nodes` nodes n0, n1, ... with `ranks` ranks each."""
    cards = {rank: card(f"n{rank // ranks}", rank % ranks) for rank in range(nodes * ranks)}
    return Job(dist.HashStore(), rank, roster(cards))


def site(nodes: int = 2, ranks: int = 1, **recipe: str) -> Site:
    config = PretrainConfig(**{"data": "", "output": "", **recipe})
    until = time.monotonic() + 30
    return Site(config, TrackingConfig(), PreflightConfig(), job(nodes, ranks), torch.device("cpu"), until)


def answers(where: Site, facts: list[dict], per_node: bool = False) -> list[Answer]:
    places = where.job.firsts if per_node else where.job.places
    return [Answer(place, fact, per_node) for place, fact in zip(places, facts, strict=True)]


def faults(findings) -> list[tuple[str, str]]:
    return [(row.where, row.seen) for row in findings if row.level == "fault"]


@pytest.mark.parametrize("check", [RECIPE, DATA])
def test_what_is_wrong_and_its_fix_stand_in_columns_of_their_own(check, tmp_path):
    absent = str(tmp_path / "a: b")  # a colon of the user's own divides nothing
    where = site(1, data=absent, output=str(tmp_path / "run"))
    facts = json.loads(json.dumps(check.measure(where)))  # as another node's arrive
    (row,) = check.judge(answers(where, [facts]), where)
    assert (row.level, row.seen) == ("fault", f"{absent} does not exist")
    assert row.fix == f"write it with `acn prepare --output {absent}`"


def test_a_problem_without_a_fix_says_to_change_the_recipe(tmp_path, prepared):
    where = site(1, data=str(prepared), output=str(tmp_path / "run"))
    where.config.optim.lr = 0.0
    rows = RECIPE.judge(answers(where, [json.loads(json.dumps(RECIPE.measure(where)))]), where)
    assert ("optim.lr=0.0 must be above 0", "change the recipe") in [(row.seen, row.fix) for row in rows]


@given(st.integers(1, 40))
def test_every_two_nodes_meet_once_and_nobody_meets_two_at_a_time(nodes):
    rounds = tournament(nodes)
    assert sorted(itertools.chain(*rounds)) == list(itertools.combinations(range(nodes), 2))
    assert all(len(set(itertools.chain(*pairs))) == 2 * len(pairs) for pairs in rounds)
    assert len(rounds) <= nodes


@given(st.integers(1, 3000))
def test_every_node_is_knocked_at_by_as_many_as_it_knocks_at_and_not_by_all(nodes):
    count = len(partners(0, nodes))
    assert all(partner != 7 % nodes for partner in partners(7 % nodes, nodes))
    assert len(set(partners(nodes - 1, nodes))) == count
    assert count == nodes - 1 if nodes <= 128 else count <= 12
    if nodes <= 300:
        knocked = [partner for index in range(nodes) for partner in partners(index, nodes)]
        assert all(knocked.count(index) == count for index in range(nodes))


def test_nodes_are_told_apart_by_host_and_by_launcher():
    here = Job(dist.HashStore(), 2, roster({0: card("a"), 1: card("b"), 2: card("a", 1)}))
    assert [place.node for place in here.places] == ["a", "b", "a"]
    assert [place.rank for place in here.firsts] == [0, 1]
    assert not here.speaks_for_node
    places = roster({0: card("x", group="0"), 1: card("x", 1, group="0"), 2: card("x", group="1")})
    assert [(place.node, place.index) for place in places] == [("x#0", 0), ("x#0", 0), ("x#1", 1)]


def test_missing_ranks_are_named_by_the_neighbours_that_came(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_NODELIST", "gpu[1-3]")
    cards = {0: card("gpu1", 0, "0", 2), 1: card("gpu1", 1, "0", 2), 2: card("gpu2", 0, "1", 2)}
    rows = absence(cards, 6)
    assert [(row.level, row.where) for row in rows] == [
        ("fine", "gpu1"), ("fine", "gpu2"), ("fault", "gpu2"), ("fault", "node 2 of 0..2")
    ]  # fmt: skip
    assert rows[2].seen == "rank 3 of 6 did not arrive (the job has gpu[1-3])"
    assert rows[3].seen.startswith("rank 4, 5 of 6 did not arrive")


def never(_: Site) -> dict:
    threading.Event().wait(20)
    return {}


def broken(_: Site) -> dict:
    raise KeyError("no such thing")


def test_a_check_that_fails_or_hangs_is_a_fault_and_the_others_have_their_say():
    checks = [
        Check("hangs", "rank", never, lambda *_: [], seconds=0.3),
        Check("breaks", "rank", broken, lambda *_: []),
        Check("works", "rank", lambda _: {"a": 1}, lambda found, _: [fine("works", name_places(found, found), "1")]),
        Check("judges badly", "rank", lambda _: {}, lambda *_: [][0]),
        Check("elsewhere", "node", broken, lambda *_: []),
    ]
    here = replace(site(1, 2), job=job(1, 2, rank=1))
    facts = measure(checks, here)
    assert here.hung
    assert facts["hangs"][ERROR] == "no end within 0 s"
    assert facts["breaks"][ERROR] == "KeyError: 'no such thing'"
    assert "elsewhere" not in facts
    rows = [row for check in checks[:4] for row in judge(check, [None, facts], site(1, 2))]
    assert [(row.level, row.check, row.where) for row in rows] == [
        ("fault", "hangs", "n0 rank 1"),
        ("fault", "breaks", "n0 rank 1"),
        ("fine", "works", "n0 rank 1"),
        ("fault", "judges badly", "n0 rank 1"),
    ]


def test_gathering_names_those_who_give_nothing_and_does_not_wait_for_them_again():
    here = job(3)
    here.store.set("facts/1", json.dumps({"a": 1}))
    assert here.gather("facts", {"a": 0}, seconds=0.1) == [{"a": 0}, {"a": 1}, None]
    assert here.lost == {2}
    here.store.set("more/1", "2")
    began = time.monotonic()
    assert here.gather("more", 1, seconds=30.0) == [1, 2, None]
    assert time.monotonic() - began < 10


@given(st.integers(2, 64), st.data())
def test_the_odd_one_out_is_named_whatever_the_size_of_the_job(nodes, data):
    odd = data.draw(st.integers(1 if nodes == 2 else 0, nodes - 1))
    here = site(nodes)
    found = VERSIONS.judge(
        answers(here, [{"torch": "2.12.0" if index == odd else "2.13.0"} for index in range(nodes)]), here
    )
    assert faults(found) == [(f"n{odd} rank {odd}", "torch 2.12.0, elsewhere 2.13.0")]


def test_sources_tell_apart_what_has_one_version_number(tmp_path):
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "a.py").write_text("1")
    before = source_hash(tmp_path)
    assert source_hash(tmp_path) == before
    (tmp_path / "launch" / "a.py").write_text("2")
    assert source_hash(tmp_path) != before


def test_stragglers_are_measured_by_the_median_and_gpus_by_their_data_sheet():
    here = site(4)
    rates = [700e12, 720e12, 300e12, 500e12]
    found = COMPUTE.judge(answers(here, [{"rate": rate, "peak": 989e12, "precision": "bf16"} for rate in rates]), here)
    assert faults(found) == [("n2 rank 2", "300 TFLOP/s in matrix products, 43% of the median rank's 700 TFLOP/s")]
    assert [row.where for row in found if row.level == "warning"] == ["n3 rank 3"]
    throttled = [{"rate": 200e12, "peak": 989e12, "precision": "bf16"}] * 4
    found = COMPUTE.judge(answers(here, throttled), here)
    assert [row.level for row in found] == ["warning"] * 4
    assert "20% of what the data sheet says" in found[0].seen


HEALTHY = {"driver": "570.86.15", "uncorrected": "0", "pending": "No", "failure": "No", "temperature": "31",
           "mib_used": "4"}  # fmt: skip


@pytest.mark.parametrize(
    ("sick", "said"),
    [
        ({}, ""),
        ({"uncorrected": "[N/A]", "pending": "[N/A]", "failure": "[N/A]"}, ""),
        ({"uncorrected": "3"}, "3 uncorrected ECC errors"),
        ({"pending": "Yes"}, "waits to be remapped"),
        ({"failure": "Yes", "pending": "Yes"}, "could not be remapped"),
    ],
)
def test_gpus_with_memory_errors_are_named(sick, said):
    found = ecc_findings("n1 rank 3", HEALTHY | sick)
    assert [row.level for row in found] == (["fault"] if said else [])
    assert all(said in row.seen for row in found)


def test_gpus_that_are_taken_missing_or_of_another_kind_are_named():
    here = site(1, 4)
    gpu = {"kind": "NVIDIA H100", "visible": 8, "wanted": 4, "free": 79 << 30, "total": 80 << 30, "smi": HEALTHY}
    found = DEVICES.judge(answers(here, [gpu] * 4), here)
    assert [row.level for row in found] == ["fine"]
    assert found[0].seen == "NVIDIA H100, at least 79.0 of 80.0 GiB free, no ECC errors, driver 570.86.15"
    found = DEVICES.judge(
        answers(
            here,
            [
                gpu,
                gpu | {"free": 40 << 30},
                {"kind": "missing", "visible": 2, "wanted": 4},
                gpu | {"kind": "NVIDIA A100", "smi": HEALTHY | {"driver": "535.1"}},
            ],
        ),
        here,
    )
    assert faults(found) == [
        ("n0 rank 1", "40.0 of 80.0 GiB free"),
        ("n0 rank 2", "2 GPUs visible for 4 ranks"),
        ("n0 rank 3", "NVIDIA A100, elsewhere NVIDIA H100"),
        ("n0 rank 3", "driver 535.1, elsewhere 570.86.15"),
    ]


def test_a_node_that_all_fail_to_reach_is_named_once_and_single_ways_by_their_ends():
    here = site(4)
    closed = {(a, 2): "no answer" for a in (0, 1, 3)} | {(1, 0): "refused"}
    facts = [{"asked": 3, "closed": [[b, why] for (a, b), why in closed.items() if a == index]} for index in range(4)]
    found = judge_ports(answers(here, facts, per_node=True), here)
    assert faults(found) == [("n2", "no node reaches it (no answer)"), ("n1 to n0", "refused")]


def test_a_host_name_that_stands_for_the_loopback_is_a_fault_among_several_machines():
    here = site(3)
    facts = [{"address": f"10.0.0.{n}", "gloo": f"10.0.0.{n}"} for n in range(3)]
    assert faults(judge_address(answers(here, facts, per_node=True), here)) == []
    facts[1]["gloo"] = "127.0.1.1"
    ((where, seen),) = faults(judge_address(answers(here, facts, per_node=True), here))
    assert (where, seen.partition(":")[0]) == ("n1", "its host name stands for 127.0.1.1")


def test_a_beacon_tells_the_time_to_several_at_once():
    import socket
    import struct

    beacon = Beacon("127.0.0.1")
    clients = [socket.create_connection(("127.0.0.1", beacon.port), timeout=10) for _ in range(3)]
    for client in clients * 2:
        before = time.time()
        client.sendall(b"?")
        (said,) = struct.unpack("!d", client.recv(8, socket.MSG_WAITALL))
        assert before <= said <= time.time()
    for client in clients:
        client.close()
    beacon.close()


@given(st.integers(2, 20), st.data())
def test_the_nodes_with_another_folder_are_the_fewer_ones(nodes, data):
    apart = data.draw(st.sets(st.integers(0, nodes - 1), max_size=(nodes - 1) // 2))
    groups = [index in apart for index in range(nodes)]
    facts = [
        {"folder": "/shared", "unseen": [other for other in range(nodes) if groups[other] != groups[index]]}
        for index in range(nodes)
    ]
    here = site(nodes)
    found = faults(judge_shared(answers(here, facts, per_node=True), here))
    first = min(set(range(nodes)) - apart)
    expected = (listed(f"n{index}" for index in sorted(apart)), f"/shared is not the one of n{first}")
    assert found == ([expected] if apart else [])


def test_a_disk_without_room_for_the_checkpoints_is_named(prepared):
    here = site(2, data=str(prepared))
    here.config.model.hidden_size, here.config.model.num_hidden_layers = 16, 2
    here.config.model.intermediate_size, here.config.model.num_attention_heads = 24, 2
    size = size_of_checkpoint(here)
    assert size is not None
    assert 16 * 2 * 2_000 < size < 16 * 50_000
    roomy = {"free": 10**12, "folder": "/shared"}
    short = {"free": 3 * size, "folder": "/shared"}  # two to keep and one more, but then the model
    facts = [{"ranks": 1, "output": output, "scratch": roomy} for output in (roomy, short)]
    first, second = answers(here, facts, per_node=True)
    assert space_findings(first, here, size) == []
    ((where, seen),) = faults(space_findings(second, here, size))
    assert where == "n1"
    assert "free in /shared" in seen
    crowded = Answer(second.place, facts[0] | {"shm": {"free": 2**25, "folder": "/dev/shm"}, "scratch": short}, True)
    assert [row.seen.split(" in ")[0] for row in space_findings(crowded, here, size)] == [
        f"{3 * size / 1e9:.2f} GB free for temporary files",
        "32 MiB of shared memory",
    ]


def test_a_tracking_store_that_does_not_answer_is_a_warning_without_its_password(tmp_path):
    here = site(1)
    with reserved_port() as port:
        for uri, store in (
            (f"http://127.0.0.1:{port}", "http://127.0.0.1"),
            (f"postgresql://me:secret@127.0.0.1:{port}/runs", "postgresql://127.0.0.1"),
        ):
            here.tracking.mlflow = uri
            (row,) = MLFLOW.judge(answers(here, [MLFLOW.measure(here)], per_node=True), here)
            assert (row.level, row.where) == ("warning", "n0")
            assert row.seen.startswith(store)
            assert "refused" in row.seen
            assert "secret" not in row.seen
    here.tracking.mlflow = f"sqlite:///{tmp_path}/new/mlruns.db"
    (row,) = MLFLOW.judge(answers(here, [MLFLOW.measure(here)], per_node=True), here)
    assert row.level == "fine"
    assert list(tmp_path.iterdir()) == []


def pair_answers(here: Site, rates: dict[tuple[int, int], float]) -> list[Answer]:
    facts = []
    for place in here.job.places:
        mine = [(pair, rate) for pair, rate in rates.items() if place.index in pair]
        entries = [{"node": a + b - place.index, "latency": 1e-5, "bandwidth": rate} for (a, b), rate in mine]
        facts.append({"pairs": entries})
    return answers(here, facts)


def test_a_slow_node_is_named_alone_and_a_slow_link_with_both_ends():
    here = site(5, ranks=2)
    rates = dict.fromkeys(itertools.combinations(range(5), 2), 10.0)
    assert [row.level for row in judge_pairs(pair_answers(here, rates), here)] == ["fine"]
    slow_link = rates | {(1, 3): 4.0}
    assert pair_figures(pair_answers(here, slow_link))[1, 3] == (8.0, 1e-5, "")  # two ranks each
    ((where, seen),) = faults(judge_pairs(pair_answers(here, slow_link), here))
    assert (where, seen) == ("n1 with n3", "8.00 GB/s; upper quartile 20.00")
    slow_node = rates | {pair: 1.0 for pair in rates if 2 in pair}
    ((where, seen),) = faults(judge_pairs(pair_answers(here, slow_node), here))
    assert (where, seen) == ("n2", "all-reduce with each of 4 nodes at most 2.00 GB/s; upper quartile 20.00")
    del rates[0, 1]
    assert [row.level for row in judge_pairs(pair_answers(here, rates), here)] == ["warning"]


def test_of_three_nodes_the_one_that_is_slow_with_both_others_is_named():
    here = site(3)
    ((where, _),) = faults(judge_pairs(pair_answers(here, {(0, 1): 9.0, (0, 2): 1.0, (1, 2): 1.1}), here))
    assert where == "n2"


def test_pairs_that_failed_are_named_with_their_error_and_nobody_is_blamed_when_all_did():
    failed = {"error": "Timed out"}
    here = site(2)
    facts = [{"pairs": [{"node": 1, **failed}]}, {"pairs": [{"node": 0, **failed}]}]
    assert faults(judge_pairs(answers(here, facts), here)) == [("n0 with n1", "all-reduce failed (Timed out)")]
    here = site(3)
    facts = [{"pairs": [{"node": other, **failed} for other in range(3) if other != index]} for index in range(3)]
    found = faults(judge_pairs(answers(here, facts), here))
    assert [where for where, _ in found] == ["n0 with n1", "n0 with n2", "n1 with n2"]


def test_bandwidth_is_what_each_link_carries(monkeypatch):
    moments = iter(itertools.count(0, 0.5))  # every all-reduce takes half a second
    monkeypatch.setattr("launch.cluster.preflight.collectives.time.perf_counter", lambda: next(moments))
    monkeypatch.setattr("launch.cluster.preflight.collectives.dist.all_reduce", lambda tensor, op=None: tensor.mul_(4))
    figures = time_all_reduce(torch.device("cpu"), 4)
    assert figures["latency"] == 0.5
    assert figures["bandwidth"] == pytest.approx(2 * 3 / 4 * 8 * 2**20 / 0.5 / 1e9)
    with pytest.raises(ValueError, match="a sum over 3 ranks came out as 4"):
        time_all_reduce(torch.device("cpu"), 3)


def test_equal_rows_become_one_and_long_lists_are_cut():
    rows = [fault("a", f"n{index}", "x", "m") for index in range(9)] + [fine("b", "n0", "y")]
    assert [(row.check, row.where) for row in merged(rows)] == [("a", "n0, n1, n2, n3, n4, n5 and 3 more"), ("b", "n0")]


@pytest.mark.parametrize("terminal", [True, False])
def test_faults_come_first_with_their_fix_beside_them(terminal):
    out = io.StringIO()
    rows = [fine("versions", "all 2 nodes", "torch [2.13]"), fault("clock", "n1", "3 s ahead", "run chrony")]
    show(rows, "1 fault", Console(file=out, force_terminal=terminal, width=100))
    text = out.getvalue()
    assert text.index("3 s ahead") < text.index("run chrony") < text.index("torch [2.13]") < text.index("1 fault")
    assert ("│" in text) == terminal


def test_bad_limits_and_foreign_files_are_refused_together(acn, tmp_path):
    (tmp_path / "thesis.json").write_text("{}")
    code, out, err = acn("preflight", "--preflight.straggler", "2", "--preflight.clock_seconds", "0", "--log_every",
                         "0", "--json", "thesis.json")  # fmt: skip
    assert code == 2
    for name in ("preflight.straggler=2", "preflight.clock_seconds=0", "log_every=0", "json=thesis.json"):
        assert name in err
    assert (tmp_path / "thesis.json").read_text() == "{}"
    assert out == ""


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2", "RANK": "1"}, "MASTER_PORT is not set"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_PORT": "1", "MASTER_ADDR": "x"}, "RANK=2 is outside 0..1"),
        ({"WORLD_SIZE": "two", "RANK": "0", "MASTER_PORT": "1", "MASTER_ADDR": "x"}, "WORLD_SIZE=two is no number"),
    ],
)
def test_a_launcher_that_sets_half_of_the_variables_is_a_mistake(monkeypatch, variables, said):
    from launch.cluster.preflight.job import join
    from launch.errors import LaunchError

    for name in ("WORLD_SIZE", "RANK", "MASTER_PORT", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LaunchError, match=said):
        join(1.0)


def test_the_command_starts_its_own_ranks_and_reports_once(acn, tmp_path, prepared):
    limits = ["--preflight.straggler", "0", "--tracking.mlflow", "null", "--json", "report.json"]
    code, out, err = acn("preflight", "--data", str(prepared), *TINY, "--nproc_per_node", "2", *limits)
    assert (code, err) == (0, "")
    assert out.count("2 rank(s) on 1 node(s) met") == 1
    assert out.splitlines()[-1].startswith("preflight: go on")
    report = json.loads((tmp_path / "report.json").read_text())
    assert sorted(report["measured"]) == ["0", "1"]
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
