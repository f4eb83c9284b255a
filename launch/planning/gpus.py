"""GPUs by name: their memory, and what they compute at most."""

from dataclasses import dataclass

from pretrain.peak import known_peak

# GiB of memory by the vendors' data sheets (the sources of pretrain.peak); the first part that matches counts.
_MEMORY: tuple[tuple[str, float], ...] = (
    ("b200", 180),
    ("h200", 141),
    ("h100 nvl", 94),
    ("h100", 80),
    ("a100 40", 40),
    ("a100", 80),
    ("a40", 48),
    ("a10", 24),
    ("l40s", 48),
    ("l4", 24),
    ("v100", 32),
    ("rtx 4090", 24),
    ("rtx 3090", 24),
    ("mi325x", 256),
    ("mi300x", 192),
    ("mi250x", 128),
)
GB = 1e9


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU."""

    name: str
    memory: float
    """Bytes."""
    flops: float
    """FLOP/s of dense matrix products in the precision asked for."""


def find_gpu(name: str, precision: str, memory_gb: float | None = None, tflops: float | None = None) -> Gpu | str:
    """The GPU called `name`, its table values replaced by those that are given; or what is missing, as one problem.

    Args:
        memory_gb: of one GPU, in 1e9 bytes.
        tflops: dense TFLOP/s in `precision`.
    """
    asked = name.lower().replace("-", " ").replace("_", " ")
    if memory_gb is None:
        memory_gb = next((memory for part, memory in _MEMORY if part in asked), None)
    # drivers say "NVIDIA L4"
    flops = (
        tflops * 1e12
        if tflops is not None
        else known_peak(asked, precision) or known_peak(f"nvidia {asked}", precision)
    )
    missing = [f"--{field}" for field, value in (("gpu_memory", memory_gb), ("gpu_tflops", flops)) if value is None]
    if memory_gb is None or flops is None:
        known = ", ".join(part.upper() for part, _ in _MEMORY)
        return f"gpu={name}: not known in {precision}; give {' and '.join(missing)}, or one of {known}"
    return Gpu(name, memory_gb * GB, flops)
