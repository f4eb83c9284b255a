"""Are the devices there, healthy and free?"""

import os
import shutil
import subprocess
from collections.abc import Sequence

import psutil
import torch

from ...provenance import usable_cores
from .checks import Answer, Check, Facts, Site, groups, most_common, name_places
from .findings import Finding, fault, fine, warning

_GIB = 2**30
_SMI_SECONDS = 8.0
# What nvidia-smi is asked about a GPU (`nvidia-smi --help-query-gpu`), and what we call it.
_QUERY = {
    "driver": "driver_version",
    "uncorrected": "ecc.errors.uncorrected.volatile.total",
    "pending": "remapped_rows.pending",
    "failure": "remapped_rows.failure",
    "temperature": "temperature.gpu",
    "mib_used": "memory.used",
}
# A rank on CPU takes this much before it has a model: torch, transformers, DeepSpeed.
_LEAST_HOST_BYTES = 1 * _GIB


def _devices(site: Site) -> Facts:
    if site.device.type == "cpu":
        smi = shutil.which("nvidia-smi") is not None and _smi([]) is not None
        return {"kind": "cpu", "cores": usable_cores(), "idle_gpu": smi, "free": _host_free()}
    wanted = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    visible = torch.cuda.device_count()
    if site.device.index >= visible:
        return {"kind": "missing", "visible": visible, "wanted": wanted}
    properties = torch.cuda.get_device_properties(site.device)
    free, total = torch.cuda.mem_get_info(site.device)
    facts: Facts = {"kind": properties.name, "visible": visible, "wanted": wanted, "free": free, "total": total}
    if torch.version.hip is None:
        facts["smi"] = _smi(["--id", f"GPU-{properties.uuid}"])
    return facts


def _host_free() -> int:
    return int(psutil.virtual_memory().available)


def _smi(which: list[str]) -> dict[str, str] | None:
    """What nvidia-smi says about one GPU; None where it is missing, fails or sees none."""
    command = ["nvidia-smi", *which, f"--query-gpu={','.join(_QUERY.values())}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SMI_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.strip().splitlines()
    return dict(zip(_QUERY, (word.strip() for word in lines[0].split(",")), strict=True)) if lines else None


def _judge_devices(answers: Sequence[Answer], site: Site) -> list[Finding]:
    findings = [finding for answer in answers for finding in device_findings(answer, site.limits.free_memory)]
    kinds = groups(answers, lambda facts: facts["kind"])
    expected = most_common([answer.facts["kind"] for answer in answers])
    findings += [
        fault(
            "devices",
            name_places(places, answers),
            f"{kind}, elsewhere {expected}",
            "use nodes of one kind: a job is as fast as its slowest rank",
        )
        for kind, places in kinds.items()
        if kind not in (expected, "missing")
    ]
    drivers = groups(answers, lambda facts: (facts.get("smi") or {}).get("driver", ""))
    common_driver = most_common([driver for driver, places in drivers.items() for _ in places])
    findings += [
        fault(
            "devices", name_places(places, answers), f"driver {driver}, elsewhere {common_driver}", "update the driver"
        )
        for driver, places in drivers.items()
        if driver not in ("", common_driver)
    ]
    return findings or [fine("devices", name_places(answers, answers), _describe(answers))]


def device_findings(answer: Answer, free_memory: float) -> list[Finding]:
    """What is wrong with the device of one rank."""
    facts, where = answer.facts, answer.where
    if facts["kind"] == "cpu":
        found = []
        if facts["idle_gpu"]:
            fix = "install a CUDA build of torch that fits the driver, and look at CUDA_VISIBLE_DEVICES"
            found.append(fault("devices", where, "nvidia-smi sees a GPU, torch does not", fix))
        if facts["free"] < _LEAST_HOST_BYTES:
            seen = f"{facts['free'] / _GIB:.1f} GiB of memory available"
            found.append(fault("devices", where, seen, "end other programs: a rank needs 1 GiB before it has a model"))
        return found
    if facts["kind"] == "missing":
        seen = f"{facts['visible']} GPUs visible for {facts['wanted']} ranks"
        return [fault("devices", where, seen, "start fewer ranks per node, or look at CUDA_VISIBLE_DEVICES")]
    found = []
    if facts["free"] < free_memory * facts["total"]:
        seen = f"{facts['free'] / _GIB:.1f} of {facts['total'] / _GIB:.1f} GiB free"
        fix = "end the process that nvidia-smi shows there (a dead job's?), or lower preflight.free_memory"
        found.append(fault("devices", where, seen, fix))
    return found + ecc_findings(where, facts.get("smi"))


def ecc_findings(where: str, smi: dict[str, str] | None) -> list[Finding]:
    """What the GPU's memory protection has seen; GPUs without it say "[N/A]"."""
    if smi is None:
        fix = "put nvidia-smi, which comes with the driver, on the PATH"
        return [warning("devices", where, "ECC errors unknown: nvidia-smi does not answer", fix)]
    found = []
    if smi["uncorrected"].isdigit() and int(smi["uncorrected"]):
        seen = f"{smi['uncorrected']} uncorrected ECC errors since the driver was loaded"
        found.append(fault("devices", where, seen, "reset the GPU; if they come back, take the node out"))
    if smi["failure"].lower() in ("1", "yes"):
        found.append(fault("devices", where, "a memory row could not be remapped", "have the GPU replaced"))
    elif smi["pending"].lower() in ("1", "yes"):
        found.append(fault("devices", where, "a memory row waits to be remapped", "reset the GPU or reboot the node"))
    return found


def _describe(answers: Sequence[Answer]) -> str:
    facts = [answer.facts for answer in answers]
    least = min(fact["free"] for fact in facts) / _GIB
    if facts[0]["kind"] == "cpu":
        return f"no GPU (ECC not applicable); {facts[0]['cores']} CPU cores, {least:.1f} GiB available"
    smi = facts[0].get("smi") or {}
    ecc = "no ECC errors" if smi.get("uncorrected", "").isdigit() else "ECC not applicable"
    total = facts[0]["total"] / _GIB
    driver = f", driver {smi['driver']}" if smi else ""
    return f"{facts[0]['kind']}, at least {least:.1f} of {total:.1f} GiB free, {ecc}{driver}"


DEVICES = Check("devices", "rank", _devices, _judge_devices, seconds=20.0)
