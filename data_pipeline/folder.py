"""A prepared folder from outside: what its parts are called, and whether it is one."""

from pathlib import Path

MANIFEST_FILE = "manifest.json"
TOKENIZER_FOLDER = "tokenizer"
WORK_FOLDER = ".work"
"""Holds what an unfinished `acn prepare` has done so far; removed once the manifest is written."""


def folder_problem(directory: str | Path) -> str | None:
    """Why a local folder is not a finished prepared one, with the mend; None where it has a manifest."""
    directory = Path(directory)
    if not directory.is_dir():
        return f"{directory} does not exist: write it with `acn prepare --output {directory}`"
    if (directory / MANIFEST_FILE).is_file():
        return None
    if (directory / WORK_FOLDER).is_dir():
        return f"{directory} is not finished: run the same `acn prepare` again, it goes on"
    return f"{directory} is not a prepared folder (no {MANIFEST_FILE}): give one of `acn prepare`"
