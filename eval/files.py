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


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        EvalError: it cannot be read or is not JSON.
    """
    return data_pipeline.read_json(path, EvalError, "write it again or leave its folder out")
