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


def to_try(gpus_per_node: int) -> list[Variable]:
    """What helps to look for a fault of the network, or is for some networks only: comments in the scripts."""
    if not gpus_per_node:
        return [Variable("TORCH_DISTRIBUTED_DEBUG", "DETAIL", "collectives that differ between ranks are named")]
    return [
        Variable("NCCL_DEBUG", "INFO", "which links and algorithms NCCL uses, and why not others"),
        Variable("NCCL_DEBUG_SUBSYS", "INIT,NET,GRAPH", "of that, what is about the network"),
        Variable("NCCL_IB_HCA", "mlx5", "InfiniBand: these cards alone"),
        Variable("FI_PROVIDER", "efa", "AWS EFA, with the plugin aws-ofi-nccl; without, NCCL takes TCP"),
        Variable("FI_EFA_USE_DEVICE_RDMA", "1", "AWS EFA: GPUDirect RDMA, on p4d and later"),
        Variable("TORCH_DISTRIBUTED_DEBUG", "DETAIL", "collectives that differ between ranks are named"),
        Variable("TORCH_NCCL_TRACE_BUFFER_SIZE", "2000", "torch's flight recorder: the last collectives of each rank"),
    ]


def _variables(interface: str | None, gpus_per_node: int) -> Iterable[Variable]:
    yield Variable(
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1", "else survivors of a lost first node keep its store's address"
    )
    yield Variable("PYTHONUNBUFFERED", "1", "the last lines of a rank that is killed are in the log")
    yield Variable("PYTHONFAULTHANDLER", "1", "a rank that crashes in C code says where in Python it was")
    yield Variable("PYTHONSAFEPATH", "1", "else Python finds what lies in the folder: a deepspeed/, a json.py")
    if interface is not None:
        yield Variable("GLOO_SOCKET_IFNAME", interface, "else gloo takes the address that the host's name resolves to")
    if gpus_per_node:
        if interface is not None:
            yield Variable("NCCL_SOCKET_IFNAME", interface, "else NCCL takes the first interface that is up")
        yield Variable("NCCL_DEBUG", "WARN", "errors of the network name their cause; INFO says which links are used")
    else:
        yield Variable("DS_ACCELERATOR", "cpu", "else DeepSpeed guesses, and warns")
