"""A prepared folder from outside: what its parts are called, and whether it is one."""

from pathlib import Path
from typing import Literal

from .problems import Problem

MANIFEST_FILE = "manifest.json"
TOKENIZER_FOLDER = "tokenizer"
WORK_FOLDER = ".work"
"""Holds what an unfinished `acn prepare` has done so far; removed once the manifest is written."""
Packing = Literal["blocks", "documents"]
"""How documents fill the blocks, see `Manifest.packing`."""


def folder_problem(directory: str | Path) -> Problem | None:
    """Why a local folder is not a finished prepared one, with the fix; None where it has a manifest."""
    directory = Path(directory)
    if not directory.is_dir():
        fix = f"write it with `acn prepare --output {directory}`"
        return Problem(str(directory), wrong="does not exist", fix=fix)
    if (directory / MANIFEST_FILE).is_file():
        return None
    if (directory / WORK_FOLDER).is_dir():
        return Problem(str(directory), wrong="is not finished", fix="run the same `acn prepare` again, it goes on")
    return Problem(
        str(directory), wrong=f"is not a prepared folder (no {MANIFEST_FILE})", fix="give one of `acn prepare`"
    )
