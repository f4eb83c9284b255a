"""Where a prepared folder is written: a local folder, or a URL that fsspec knows.

Every file appears whole or not at all. Locally that is a rename; object stores show an upload only when it is
complete. Names are relative, with '/' between their parts; one that leads out of the folder is a DataError.
"""

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from ..credentials import take_credentials, url_below
from ..errors import DataError, UnfinishedError
from ..filesystem import LOCK_FILE, blame, is_url, open_filesystem, os_problem, write_bytes
from ..folder import MANIFEST_FILE, WORK_FOLDER
from ..lock import OutputLock
from ..names import name_problem, path_inside
from ..problems import Problem
from ..records import decode_record
from ..shards import Manifest

T = TypeVar("T")

DAMAGED_FIX = "remove the output and prepare it again, or put the file back"
_JOBS = f"{WORK_FOLDER}/jobs"


class Store:
    """The files of one prepared folder, to be read, written and removed by name."""

    def __init__(self, url: str | Path) -> None:
        self.url = take_credentials(str(url))
        self.is_local = not is_url(self.url)
        if self.is_local:
            self._root = Path(self.url)
        else:
            self._filesystem, self._remote_root = open_filesystem(self.url)

    def size(self, name: str) -> int | None:
        """Bytes of a file, None when there is none of that name."""
        if self.is_local:
            file = self._local(name)
            return file.stat().st_size if file.is_file() else None
        try:
            info = self._remote(self._filesystem.info, self._path(name))
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def is_file(self) -> bool:
        """Whether a single file stands where the folder should be."""
        return self.is_local and (self._root.is_file() or self._root.is_symlink())

    def read(self, name: str) -> bytes:
        """The content of a file; FileNotFoundError when there is none."""
        if self.is_local:
            return self._local(name).read_bytes()
        return bytes(self._remote(self._filesystem.cat_file, self._path(name)))

    def read_record(self, kind: type[T], name: str) -> T:
        """The dataclass `kind` that a JSON file holds; FileNotFoundError when there is none, DataError when damaged."""
        return decode_record(kind, self.read(name), f"{self.url}/{name}", fix=DAMAGED_FIX)

    def names(self, folder: str = "") -> set[str]:
        """Names of the files and folders directly inside a folder, without its lock; empty when there is none."""
        if self.is_local:
            path = self._local(folder)
            found = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
            return {name for name in found if not name.startswith(LOCK_FILE)}
        try:
            found = self._remote(self._filesystem.ls, self._path(folder), detail=False)
        except FileNotFoundError:
            return set()
        return {str(path).rstrip("/").rsplit("/", 1)[-1] for path in found} - {""}

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole, in place of one of the same name."""
        if not self.is_local:
            self._remote(self._filesystem.pipe_file, self._path(name), content)
            return
        write_bytes(self._prepare_parent(name), content)

    def put(self, file: Path, name: str) -> None:
        """Move a file from a `scratch` folder to its place."""
        if self.is_local:
            os.replace(file, self._prepare_parent(name))
            return
        self._remote(self._filesystem.put_file, str(file), self._path(name))
        file.unlink()

    def remove(self, name: str) -> None:
        """Remove a file or a folder with all it holds, if it is there."""
        if not self.is_local:
            with suppress(FileNotFoundError):
                self._remote(self._filesystem.rm, self._path(name), recursive=True)
            return
        path = self._local(name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file():
            path.unlink()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A local folder to write files in before they are `put`; on the store's own disk when that is local."""
        if self.is_local:
            folder = self._root / WORK_FOLDER / f"scratch-{uuid.uuid4().hex[:8]}"
            folder.mkdir(parents=True)
        else:
            folder = Path(tempfile.mkdtemp(prefix="acn-prepare-"))
        try:
            with blame(Path(self.url)):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def held(self, part: str) -> Iterator[None]:
        """Keep other jobs out of a local folder meanwhile; those of other parts share it. Raises DataError.

        Nothing locks a URL: see `announced`.
        """
        with OutputLock(self._root, part=part) if self.is_local else nullcontext():
            yield

    @contextmanager
    def announced(self) -> Iterator[Callable[[], bool]]:
        """Let other jobs know of this one, and ask whether there are others: what they make is not for us to remove."""
        mark = f"job-{uuid.uuid4().hex[:8]}"
        self.write(f"{_JOBS}/{mark}", b"")
        try:
            yield lambda: bool(self.names(_JOBS) - {mark})
        finally:
            self.remove(f"{_JOBS}/{mark}")

    @contextmanager
    def removed_on_error(self, names: Collection[str], unless: Callable[[BaseException], bool]) -> Iterator[None]:
        """Take away the files and folders `names` when the body fails; `unless` may keep them."""
        try:
            yield
        except BaseException as error:  # Ctrl-C too
            if not unless(error):
                for name in names:
                    self.remove(name)
            raise

    def _local(self, name: str) -> Path:
        return path_inside(self._root, name) if name else self._root

    def _path(self, name: str) -> str:
        if not name:
            return self._remote_root.rstrip("/")
        if problem := name_problem(name, in_url=True):
            raise DataError(f"{self.url}: {name!r} {problem}: this folder was not written by acn-lm")
        return url_below(self._remote_root, name)

    def _prepare_parent(self, name: str) -> Path:
        target = self._local(name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(os_problem(error, "output", self._root)) from error
        return target

    def _remote(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call the file system, turning what a user can fix into a DataError; a missing file stays an OSError."""
        try:
            return function(*args, **options)
        except FileNotFoundError:
            if function in (self._filesystem.pipe_file, self._filesystem.put_file):  # a missing bucket
                raise self._cannot("be written", "no such bucket or folder") from None
            raise
        except PermissionError as error:
            raise self._cannot("be used", error) from error
        except Exception as error:  # drivers of remote stores raise classes of their own
            reason = " ".join(str(error).split()) or type(error).__name__
            fix = "check the URL, your credentials and the network"
            raise UnfinishedError(Problem(self.url, wrong=f"cannot be used ({reason})", fix=fix)) from error

    def _cannot(self, what: str, reason: object) -> DataError:
        return DataError(f"output: {self.url} cannot {what} ({reason}): choose another folder")


def read_manifest(store: Store) -> Manifest:
    """The manifest of a finished store."""
    return Manifest.from_bytes(store.read(MANIFEST_FILE), f"{store.url}/{MANIFEST_FILE}")


def write_json(store: Store, name: str, content: Any) -> None:
    """Write JSON values as a file."""
    store.write(name, (json.dumps(content, indent=1) + "\n").encode())
