"""GPUs by name: their memory, what they compute at most, and how fast they talk to each other."""

from dataclasses import dataclass

from data_pipeline import Problem
from pretrain.observe import known_peak

# By the vendors' data sheets (the sources of pretrain.peak); the first part that matches counts. GiB of memory; then
# GB/s in each direction, half of what data sheets add up, of a GPU's links to the others of its node: NVLink, AMD's
# Infinity Fabric, or the card's PCIe slot (also where bridges join pairs); then GB/s of its share of the node's network
# cards: in HGX machines and their AMD likes one card of 400 Gbit/s per GPU (A100 and MI250X 200), in the DGX-1 half of
# one of 100, and for PCIe cards, which come in any machine, what clouds have for eight: 400 or 100 Gbit/s.
_KNOWN: tuple[tuple[str, float, float, float], ...] = (
    ("b200", 180, 900, 50),
    ("h200", 141, 450, 50),
    ("h100 nvl", 94, 64, 6.25),
    ("h100 pcie", 80, 64, 6.25),
    ("h100", 80, 450, 50),
    ("a100 40", 40, 300, 25),
    ("a100", 80, 300, 25),
    ("a40", 48, 32, 1.5625),
    ("a10", 24, 32, 1.5625),
    ("l40s", 48, 32, 6.25),
    ("l4", 24, 32, 1.5625),
    ("v100", 32, 150, 6.25),
    ("rtx 4090", 24, 32, 1.5625),
    ("rtx 3090", 24, 32, 1.5625),
    ("mi325x", 256, 448, 50),
    ("mi300x", 192, 448, 50),
    ("mi250x", 128, 400, 25),
)
REACHED = 0.8
"""Share of a link's data sheet that collectives are assumed to reach; what the user gives is taken whole."""
GB = 1e9


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU."""

    name: str
    memory: float
    """Bytes."""
    flops: float
    """FLOP/s of dense matrix products in the precision asked for."""
    node_bandwidth: float
    """Bytes per second in each direction, reached between the GPUs of a node."""
    network_bandwidth: float
    """The same to GPUs of other nodes, while all GPUs of the node do so."""


def find_gpu(
    name: str,
    precision: str,
    memory_gb: float | None = None,
    tflops: float | None = None,
    node_bandwidth_gb: float | None = None,
    network_bandwidth_gb: float | None = None,
) -> Gpu | Problem:
    """The GPU called `name`, its table values replaced by those that are given; or what is missing, as one problem.

    Args:
        memory_gb: of one GPU, in 1e9 bytes.
        tflops: dense TFLOP/s in `precision`.
        node_bandwidth_gb: measured GB/s in each direction between the GPUs of a node.
        network_bandwidth_gb: the same, per GPU, between nodes.
    """
    asked = name.lower().replace("-", " ").replace("_", " ")
    memory, *links = next((values for part, *values in _KNOWN if part in asked), (None, None, None))
    reached = [None if link is None else REACHED * link for link in links]
    # drivers say "NVIDIA L4"
    peak = known_peak(asked, precision) or known_peak(f"nvidia {asked}", precision)
    found = {
        "gpu_memory": memory if memory_gb is None else memory_gb,
        "gpu_tflops": (None if peak is None else peak / 1e12) if tflops is None else tflops,
        "node_bandwidth": reached[0] if node_bandwidth_gb is None else node_bandwidth_gb,
        "network_bandwidth": reached[1] if network_bandwidth_gb is None else network_bandwidth_gb,
    }
    if missing := [f"--{field}" for field, value in found.items() if value is None]:
        known = ", ".join(part.upper() for part, *_ in _KNOWN)
        return Problem("gpu", name, f": not known in {precision}; give {' and '.join(missing)}, or one of {known}")
    gigabytes, teraflops, node, network = (float(value) for value in found.values() if value is not None)
    return Gpu(name, gigabytes * GB, teraflops * 1e12, node * GB, network * GB)
