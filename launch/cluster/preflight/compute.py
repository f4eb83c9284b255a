"""Are the devices equally fast, and as fast as they should be?"""

import statistics
import time
from collections.abc import Sequence

import torch

from modeling import resolve_precision
from pretrain.observe import DTYPES, known_peak

from .checks import Answer, Check, Facts, Site, name_places, synchronize
from .findings import Finding, fault, fine, warning

# Long enough for a GPU to come to the clock that it holds under load, and for a process to feel its neighbours.
_GEMM_SECONDS = 1.0
# Below this share of the median rank one is worth a look, though a job can live with it.
_SUSPECT = 0.8
_GEMM_SIZE = {"cuda": 8192, "cpu": 512}


def _compute(site: Site) -> Facts:
    precision = resolve_precision(site.config.precision)
    name = torch.cuda.get_device_name(site.device) if site.device.type == "cuda" else ""
    return {
        "rate": sustained_rate(site.device, precision),
        "peak": known_peak(name, precision) if name else None,
        "precision": precision,
    }


def sustained_rate(device: torch.device, precision: str, seconds: float = _GEMM_SECONDS) -> float:
    """FLOP/s of square matrix products one after the other for a while: the average, which, unlike the best, shows a
    device that is throttled or shared."""
    size = _GEMM_SIZE[device.type]
    matrix = torch.randn(size, size, device=device)  # of equal numbers a GPU draws less power
    matrix = matrix.to(getattr(torch, DTYPES[precision]))
    result = torch.empty_like(matrix)
    torch.mm(matrix, matrix, out=result)
    synchronize(device)
    began, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        for _ in range(4):
            torch.mm(matrix, matrix, out=result)
        synchronize(device)
        count += 4
    return 2 * size**3 * count / elapsed


def _judge_compute(answers: Sequence[Answer], site: Site) -> list[Finding]:
    """Stragglers by the median rank; of two ranks the faster one is the measure."""
    rates = [answer.facts["rate"] for answer in answers]
    median = statistics.median_high(rates)
    findings = []
    for answer in answers:
        rate, peak = answer.facts["rate"], answer.facts["peak"]
        if rate < site.limits.straggler * median:
            seen = f"{flops(rate)} in matrix products, {rate / median:.0%} of the median rank's {flops(median)}"
            fix = "look for other programs on it, heat and power limits; or leave it out: all ranks wait for it"
            findings.append(fault("compute", answer.where, seen, fix))
        elif rate < _SUSPECT * median:
            seen = f"{flops(rate)} in matrix products, {rate / median:.0%} of the median rank's {flops(median)}"
            findings.append(warning("compute", answer.where, seen, "watch it: all ranks wait for the slowest one"))
        elif peak and rate < site.limits.peak_share * peak:
            seen = f"{flops(rate)}, {rate / peak:.0%} of what the data sheet says"
            fix = "look at power limits and clocks (nvidia-smi -q -d PERFORMANCE), and for MIG or other users"
            findings.append(warning("compute", answer.where, seen, fix))
    if findings:
        return findings
    peak = answers[0].facts["peak"]
    share = f", {min(rates) / peak:.0%} of the peak at least" if peak else ""
    seen = f"{_range(rates)} in {answers[0].facts['precision']} matrix products{share}"
    return [fine("compute", name_places(answers, answers), seen)]


def _range(rates: Sequence[float]) -> str:
    low, high = flops(min(rates)), flops(max(rates))
    return low if low == high else f"{low} to {high}"


def flops(rate: float) -> str:
    """FLOP/s in GFLOP/s or TFLOP/s."""
    return f"{rate / 1e12:.0f} TFLOP/s" if rate >= 1e13 else f"{rate / 1e9:,.0f} GFLOP/s"


COMPUTE = Check("compute", "rank", _compute, _judge_compute, seconds=8.0)
