"""Folders and files that a user names: whether they may be written, and reading JSON with an error that helps."""

from pathlib import Path
from typing import Any

import data_pipeline

from .errors import EvalError


def check_absent(path: Path, field: str) -> None:
    """Refuse to write over what is there.

    Raises:
        EvalError: `path` exists; `field` is the option that names it.
    """
    if path.exists() or path.is_symlink():
        raise EvalError(f"{field}: {path} exists already: choose another --{field}, or remove it")


def find_recorded(name: str, near: Path) -> Path | None:
    """The file or folder that a record in the folder `near` names, where it is now; None where it is gone.

    It is as named; or a relative name is meant from a folder above `near`, where the command was given that wrote it;
    or everything was moved together, and the end of the name, two parts or more, leads there from such a folder.
    """
    path = Path(name)
    if path.exists():
        return path
    parts = path.parts[1:] if path.is_absolute() else path.parts
    ends = [Path(*parts[start:]) for start in range(max(1, len(parts) - 1))]
    places = (root / end for end in ends for root in near.resolve().parents)
    return next((place for place in places if place.exists()), None)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        EvalError: it cannot be read or is not JSON.
    """
    return data_pipeline.read_json(path, EvalError, "write it again or leave its folder out")
