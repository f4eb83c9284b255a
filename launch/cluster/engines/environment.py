"""The environment variables that a job of several nodes needs: every script takes them from here."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """An environment variable of every rank, and why it is set."""

    name: str
    value: str
    why: str


def variables(interface: str | None, gpus_per_node: int) -> list[Variable]:
    """What every rank of a job has in its environment, the number of threads aside (it depends on the node's cores).

    Args:
        interface: the network interface of the traffic between nodes; None leaves the choice to NCCL and gloo.
        gpus_per_node: 0 on nodes without GPUs.
    """
    return list(_variables(interface, gpus_per_node))


def _variables(interface: str | None, gpus_per_node: int) -> Iterable[Variable]:
    yield Variable(
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1", "else survivors of a lost first node keep its store's address"
    )
    yield Variable("PYTHONUNBUFFERED", "1", "the last lines of a rank that is killed are in the log")
    yield Variable("PYTHONSAFEPATH", "1", "else Python finds what lies in the folder: a deepspeed/, a json.py")
    if interface is not None:
        yield Variable("GLOO_SOCKET_IFNAME", interface, "else gloo takes the address that the host's name resolves to")
    if gpus_per_node:
        if interface is not None:
            yield Variable("NCCL_SOCKET_IFNAME", interface, "else NCCL takes the first interface that is up")
        yield Variable("NCCL_DEBUG", "WARN", "errors of the network name their cause; INFO says which links are used")
    else:
        yield Variable("DS_ACCELERATOR", "cpu", "else DeepSpeed guesses, and warns")
