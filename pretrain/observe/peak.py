"""The most arithmetic a device can do, which is what MFU (model FLOPs utilization) is measured against."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Peak dense TFLOP/s by name as the driver reports it (a part of it, in lower case) and arithmetic: tensor cores for
# bf16, fp16 and tf32, without structured sparsity; plain units for fp32. From the vendors' data sheets:
# NVIDIA V100 (2020), A100 (2021), A10 and A40 (2021), L4 and L40S (2023), H100 and H200 (2023; halves of the "with
# sparsity" column), Blackwell architecture (2024; B200 of an HGX board), GeForce RTX 3090 (GA102) and RTX 4090 (AD102)
# white papers (fp16 with fp32 accumulation); AMD Instinct MI250X (2021; both dies), MI300X (2023), MI325X (2024).
# The first match counts, so a longer name stands before the shorter one it contains.
_TERAFLOPS: tuple[tuple[str, dict[str, float]], ...] = (
    ("b200", {"bf16": 2250, "fp16": 2250, "tf32": 1125, "fp32": 75}),
    ("h200", {"bf16": 989, "fp16": 989, "tf32": 494.5, "fp32": 67}),
    ("h100 nvl", {"bf16": 835, "fp16": 835, "tf32": 417.5, "fp32": 60}),
    ("h100 pcie", {"bf16": 756, "fp16": 756, "tf32": 378, "fp32": 51}),
    ("h100", {"bf16": 989, "fp16": 989, "tf32": 494.5, "fp32": 67}),
    ("a100", {"bf16": 312, "fp16": 312, "tf32": 156, "fp32": 19.5}),
    ("a40", {"bf16": 149.7, "fp16": 149.7, "tf32": 74.8, "fp32": 37.4}),
    ("a10g", {"bf16": 70, "fp16": 70, "tf32": 35, "fp32": 31.5}),
    ("a10", {"bf16": 125, "fp16": 125, "tf32": 62.5, "fp32": 31.2}),
    ("l40s", {"bf16": 362, "fp16": 362, "tf32": 183, "fp32": 91.6}),
    ("nvidia l4", {"bf16": 121, "fp16": 121, "tf32": 60, "fp32": 30.3}),
    ("v100", {"fp16": 125, "fp32": 15.7}),
    ("rtx 4090", {"bf16": 165.2, "fp16": 165.2, "tf32": 82.6, "fp32": 82.6}),
    ("rtx 3090", {"bf16": 71, "fp16": 71, "tf32": 35.6, "fp32": 35.6}),
    ("mi325x", {"bf16": 1307.4, "fp16": 1307.4, "tf32": 653.7, "fp32": 163.4}),
    ("mi300x", {"bf16": 1307.4, "fp16": 1307.4, "tf32": 653.7, "fp32": 163.4}),
    ("mi250x", {"bf16": 383, "fp16": 383, "fp32": 95.7}),
)
DTYPES = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What torch calls the numbers of an arithmetic."""


def peak_flops(device: "torch.device", precision: str) -> float | None:
    """FLOP/s of `device` in fp32, bf16 or fp16 by its data sheet; None where the table does not have it (any CPU).

    It is never measured, as two measurements can differ tenfold beside other ranks and programs. fp32 matrix products
    that torch may round to TF32 (`torch.set_float32_matmul_precision`) count as TF32.
    """
    if device.type == "cuda":
        import torch  # the table alone is asked for by who has none

        if precision == "fp32" and torch.get_float32_matmul_precision() != "highest":
            precision = "tf32"
        return known_peak(torch.cuda.get_device_name(device), precision)
    return None


def known_peak(name: str, precision: str) -> float | None:
    """FLOP/s by the data sheet of the device called `name`, or None when the table does not have it."""
    for part, teraflops in _TERAFLOPS:
        if part in name.lower():
            return teraflops[precision] * 1e12 if precision in teraflops else None
    return None
