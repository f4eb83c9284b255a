"""The ranks of a job, and how they talk before they can be trusted with a collective: through a key-value store.

Every wait has an end, so a rank that is missing, hangs or dies is named instead of waited for.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from ...errors import LaunchError
from .findings import Finding, fault, fine, listed

_POLL_SECONDS = 0.1
_CONNECT_SECONDS = 2.0
# After the last word of rank 0 the others need a moment to hear it before its store goes with it.
_FAREWELL_SECONDS = 5.0


class ArrivalError(RuntimeError):
    """The ranks did not all find each other.

    Args:
        findings: who is missing; none where rank 0 says it.
        dismiss: to be called once they are shown; lets those who did come go, too.
    """

    def __init__(self, findings: Sequence[Finding], dismiss: Callable[[], None] = lambda: None) -> None:
        super().__init__("; ".join(f"{row.where}: {row.seen}" for row in findings if row.level == "fault"))
        self.findings = list(findings)
        self.dismiss = dismiss


class LostError(RuntimeError):
    """Rank 0 is gone."""


@dataclass(frozen=True)
class Place:
    """One rank and where it runs."""

    rank: int
    local_rank: int
    node: str
    """Name of the node: its host name, numbered where several nodes have the same."""
    index: int
    """Number of the node, in the order of the first ranks."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.node} rank {self.rank}"


class Job:
    """The ranks that have arrived, and their store."""

    def __init__(self, store: Any, rank: int, places: Sequence[Place]) -> None:
        self.store = store
        self.places = list(places)
        self.me = self.places[rank]
        first = {place.index: place for place in reversed(self.places)}
        self.firsts = [first[index] for index in sorted(first)]
        """The first rank of every node, in the order of the nodes."""
        self.lost: set[int] = set()
        """Ranks that have stopped answering; kept by rank 0."""

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes."""
        return [place.node for place in self.firsts]

    @property
    def speaks_for_node(self) -> bool:
        """Whether this rank does what is done once for each node."""
        return self.me in self.firsts

    def on_node(self, index: int) -> list[Place]:
        """The ranks of a node."""
        return [place for place in self.places if place.index == index]

    def gather(self, key: str, value: Any, seconds: float) -> list[Any] | None:
        """Everybody's JSON value on rank 0, None for those who gave none within `seconds`; None on the others."""
        self.store.set(f"{key}/{self.me.rank}", json.dumps(value))
        if self.me.rank:
            return None
        until = time.monotonic() + seconds
        values = []
        for place in self.places:
            found = None if place.rank in self.lost else self._read(f"{key}/{place.rank}", until - time.monotonic())
            values.append(found)
            if found is None:
                self.lost.add(place.rank)
        return values

    def announce(self, key: str, value: Any) -> None:
        """Tell everybody a JSON value."""
        self.store.set(key, json.dumps(value))

    def hear(self, key: str, seconds: float) -> Any:
        """What was announced; LostError when nothing comes."""
        value = self._read(key, seconds)
        if value is None:
            raise LostError(f"rank 0 on {self.nodes[0]} has stopped answering: look at its output")
        return value

    def farewell(self) -> None:
        """Leave; rank 0, whose store the others still read, last."""
        if self.me.rank:
            self.store.set(f"left/{self.me.rank}", "1")
            return
        _await_farewells(self.store, {place.rank for place in self.places[1:]} - self.lost)

    def _read(self, key: str, seconds: float) -> Any:
        return json.loads(self.store.get(key)) if _wait(self.store, key, seconds) else None


def join(seconds: float) -> tuple[Job, Finding]:
    """Find the other ranks at MASTER_ADDR:MASTER_PORT, as `torchrun`, `deepspeed` or a script around srun set them.

    Returns:
        The job, and the row of the report about it.

    Raises:
        LaunchError: a variable is missing or no number.
        ArrivalError: not all ranks came within `seconds`.
    """
    address, port, rank, world_size = _environment()
    until = time.monotonic() + seconds
    store = dist.PrefixStore(
        f"acn-preflight/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}",
        _store(address, port, rank, until),
    )
    store.set(f"arrived/{rank}", json.dumps(_card()))
    if rank == 0:
        cards = _arrivals(store, world_size, until)
        if len(cards) < world_size:
            rows = absence(cards, world_size)
            raise ArrivalError(rows, lambda: _dismiss(store, cards))
        store.set("roster", json.dumps({"places": [asdict(place) for place in roster(cards)]}))
    elif not _wait(store, "roster", until - time.monotonic() + _FAREWELL_SECONDS):
        raise ArrivalError(absence(_arrivals(store, world_size, until=0.0), world_size))
    said = json.loads(store.get("roster"))
    if "absent" in said:
        store.set(f"left/{rank}", "1")
        raise ArrivalError([])  # rank 0 says it
    job = Job(store, rank, [Place(**place) for place in said["places"]])
    found = f"{world_size} rank(s) on {len(job.nodes)} node(s) met at {address}:{port}"
    return job, fine("arrival", listed(job.nodes), found)


def _dismiss(store: Any, cards: Iterable[int]) -> None:
    store.set("roster", json.dumps({"absent": True}))
    _await_farewells(store, [rank for rank in cards if rank])


def _await_farewells(store: Any, ranks: Iterable[int]) -> None:
    until = time.monotonic() + _FAREWELL_SECONDS
    for rank in ranks:
        _wait(store, f"left/{rank}", until - time.monotonic())


def _environment() -> tuple[str, int, int, int]:
    values = []
    for name in ("MASTER_PORT", "RANK", "WORLD_SIZE"):
        try:
            values.append(int(os.environ[name]))
        except KeyError:
            raise LaunchError(f"{name} is not set beside WORLD_SIZE: start the ranks with torchrun") from None
        except ValueError:
            raise LaunchError(f"{name}={os.environ[name]} is no number") from None
    if "MASTER_ADDR" not in os.environ:
        raise LaunchError("MASTER_ADDR is not set beside WORLD_SIZE: start the ranks with torchrun")
    port, rank, world_size = values
    if not 0 <= rank < world_size:
        raise LaunchError(f"RANK={rank} is outside 0..{world_size - 1}, as WORLD_SIZE={world_size} wants it")
    return os.environ["MASTER_ADDR"], port, rank, world_size


def _card() -> dict[str, Any]:
    """What a rank says of itself when it arrives."""
    rank = int(os.environ["RANK"])
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return {
        "host": socket.gethostname(),
        "group": os.environ.get("GROUP_RANK") or os.environ.get("SLURM_NODEID") or "",
        "local_rank": int(os.environ.get("LOCAL_RANK", rank % local_world_size)),
        "local_world_size": local_world_size,
    }


def _store(address: str, port: int, rank: int, until: float) -> Any:
    """A client of the store at address:port, which rank 0 starts unless torchrun has done so."""
    serve = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    me = f"{socket.gethostname()} rank {rank}"
    if not serve:
        reason = reach(address, port, until)
        if reason:
            fix = (
                f"let {address}:{port} through between the nodes; on the first node look whether rank 0 runs and which "
                "address it has there"
            )
            raise ArrivalError([fault("arrival", me, f"cannot reach {address}:{port} ({reason})", fix)])
    try:
        return dist.TCPStore(
            address,
            port,
            is_master=serve,
            timeout=timedelta(seconds=max(1.0, until - time.monotonic())),
            wait_for_workers=False,
            multi_tenant=True,
        )
    except RuntimeError as error:  # torch's DistError is one
        reason = " ".join(str(error).split())[:200]
        what = "cannot serve" if serve else "was not understood"
        fix = "choose another MASTER_PORT, and as MASTER_ADDR the first node's own address"
        raise ArrivalError([fault("arrival", me, f"{what} at {address}:{port} ({reason})", fix)]) from error


def reach(address: str, port: int, until: float) -> str:
    """Why no connection to address:port came about until then; empty when one did."""
    while True:
        try:
            with socket.create_connection((address, port), timeout=_CONNECT_SECONDS):
                return ""
        except OSError as error:
            reason = connection_reason(error)
        if time.monotonic() > until:
            return reason
        time.sleep(_POLL_SECONDS)


def connection_reason(error: OSError) -> str:
    """Why a connection failed, in the words of somebody looking for the cause."""
    if isinstance(error, TimeoutError):
        return "no answer: blocked by a firewall, or no such machine"
    if isinstance(error, ConnectionRefusedError):
        return "refused: nobody listens there"
    if isinstance(error, socket.gaierror):
        return "no such host name"
    return error.strerror or str(error)


def _arrivals(store: Any, world_size: int, until: float) -> dict[int, dict[str, Any]]:
    """The cards of those who have arrived: all, or what there is when the time is up."""
    cards: dict[int, dict[str, Any]] = {}
    while True:
        for rank in range(world_size):
            if rank not in cards and store.check([f"arrived/{rank}"]):
                cards[rank] = json.loads(store.get(f"arrived/{rank}"))
        if len(cards) == world_size or time.monotonic() > until:
            return cards
        time.sleep(_POLL_SECONDS)


def roster(cards: dict[int, dict[str, Any]]) -> list[Place]:
    """The places of all ranks, from their cards: a node is a host name, and a number where the launcher gave one."""
    keys = {rank: (card["host"], card["group"]) for rank, card in sorted(cards.items())}
    order = list(dict.fromkeys(keys.values()))
    hosts = [host for host, _ in order]
    names = [f"{host}#{number}" if hosts.count(host) > 1 else host for number, (host, _) in enumerate(order)]
    return [
        Place(rank, cards[rank]["local_rank"], names[order.index(key)], order.index(key)) for rank, key in keys.items()
    ]


def absence(cards: dict[int, dict[str, Any]], world_size: int) -> list[Finding]:
    """Who has arrived and who has not; a missing rank's node is known by its neighbours that came."""
    rows = []
    for host in dict.fromkeys(card["host"] for card in cards.values()):
        here = [str(rank) for rank, card in sorted(cards.items()) if card["host"] == host]
        rows.append(fine("arrival", host, f"rank {listed(here, 16)} arrived"))
    size = max((card["local_world_size"] for card in cards.values()), default=1)
    missing: dict[str, list[str]] = {}
    for rank in sorted(set(range(world_size)) - set(cards)):
        neighbours = [card["host"] for other, card in cards.items() if other // size == rank // size]
        node = neighbours[0] if neighbours else f"node {rank // size} of 0..{(world_size - 1) // size}"
        missing.setdefault(node, []).append(str(rank))
    slurm = os.environ.get("SLURM_JOB_NODELIST")
    of = f" (the job has {slurm})" if slurm else ""
    for node, ranks in missing.items():
        fix = "look at that node's output: did it start, and does it reach MASTER_ADDR:MASTER_PORT?"
        rows.append(fault("arrival", node, f"rank {listed(ranks, 16)} of {world_size} did not arrive{of}", fix))
    return rows


def _wait(store: Any, key: str, seconds: float) -> bool:
    """Whether the store has the key, after asking for it again and again for `seconds`.

    `store.wait` would do, but writes warnings of its own when the time is up.
    """
    until, pause = time.monotonic() + seconds, 0.01
    try:
        while not store.check([key]):
            if time.monotonic() > until:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 4 * _POLL_SECONDS)
    except RuntimeError as error:  # torch's DistError is one
        raise LostError(f"the store of rank 0 is gone ({' '.join(str(error).split())[:120]})") from error
    return True
