"""What a run was made with: versions, the commit, the machine."""

import functools
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("acn-lm", "torch", "transformers", "deepspeed")
_GIT_SECONDS = 5.0


@functools.cache
def provenance_tags() -> dict[str, str]:
    """Tags `version.NAME`, and of a checkout `git.commit` (also under MLflow's own name) and `git.dirty`."""
    tags = {"version.python": platform.python_version()}
    for package in _PACKAGES:
        try:
            tags[f"version.{package}"] = version(package)
        except PackageNotFoundError:
            continue  # run from a folder without installing it
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags |= {"git.commit": commit, "mlflow.source.git.commit": commit}
        changes = _git("status", "--porcelain", "--untracked-files=no")
        tags["git.dirty"] = str(changes != "").lower()
    return tags


def machine_name() -> str:
    """The processor or, where torch has found them, the GPUs, and how many."""
    torch = sys.modules.get("torch")  # nothing that computes runs without having imported it
    if torch is not None and torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    cores = usable_cores()
    return f"{processor()}, {cores} core{'' if cores == 1 else 's'}"


def processor() -> str:
    """The processor's model, where Linux tells, else its kind."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _git(*arguments: str) -> str | None:
    """What git prints in the folder of this code, or None where there is no git or no checkout of it."""
    here = Path(__file__).parent
    tracked = ["git", "-C", str(here), "ls-files", "--error-unmatch", Path(__file__).name]
    try:
        # an installed copy can lie inside somebody else's checkout: its commit would tell nothing about this code
        subprocess.run(tracked, capture_output=True, check=True, timeout=_GIT_SECONDS)
        command = ["git", "-C", str(here), *arguments]
        done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=_GIT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
