"""Several nodes on this machine: a network namespace each, with its own address and host name, on one bridge."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin",
    "PYTHONPATH": str(ROOT),
    "HF_HUB_OFFLINE": "1",
}


def why_not() -> str | None:
    """Why this machine cannot have nodes; None when it can."""
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "making network namespaces needs ip (iproute2) and unshare (util-linux)"
    name = f"acn{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces are not allowed here: {made.stderr.strip()}"
    _ip("netns", "del", name)
    return None


@dataclass
class Job:
    """A command on a node, with everything it printed."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        """What was printed so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str, timeout: float = 300.0) -> re.Match[str]:
        """Until a line of the output matches; its match. An early end, or none, is an error with the output."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self.process.poll() is not None
            if match := re.search(pattern, self.output, re.MULTILINE):
                return match
            assert not ended, f"ended with {self.process.returncode} before {pattern!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {pattern!r} within {timeout} s:\n{self.output}"
            time.sleep(0.05)

    def end(self, timeout: float = 300.0) -> int:
        """Until the process has ended; its exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {timeout} s:\n{self.output}") from None


@dataclass
class Nodes:
    """The nodes that exist, by name."""

    tag: str
    folder: Path
    addresses: dict[str, str]
    jobs: list[Job] = field(default_factory=list)

    def namespace(self, node: str) -> str:
        """The name of a node's network namespace."""
        return f"{self.tag}-{node}"

    def inside(self, node: str, command: Sequence[str]) -> list[str]:
        """The command that runs `command` on a node, under its host name."""
        named = ["unshare", "--uts", "bash", "-c", 'hostname "$0"; exec "$@"', node]
        return ["ip", "netns", "exec", self.namespace(node), *named, *map(str, command)]

    def start(self, node: str, command: Sequence[str], **environment: str) -> Job:
        """Start a command on a node."""
        log = self.folder / f"{node}-{len(self.jobs)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.inside(node, command),
                env=os.environ | ENVIRONMENT | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.jobs.append(Job(process, log))
        return self.jobs[-1]

    def run(self, node: str, command: Sequence[str], timeout: float = 300.0, **environment: str) -> str:
        """Run a short command on a node and return what it printed."""
        job = self.start(node, command, **environment)
        assert job.end(timeout) == 0, job.output
        return job.output

    def kill(self, node: str) -> None:
        """The node loses its power: SIGKILL to everything on it at once, and to what was being started."""
        while running := self.processes(node):
            for process in running:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(running, timeout=1)

    def processes(self, node: str) -> list[psutil.Process]:
        """What runs on a node."""
        found = []
        for pid in _ip("netns", "pids", self.namespace(node)).split():
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(pid)))
        return found

    def unplug(self, node: str) -> None:
        """Take the node's link down; nobody is told."""
        _ip("link", "set", self._port(node), "down")

    def plug_in(self, node: str) -> None:
        """Put the link up again."""
        _ip("link", "set", self._port(node), "up")

    def _port(self, node: str) -> str:
        return f"{self.tag}v{list(self.addresses).index(node) + 1}"


@contextmanager
def nodes(names: Sequence[str], folder: Path, domain: str = "cluster") -> Iterator[Nodes]:
    """Make nodes, known as NAME and NAME.DOMAIN; take them away afterwards, with everything that runs there."""
    tag = f"acn{secrets.token_hex(3)}"
    subnet = _free_subnet()
    made = Nodes(tag, folder, {name: f"{subnet}.{number}" for number, name in enumerate(names, 1)})
    try:
        _build(made, domain)
        yield made
    finally:
        _take_away(made)


def _build(made: Nodes, domain: str) -> None:
    bridge = f"{made.tag}b"
    _ip("link", "add", bridge, "type", "bridge")
    _ip("link", "set", bridge, "up")
    for node, address in made.addresses.items():
        namespace, port = made.namespace(node), made._port(node)
        _ip("netns", "add", namespace)
        _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", port, "master", bridge, "up")
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        etc = Path("/etc/netns") / namespace  # `ip netns exec` lays these over /etc
        etc.mkdir(parents=True)
        hosts = ["127.0.0.1 localhost", *(f"{ip} {name} {name}.{domain}" for name, ip in made.addresses.items())]
        (etc / "hosts").write_text("\n".join(hosts) + "\n")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
        (etc / "resolv.conf").write_text("")  # no name server: looking up a peer would wait for it


def _take_away(made: Nodes) -> None:
    for node in made.addresses:
        namespace = made.namespace(node)
        if not Path("/run/netns", namespace).exists():
            continue
        made.kill(node)
        _ip("netns", "del", namespace)
        shutil.rmtree(Path("/etc/netns") / namespace, ignore_errors=True)
    for job in made.jobs:
        if job.process.poll() is None:
            os.killpg(job.process.pid, signal.SIGKILL)
        job.process.wait()
    present = [link.split("@")[0] for link in _ip("-br", "link").split() if link.startswith(made.tag)]
    for link in present:  # a namespace is gone only when its last process is: free the names now
        subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)
    with suppress(OSError):  # others' nodes are there
        Path("/etc/netns").rmdir()


def _free_subnet() -> str:
    """The first three numbers of a private network that this machine has no route to."""
    taken = _ip("-4", "route")
    return next(net for net in (f"10.213.{number}" for number in range(40, 250)) if net not in taken)


def _ip(*arguments: Any) -> str:
    done = subprocess.run(["ip", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(map(str, arguments))}: {done.stderr}"
    return done.stdout
