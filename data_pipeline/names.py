"""Names that stand in files: they lead to regular files inside a folder, or they are refused.

Run folders, corpora and models come from colleagues and from the Hub, and what their manifests and records name is
read, copied, published and sent. Such a name is relative, without "..", and what lies there is a regular file (or a
folder) of that folder, not a link out of it, nor a pipe that would be waited for.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import DataError
from .problems import Problem

_FIX = "get the folder again from where it came, as it was written"
_DRIVE = re.compile(r"[A-Za-z]:")
_BLOB = re.compile(r"[0-9a-f]{40,64}")


def name_problem(name: Any, plain: bool = False, in_url: bool = False) -> str | None:
    """What is wrong with text from a file as the name of something in a folder; None where nothing is.

    Args:
        plain: a single name, such as a task's, and no path.
        in_url: the folder is a URL, where some characters do not name but ask.
    """
    if not isinstance(name, str) or not name:
        return "is no name"
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "has control characters"
    if name.startswith("/") or "\\" in name or _DRIVE.match(name):
        return "is not relative to the folder"
    parts = name.split("/")
    if ".." in parts or "." in parts or "" in parts:
        return "leads through other folders"
    if plain and len(parts) > 1:
        return "is a path"
    if in_url and any(character in name for character in "?#%"):
        return "has characters that mean something else in a URL"
    return None


def path_inside(folder: Path, name: str) -> Path:
    """`folder`/`name`, where there is a regular file, a folder, or nothing yet.

    Links may lead about within the folder, and from a snapshot of the Hub's cache to its blobs.

    Raises:
        DataError: the name, or what lies there, leads out of the folder or is neither file nor folder.
    """
    if (problem := name_problem(name)) is not None:
        raise _refused(folder, name, problem)
    path = folder / name
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = stat.S_IFREG  # to be written, or to be missed by whoever wants to read it
    except OSError as error:  # too long, or links in a circle
        raise _refused(folder, name, f"cannot be looked at ({error.strerror})") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise _refused(folder, name, "is neither a regular file nor a folder")
    base, real = os.path.realpath(folder), os.path.realpath(path)
    if not real.startswith(os.path.join(base, "")) and not _is_blob_of_the_hub(base, real):
        raise _refused(folder, name, "is a link out of the folder")
    return path


def _refused(folder: Path, name: str, what: str) -> DataError:
    return DataError(Problem(str(folder), wrong=f": {str(name)[:200]!r} {what}", fix=_FIX))


def _is_blob_of_the_hub(base: str, real: str) -> bool:
    """Whether `base` is (in) CACHE/REPOSITORY/snapshots/COMMIT and `real` is CACHE/REPOSITORY/blobs/HASH."""
    blob = Path(real)
    return bool(_BLOB.fullmatch(blob.name)) and any(
        parent.parent.name == "snapshots" and blob.parent == parent.parent.parent / "blobs"
        for parent in (Path(base), *Path(base).parents)
    )


def files_inside(folder: Path) -> list[str]:
    """The names of all files below `folder`, sorted, with "/" between their parts.

    Raises:
        DataError: something in it leads out of it, or is neither file nor folder.
    """
    return sorted(_walk(folder, ""))


def _walk(folder: Path, below: str) -> Iterator[str]:
    with os.scandir(folder / below) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = f"{below}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder, f"{name}/")
            continue
        if path_inside(folder, name).is_dir():
            raise _refused(folder, name, "is a link to a folder")
        yield name


def copy_files(folder: Path, target: Path) -> None:
    """Copy all files below `folder` to the same places below `target`.

    Raises:
        DataError: as `files_inside`, before anything is copied.
    """
    for name in files_inside(folder):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target / name)
