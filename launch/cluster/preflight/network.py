"""Do the nodes reach each other on arbitrary ports, and do their clocks agree?

Every node opens a beacon, a socket on a port that the system chooses as it does for gloo and NCCL, and knocks at those
of the others.
"""

import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil

from .checks import Answer, Check, Facts, Site, named
from .findings import Finding, fault, fine, listed, skipped
from .job import connection_reason

_KNOCK_SECONDS = 3.0
_KNOCKS_AT_ONCE = 64
# Above so many nodes, each knocks at those 1, 2, 4, 8 ... further on only: every node is still knocked at by as many.
_ALL_PAIRS = 128
_PINGS = 16
_STAMP = struct.Struct("!d")


def partners(index: int, nodes: int) -> list[int]:
    """The nodes that node `index` of `nodes` knocks at."""
    if nodes <= _ALL_PAIRS:
        return [other for other in range(nodes) if other != index]
    return [(index + (1 << power)) % nodes for power in range((nodes - 1).bit_length())]


class Beacon:
    """Answers every byte with the time of day, as 8 bytes, to whoever connects."""

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, 0), family=family, backlog=256)
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, name="beacon", daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(2 * _KNOCK_SECONDS)
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while connection.recv(1):
                    connection.sendall(_STAMP.pack(time.time()))
            except OSError:  # who asked is gone
                return


def _address(site: Site) -> Facts:
    """Open this node's beacon and tell the others where."""
    address = own_address(site.device.type)
    beacon = Beacon(address)
    site.cleanup.callback(beacon.close)
    site.job.announce(f"beacon/{site.job.me.index}", [address, beacon.port])
    return {"address": address, "gloo": _gloo_address() if site.device.type == "cpu" else address}


def own_address(device: str) -> str:
    """The address of this node by which others know it: of the interface that GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME
    names, else of the one that leads to MASTER_ADDR."""
    variable = "GLOO_SOCKET_IFNAME" if device == "cpu" else "NCCL_SOCKET_IFNAME"
    wanted = os.environ.get(variable, "")
    if wanted and not wanted.startswith("^"):  # NCCL: all but these
        names = [name.lstrip("=") for name in wanted.split(",")]
        for name, entries in psutil.net_if_addrs().items():
            for entry in entries:
                if entry.family == socket.AF_INET and name.startswith(tuple(names)):
                    return str(entry.address)
        raise OSError(f"{variable}={wanted}, but there is no such interface with an IPv4 address here")
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]) or 1
    family, kind, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:  # UDP sends nothing: it only chooses the way
        probe.connect(target)
        return str(probe.getsockname()[0])


def _gloo_address() -> str | None:
    """Where gloo listens: at the named interface, else at what the host name stands for; None if it stands for none,
    which gloo replaces by the loopback."""
    if os.environ.get("GLOO_SOCKET_IFNAME"):
        return own_address("cpu")
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return None


def judge_address(answers: Sequence[Answer], site: Site) -> list[Finding]:
    """Of several machines none may go by its loopback address."""
    several = len(answers) > 1 and not all(is_loopback(answer.facts["address"]) for answer in answers)
    findings = []
    for answer in answers:
        for what in dict.fromkeys((answer.facts["address"], answer.facts["gloo"])):
            if several and (what is None or is_loopback(what)):
                seen = f"its host name stands for {what or 'no address'}: other nodes cannot reach it by that"
                fix = "export GLOO_SOCKET_IFNAME with its network interface, or give it its own address in /etc/hosts"
                findings.append(fault("address", answer.where, seen, fix))
    addresses = listed(f"{answer.where} {answer.facts['address']}" for answer in answers)
    return findings or [fine("address", named(answers, answers), addresses)]


def is_loopback(address: str) -> bool:
    """Whether an address is only valid on its own machine."""
    return address.startswith("127.") or address == "::1"


def _ports(site: Site) -> Facts:
    index, nodes = site.job.me.index, len(site.job.nodes)
    others = partners(index, nodes)
    with ThreadPoolExecutor(_KNOCKS_AT_ONCE) as pool:
        reasons = list(pool.map(lambda other: _knock(site, other), others))
    return {"asked": len(others), "closed": [pair for pair in zip(others, reasons, strict=True) if pair[1]]}


def _knock(site: Site, other: int) -> str:
    """Why the beacon of another node does not answer; empty when it does."""
    address, port = site.job.hear(f"beacon/{other}", _KNOCK_SECONDS)
    try:
        with socket.create_connection((address, port), timeout=_KNOCK_SECONDS) as connection:
            connection.sendall(b"?")
            return "" if len(connection.recv(_STAMP.size)) else "closed at once"
    except OSError as error:
        return f"{address} port {port}: {connection_reason(error)}"


def judge_ports(answers: Sequence[Answer], site: Site) -> list[Finding]:
    """Which ways are closed; a node that nobody reaches, or that reaches nobody, is named once."""
    nodes = site.job.nodes
    closed = {(answer.place.index, other): reason for answer in answers for other, reason in answer.facts["closed"]}
    fix = (
        "open all TCP ports between the nodes in their firewalls, or name the right interface: NCCL_SOCKET_IFNAME, "
        "GLOO_SOCKET_IFNAME"
    )
    asked = {answer.place.index: partners(answer.place.index, len(nodes)) for answer in answers}
    findings = []
    for index, name in enumerate(nodes):
        into = [(a, index) for a, others in asked.items() if index in others]
        out = [(index, b) for b in asked.get(index, [])]
        for ways, what in ((into, "no node reaches it"), (out, "it reaches no node")):
            if len(ways) > 1 and all(way in closed for way in ways):
                findings.append(fault("ports", name, f"{what} ({closed[ways[0]]})", fix))
                closed = {way: reason for way, reason in closed.items() if way not in ways}
    findings += [fault("ports", f"{nodes[a]} to {nodes[b]}", reason, fix) for (a, b), reason in closed.items()]
    if findings:
        return findings
    count = sum(answer.facts["asked"] for answer in answers)
    if not count:
        return [fine("ports", nodes[0], "one node, nothing to reach")]
    return [
        fine("ports", named(answers, answers), f"{count} connections between nodes on ports of the system's choice")
    ]


def _clock(site: Site) -> Facts:
    """Seconds that this clock is ahead of the first node's, and how sure that is.

    Of several questions the one with the shortest way there and back tells most (RFC 5905, section 10).
    """
    address, port = site.job.hear("beacon/0", _KNOCK_SECONDS)
    best = (float("inf"), 0.0)
    try:
        with socket.create_connection((address, port), timeout=_KNOCK_SECONDS) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(_PINGS):
                asked, began = time.time(), time.monotonic()
                connection.sendall(b"?")
                (theirs,) = _STAMP.unpack(connection.recv(_STAMP.size, socket.MSG_WAITALL))
                way = time.monotonic() - began
                best = min(best, (way, asked + way / 2 - theirs))
    except OSError as error:
        return {"problem": connection_reason(error)}
    return {"ahead": best[1], "within": best[0] / 2}


def _judge_clock(answers: Sequence[Answer], site: Site) -> list[Finding]:
    first = site.job.nodes[0]
    findings = []
    for answer in answers:
        if "problem" in answer.facts:
            seen = f"not compared with {first}: {answer.facts['problem']}"
            findings.append(skipped("clock", answer.where, seen, "see ports"))
        elif abs(answer.facts["ahead"]) - answer.facts["within"] > site.limits.clock_seconds:
            ahead = answer.facts["ahead"]
            seen = f"{abs(ahead):.2f} s {'ahead of' if ahead > 0 else 'behind'} {first}"
            fix = (
                "run chrony or ntpd there (elastic torchrun takes a node that is 15 s off for dead, S3 refuses 15 min)"
            )
            findings.append(fault("clock", answer.where, seen, fix))
    if findings:
        return findings
    if len(answers) == 1:
        return [fine("clock", first, "one node, one clock")]
    most = max(answers[1:], key=lambda answer: abs(answer.facts["ahead"])).facts
    seen = f"at most {abs(most['ahead']) * 1e3:.1f} ms (+- {most['within'] * 1e3:.1f}) from {first}'s"
    return [fine("clock", named(answers, answers), seen)]


ADDRESS = Check("address", "node", _address, judge_address)
PORTS = Check("ports", "node", _ports, judge_ports, needs=("address",), seconds=12.0)
CLOCK = Check("clock", "node", _clock, _judge_clock, needs=("address",))
