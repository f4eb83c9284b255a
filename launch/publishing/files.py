"""A publication, put together on disk: large files are linked, not copied, and nobody's own work is replaced."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data_pipeline import DataError, Problem, file_sha256, path_inside, read_record, write_json

RECEIPT = ".acn-publication.json"
"""Says which files of a folder this program wrote, so that it may replace them. It is not sent."""
REVISIONS, SIBLINGS = "revisions", "siblings"
"""Folders for what goes to other revisions and repositories; the rest of a publication goes to `main`."""
_LARGE = (".safetensors", ".parquet", ".onnx")


@dataclass(frozen=True)
class Target:
    """A folder, and where on the Hub it goes."""

    folder: Path
    repo_id: str
    revision: str = "main"


@dataclass
class Publication:
    """Everything that is sent, in this order: `main` comes first, revisions branch off it."""

    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Receipt:
    """The content of the file that tells a publication from what somebody else wrote."""

    repo_id: str
    files: dict[str, str | int]


def place(folder: Path, name: str, target: Path) -> None:
    """Bring the file `name` of a folder into a publication: large ones as hard links where the file system can.

    Raises:
        DataError: it leads out of `folder`, where nobody said that it may be published, or is no regular file.
    """
    source = path_inside(folder, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix in _LARGE:
        try:
            os.link(source.resolve(), target)
            return
        except OSError:
            pass  # another file system, or one without links
    shutil.copy2(source, target)


def files_of(folder: Path) -> list[Path]:
    """The files that a folder of a publication sends to its revision, relative to it, sorted."""
    return sorted(path.relative_to(folder) for path in _walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).parts
        if path.is_file() and path.name != RECEIPT and inside[0] not in (REVISIONS, SIBLINGS):
            yield path


def write_receipt(folder: Path, repo_id: str) -> None:
    """Remember what was written into `folder`."""
    write_json(folder / RECEIPT, asdict(_Receipt(repo_id, _state(folder))))


def _state(folder: Path) -> dict[str, str | int]:
    """Every file: the digest of small ones, the size of large ones. We write no links, pipes and the like: -1."""
    state: dict[str, str | int] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            state[name] = -1
        elif path.is_file() and path.name != RECEIPT:
            state[name] = path.stat().st_size if path.suffix in _LARGE else file_sha256(path)
    return state


def output_problems(output: Path, repo_id: str) -> list[Problem]:
    """Why `output` may not be replaced: only an unchanged publication of the same repository may."""
    if not output.exists() and not output.is_symlink():
        return []
    try:
        if output.is_symlink():
            raise DataError("the name of another folder")
        receipt = read_record(_Receipt, path_inside(output, RECEIPT))
    except DataError:
        return [
            Problem(
                "output",
                wrong=f": {output} exists and is no publication of `acn publish`",
                fix="choose another --output",
            )
        ]
    if receipt.repo_id != repo_id:
        return [
            Problem(
                "output",
                wrong=f": {output} is a publication of {receipt.repo_id}",
                fix="choose another --output, or remove it",
            )
        ]
    now, then = _state(output), receipt.files
    changed = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
    if changed:
        return [
            Problem(
                "output",
                wrong=f": {output} was changed by hand ({', '.join(changed[:3])})",
                fix="choose another --output, or remove it",
            )
        ]
    return []
