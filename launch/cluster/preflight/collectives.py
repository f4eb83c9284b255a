"""How fast do all ranks, and every two nodes, add up a tensor? gloo on CPU, NCCL on GPUs."""

import math
import os
import statistics
import time
import warnings
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

from .checks import Answer, Check, Facts, Site, named, reason, synchronize
from .findings import Finding, fault, fine, warning

_GROUP_SECONDS = 15.0  # NCCL takes its time for a thousand ranks
_PAIR_SECONDS = 5.0
_PAIRS_SECONDS = 20.0
_LATENCY_ROUNDS, _BANDWIDTH_ROUNDS = 20, 5
_LONG_SECONDS = 0.5  # a round that takes so long is not made again
_MEGABYTES = {"cuda": 64, "cpu": 8}
# So many rounds of disjoint pairs: all pairs of up to 32 nodes, and of more nodes 31 pairs for each.
_MOST_ROUNDS = 31
_NETWORK_FIX = (
    "look at the link and its switch port, at MTU and at which interface is used (NCCL_SOCKET_IFNAME, NCCL_IB_HCA, "
    "GLOO_SOCKET_IFNAME; NCCL_DEBUG=INFO says)"
)


def tournament(nodes: int) -> list[list[tuple[int, int]]]:
    """All pairs of `nodes` nodes in rounds in which every node has one partner at most.

    The circle method: the first stays, the others move on by one seat each round (Kirkman 1847); an odd number plays
    against nobody.
    """
    seats: list[int | None] = [*range(nodes), *([None] if nodes % 2 else [])]
    rounds = []
    for _ in range(len(seats) - 1):
        facing = zip(seats[: len(seats) // 2], reversed(seats[len(seats) // 2 :]), strict=True)
        rounds.append([(min(a, b), max(a, b)) for a, b in facing if a is not None and b is not None])
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return rounds


def _connect(site: Site) -> Facts:
    """Form the process group. gloo opens all connections at once, NCCL with the first collective."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.c10d_logger")
    # NCCL: raise in the waiting thread when the time is up, instead of ending the process
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
    began = time.perf_counter()
    _form_group(site, "all", list(range(len(site.job.places))), _GROUP_SECONDS)
    _timed(torch.ones(1, device=site.device), site.device)
    return {"seconds": time.perf_counter() - began}


def _form_group(site: Site, name: str, ranks: list[int], seconds: float) -> None:
    dist.init_process_group(
        _backend(site),
        store=dist.PrefixStore(f"group/{name}", site.job.store),
        rank=ranks.index(site.job.me.rank),
        world_size=len(ranks),
        timeout=timedelta(seconds=seconds),
    )


def _backend(site: Site) -> str:
    return "nccl" if site.device.type == "cuda" else "gloo"


def _judge_connect(answers: Sequence[Answer], site: Site) -> list[Finding]:
    slowest = max(answer.facts["seconds"] for answer in answers)
    return [fine("connect", named(answers, answers), f"{_backend(site)} group formed in {slowest:.1f} s")]


def _reduce_all(site: Site) -> Facts:
    try:
        return time_all_reduce(site.device, len(site.job.places))
    finally:
        dist.destroy_process_group()


def time_all_reduce(device: torch.device, ranks: int) -> Facts:
    """Latency in seconds of 4 bytes, the median; and bus bandwidth in GB/s of megabytes, the best.

    Bus bandwidth is nccl-tests' measure, 2 (n - 1) / n times bytes over seconds: what each link had to carry, whatever
    the number of ranks n.

    Raises:
        ValueError: the sum came out wrong.
    """
    one = torch.ones(1, device=device)
    latency = statistics.median(_timed(one, device) for _ in range(_LATENCY_ROUNDS))
    bytes_ = _MEGABYTES[device.type] * 2**20
    many = torch.empty(bytes_ // 4, device=device)
    best = _timed(many.fill_(1.0), device)
    slowest = torch.tensor([best], device=device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)  # all ranks must make the same number of rounds
    for _ in range(_BANDWIDTH_ROUNDS - 1 if slowest.item() < _LONG_SECONDS else 0):
        best = min(best, _timed(many.fill_(1.0), device))
    if not torch.all(many == ranks):
        raise ValueError(f"a sum over {ranks} ranks came out as {many[many != ranks][0]}")
    return {"latency": latency, "bandwidth": 2 * (ranks - 1) / ranks * bytes_ / best / 1e9}


def _timed(tensor: torch.Tensor, device: torch.device) -> float:
    synchronize(device)
    began = time.perf_counter()
    dist.all_reduce(tensor)
    synchronize(device)
    return time.perf_counter() - began


def judge_all_reduce(answers: Sequence[Answer], site: Site) -> list[Finding]:
    """The slowest rank's figures against `preflight.bandwidth`."""
    bandwidth = min(answer.facts["bandwidth"] for answer in answers)
    latency = max(answer.facts["latency"] for answer in answers)
    if len(answers) == 1:
        return [fine("all-reduce", answers[0].where, "one rank, nothing to add up")]
    seen = f"bus bandwidth {bandwidth:.2f} GB/s, latency {latency * 1e6:,.0f} us"
    if bandwidth < site.limits.bandwidth:
        seen += f", below preflight.bandwidth={site.limits.bandwidth:g}"
        return [fault("all-reduce", named(answers, answers), seen, _NETWORK_FIX)]
    return [fine("all-reduce", named(answers, answers), seen)]


def _pairs(site: Site) -> Facts:
    """All-reduces of this rank with the rank of the same number on one other node after the other.

    A round begins when all ranks have ended the one before, so a link that hangs delays the others but does not make
    them look as if they hung.
    """
    if len(site.job.nodes) == 1:
        return {"pairs": []}
    job, until = site.job, time.monotonic() + min(_PAIRS_SECONDS, 0.8 * site.left()) - _PAIR_SECONDS
    found = []
    for number, pairs in enumerate(tournament(len(job.nodes))[:_MOST_ROUNDS]):
        key = f"pairs/{number}"
        if job.gather(f"{key}/ready", 1, 3 * _PAIR_SECONDS) is not None:
            job.announce(key, time.monotonic() < until and not job.lost)
        if not job.hear(key, 4 * _PAIR_SECONDS):
            break
        partner = next((a + b - job.me.index for a, b in pairs if job.me.index in (a, b)), None)
        there = [] if partner is None else job.on_node(partner)
        peers = [place for place in there if place.local_rank == job.me.local_rank]
        found += [{"node": partner, **_with(site, peer.rank)} for peer in peers]
    return {"pairs": found}


def _with(site: Site, peer: int) -> Facts:
    """An all-reduce with one other rank, in a group that owes nothing to those before it.

    `dist.new_group(use_local_synchronization=True)` would do, but torch 2.13 finds the partner by the number of groups
    that each of the two has been in, which are not the same where somebody has sat out a round.
    """
    ranks = sorted((site.job.me.rank, peer))
    try:
        _form_group(site, "-".join(map(str, ranks)), ranks, _PAIR_SECONDS)
        return time_all_reduce(site.device, 2)
    except Exception as error:  # one sick link must not hide what the others are like
        return {"error": reason(error)}
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def judge_pairs(answers: Sequence[Answer], site: Site) -> list[Finding]:
    """Pairs of nodes that fail or are slow; a node that is so with all of its partners is named alone."""
    nodes = site.job.nodes
    if len(nodes) == 1:
        return [fine("pairs", nodes[0], "one node, nothing to compare")]
    links = pair_figures(answers)
    rates = {pair: rate for pair, (rate, _, _) in links.items()}
    # of three nodes a sick one is in two of three pairs: the median would be sick with it
    good = sorted(rates.values())[math.ceil(0.75 * (len(rates) - 1))]
    bad = {pair for pair, rate in rates.items() if rate < site.limits.slow_pair * good or links[pair][2]}
    findings, explained = [], set()
    for index, name in enumerate(nodes):
        own = {pair for pair in rates if index in pair}
        if len(own) > 1 and own <= bad < rates.keys():
            best, error = max(rates[pair] for pair in own), next((links[pair][2] for pair in own if links[pair][2]), "")
            seen = f"all-reduce with each of {len(own)} nodes at most {best:.2f} GB/s; upper quartile {good:.2f}"
            seen += f" ({error})" if error else ""
            findings.append(fault("pairs", name, seen, _NETWORK_FIX))
            explained |= own
    for a, b in sorted(bad - explained):
        rate, _, error = links[a, b]
        seen = f"all-reduce failed ({error})" if error else f"{rate:.2f} GB/s; upper quartile {good:.2f}"
        findings.append(fault("pairs", f"{nodes[a]} with {nodes[b]}", seen, _NETWORK_FIX))
    wanted = len(nodes) * (len(nodes) - 1) // 2
    if len(links) < wanted:
        seen = f"{len(links)} of {wanted} pairs measured in the time there is"
        findings.append(warning("pairs", f"all {len(nodes)} nodes", seen, "raise preflight.seconds for more"))
    low, high = min(rates.values()), max(rates.values())
    latency = max(latency for _, latency, _ in links.values())
    seen = f"{len(links)} pair(s): {low:.2f} to {high:.2f} GB/s, latency up to {latency * 1e6:,.0f} us"
    return findings or [fine("pairs", named(answers, answers), seen)]


def pair_figures(answers: Sequence[Answer]) -> dict[tuple[int, int], tuple[float, float, str]]:
    """By pair of nodes: GB/s of all their ranks together, the worst latency, and an error if there was one.

    Each pair of ranks was measured from both ends, of which the slower counts.
    """
    ends: dict[tuple[int, int], dict[int, list[Facts]]] = {}
    for answer in answers:
        for entry in answer.facts["pairs"]:
            here, there = answer.place.index, entry["node"]
            pair = min(here, there), max(here, there)
            ends.setdefault(pair, {}).setdefault(answer.place.local_rank, []).append(entry)
    figures = {}
    for pair, by_rank in ends.items():
        entries = [entry for both in by_rank.values() for entry in both]
        error = next((entry["error"] for entry in entries if "error" in entry), "")
        rate = 0.0 if error else sum(min(entry["bandwidth"] for entry in both) for both in by_rank.values())
        figures[pair] = rate, max(entry.get("latency", 0.0) for entry in entries), error
    return figures


CONNECT = Check(
    "connect",
    "rank",
    _connect,
    _judge_connect,
    needs=("everybody", "ports"),
    seconds=_GROUP_SECONDS + 5,
    fix=_NETWORK_FIX,
)
ALL_REDUCE = Check(
    "all-reduce",
    "rank",
    _reduce_all,
    judge_all_reduce,
    needs=("everybody", "connect"),
    seconds=_GROUP_SECONDS + 5,
    fix=_NETWORK_FIX,
)
PAIRS = Check("pairs", "rank", _pairs, judge_pairs, needs=("everybody", "ports"), seconds=_PAIRS_SECONDS + 5)
