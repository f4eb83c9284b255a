"""Files: paths and URLs, writing so that nobody ever sees half of a file or folder, and telling contents apart."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from .credentials import user_and_password, with_credentials, without_credentials
from .errors import DataError
from .problems import Problem


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


@contextmanager
def new_file(path: Path, keep_ending: bool = False) -> Iterator[Path]:
    """A file name to write to, next to `path`; the file replaces `path` when the block ends.

    The folder is made where it is missing. When the block fails, `path` stays as it was.

    Args:
        keep_ending: for writers that choose a format by the name's ending. Otherwise the name has another one, so that
            what a killed process leaves is not mistaken for a finished file of its kind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix if keep_ending else ""
    aside = path.parent / f".{path.name}.partial-{os.getpid()}-{threading.get_ident()}{ending}"
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


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, atomically."""
    with new_file(path) as aside:
        aside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
