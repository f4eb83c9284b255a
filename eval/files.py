"""Writing results so that a reader never sees half of one: everything is written aside, then renamed."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import EvalError


def check_absent(path: Path, field: str) -> None:
    """Refuse to write over what is there.

    Raises:
        EvalError: `path` exists; `field` is the option that names it.
    """
    if path.exists() or path.is_symlink():
        raise EvalError(f"{field}: {path} exists already: choose another --{field}, or remove it")


@contextmanager
def new_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, next to `path`; it becomes `path` when the block ends, and vanishes when the block fails.

    Args:
        replace: an existing `path` gives way, but only once the new folder is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, old = (path.parent / f".{path.name}.{kind}-{os.getpid()}" for kind in ("partial", "old"))
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        if replace and path.exists():
            os.rename(path, old)
        os.rename(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A file name to write to, next to `path`; the file replaces `path` when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.parent / f".{path.name}.partial-{os.getpid()}"
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    with new_file(path) as aside:
        aside.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        EvalError: it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvalError(f"{path} cannot be read as JSON ({error}): write it again or leave its folder out") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
