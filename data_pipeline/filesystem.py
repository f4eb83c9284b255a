"""Files: paths and URLs, writing so that nobody ever sees half of a file or folder, and telling contents apart."""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from .credentials import user_and_password, with_credentials, without_credentials
from .errors import DataError
from .problems import Problem, UserError


def is_url(path: str) -> bool:
    """Whether a path goes through fsspec rather than to the local file system."""
    return "://" in path


def open_filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it, with the credentials that are known for it.

    HTTP's has them in the path; `public_url` is the way back. Raises DataError when the protocol is not installed, or
    the URL is none.
    """
    import fsspec

    full = with_credentials(url)
    try:
        full, options = _driver_options(full)
        filesystem, path = fsspec.core.url_to_fs(full, use_listings_cache=False, **options)
    except (ImportError, ValueError) as error:
        protocol = url.split("://")[0]
        fix = 'install acn-lm with its extra "s3"' if protocol == "s3" else f"install fsspec's driver for {protocol}"
        raise DataError(Problem(repr(url), wrong=f"cannot be opened ({error})", fix=fix)) from error
    return filesystem, str(path)


def _driver_options(url: str) -> tuple[str, dict[str, Any]]:
    """A URL as its driver takes it, and what the driver is told besides."""
    scheme = url.partition("://")[0].lower()
    if scheme in ("http", "https"):
        return url, {"client_kwargs": {"trust_env": True}}  # ~/.netrc, and the proxies of the environment
    if scheme in ("s3", "s3a") and (pair := user_and_password(url)) is not None:
        return without_credentials(url), {"key": pair[0], "secret": pair[1]}
    if scheme == "hf" and (token := _hub_token(url)):
        return without_credentials(url), {"token": token}
    return url, {}


def _hub_token(url: str) -> str:
    """The token that somebody wrote into a URL of the Hub."""
    pair = user_and_password(url) or ("", "")
    found = parse_qs(url.partition("?")[2]).get("token", [""])[0]
    return found or pair[1] or pair[0]


def public_url(filesystem: Any, path: str) -> str:
    """The URL of a path in a file system, as it may be written down."""
    return without_credentials(str(filesystem.unstrip_protocol(path)))


LOCK_FILE = ".lock"
"""Name, or its beginning, of the file in OUTPUT that a working job holds (`lock.OutputLock`)."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""How systems say that there is no room: on the disk, in the user's share of it, or for so large a file."""
_FIXES = {
    **dict.fromkeys(FULL, "make room there, or choose another place; the same command may then go on"),
    errno.EACCES: "choose a place that you may use",
    errno.EPERM: "choose a place that you may use",
    errno.EROFS: "choose a place on a disk that can be written",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "one of its folders is a file: choose another place",
    errno.EISDIR: "a folder stands where a file is wanted: choose another place",
    errno.EEXIST: "something else stands there, a link that leads nowhere for instance: choose another place",
    errno.ENOENT: "is there a link that leads nowhere? choose another place, or make what it points to",
    errno.ELOOP: "its links lead in a circle: choose another place",
}


def os_problem(error: OSError, field: str = "", path: Path | None = None) -> Problem:
    """What the system refused, with a fix.

    Args:
        field: the option that names the place, if that is known.
        path: the place as the user named it; left out, what the error names.
    """
    place = path if path is not None else error.filename
    reason, fix = error.strerror or str(error), _FIXES.get(error.errno or 0, "choose another place")
    if place is None:
        return Problem(field, wrong=f": {reason}" if field else reason, fix=fix)
    if field:
        return Problem(field, wrong=f": {place} cannot be written ({reason})", fix=fix)
    return Problem(str(place), wrong=f"cannot be used ({reason})", fix=fix)


def place_problem(path: Path, field: str) -> Problem | None:
    """Why a file that is not there cannot be written to `path`, before any work for it; None where it can.

    Args:
        field: the option that names the file.
    """
    try:
        folder = next(parent for parent in path.absolute().parents if parent.exists() or parent.is_symlink())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            return Problem(field, str(path), f"cannot be written: {folder} takes no files", "choose another file")
    except OSError as error:  # too long a name, for instance
        return os_problem(error, field, path)
    return None


def _name_aside(path: Path, kind: str, ending: str = "") -> Path:
    """A name next to `path` that nobody else has, of a length that fits wherever the name of `path` does."""
    stem = os.fsdecode(os.fsencode(path.name)[:100])
    return path.parent / f".{stem}.{kind}-{secrets.token_hex(6)}{ending}"


@contextmanager
def blame(path: Path) -> Iterator[None]:
    """Have errors of the system name `path`: a full disk names nothing, and a name aside tells a user little.

    Some libraries have errors of their own for them, those written in Rust (safetensors, tokenizers) and shutil: these
    become OSErrors.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (number := _errno_of(error)) is None:
            raise
        names = (getattr(error, "filename", None), getattr(error, "filename2", None))
        if names[0] is None or any(".partial-" in str(name) for name in names):
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def _errno_of(error: Exception) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    said = re.search(r"\[Errno (\d+)\]" if isinstance(error, shutil.Error) else r"\(os error (\d+)\)", str(error))
    return int(said[1]) if said is not None else None


@contextmanager
def new_file(path: Path, keep_ending: bool = False) -> Iterator[Path]:
    """A file name to write to, next to `path`; the file replaces `path` when the block ends.

    The folder is made where it is missing. When the block fails, `path` stays as it was.

    Args:
        keep_ending: for writers that choose a format by the name's ending. Otherwise the name has another one, so that
            what a killed process leaves is not mistaken for a finished file of its kind.
    """
    with blame(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _name_aside(path, "partial", path.suffix if keep_ending else "")
        try:
            yield aside
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, next to `path`; it becomes `path` when the block ends, and vanishes when the block fails.

    Args:
        replace: an existing `path` gives way, but only once the new folder is complete.
    """
    with blame(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _name_aside(path, "partial")
        aside.mkdir()
        try:
            yield aside
            if replace and path.exists():
                _exchange(aside, path)
            else:
                os.rename(aside, path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def _exchange(new: Path, path: Path) -> None:
    """Put the folder `new` in the place of `path`, which comes back if that fails."""
    old = _name_aside(path, "old")
    os.rename(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, atomically."""
    with new_file(path) as aside:
        aside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, atomically; bytes of the command line that are no text, in a path, stay what they are."""
    write_bytes(path, text.encode(errors="surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
