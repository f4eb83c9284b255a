"""What a run was made with: versions and the commit, as tags of its record."""

import functools
import platform
import subprocess
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
