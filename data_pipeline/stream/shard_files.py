"""A prepared folder, on a disk or behind a URL, as the stream reads it."""

import hashlib
import json
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from ..credentials import take_credentials
from ..errors import DataError, ShardFault
from ..filesystem import is_url, write_bytes
from ..folder import MANIFEST_FILE, TOKENIZER_FOLDER
from ..names import path_inside
from ..problems import Problem
from ..shards import Shard
from .cache import ShardCache
from .remote import RemoteConfig, RemoteFolder
from .verified import VerifiedShards

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_FIX = "restore the file or run `acn prepare` again"


class ShardFiles(Protocol):
    """Where the shards of a prepared folder come from."""

    keep_open: int
    """Shards that a reader should keep open at most."""

    def check(self, shard: Shard) -> None:
        """Raise ShardFault for a shard that can cheaply be seen to be missing or damaged."""

    def announce(self, shards: Iterable[Shard]) -> None:
        """Say that these shards will be opened soon, in this order."""

    def open(self, shard: Shard) -> pa.NativeFile:
        """Open a shard; ShardFault when it is missing or damaged, DataError when it cannot be had at all."""

    def name(self, shard: Shard) -> str:
        """Its full name for messages."""

    def close(self) -> None:
        """End whatever goes on in the background."""


class LocalFiles:
    """Shards in a folder of this machine."""

    keep_open = 64

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        """`cache` remembers for all processes of the machine which shards were found to be whole."""
        self._folder = folder
        self._verified = VerifiedShards(folder, cache)

    def check(self, shard: Shard) -> None:
        """Compare the size with the manifest's. DataError for what is no regular file of the folder."""
        try:
            size = path_inside(self._folder, shard.file).stat().st_size
        except FileNotFoundError as error:
            raise self._fault(shard, "is missing") from error
        if size != shard.bytes:
            raise self._fault(shard, f"has {size} bytes instead of {shard.bytes}")

    def announce(self, shards: Iterable[Shard]) -> None:
        """Nothing to do: a disk is near enough."""

    def open(self, shard: Shard) -> pa.NativeFile:
        """Open a shard of the right size, and of the right sha256 when it is first used."""
        self.check(shard)
        try:
            if not self._verified.holds(shard):
                raise self._fault(shard, "has other content than the manifest's sha256 says")
            return pa.OSFile(self.name(shard), "rb")
        except OSError as error:
            raise self._fault(shard, f"cannot be read ({error.strerror})") from error

    def name(self, shard: Shard) -> str:
        """Its path."""
        return str(self._folder / shard.file)

    def close(self) -> None:
        """Nothing goes on in the background."""

    def _fault(self, shard: Shard, what: str) -> ShardFault:
        return ShardFault(Problem(f"shard {self.name(shard)}", wrong=what, fix=_FIX))


class RemoteFiles:
    """Shards behind a URL, read through the machine's cache and fetched ahead by a few threads."""

    keep_open = 8  # an evicted shard takes room until it is closed

    def __init__(self, url: str, config: RemoteConfig) -> None:
        self._remote = RemoteFolder(url, config)
        self.cache = ShardCache(config.cache, int(config.cache_gb * 1e9))
        self._threads = ThreadPoolExecutor(config.connections, thread_name_prefix="fetch")
        self._coming: dict[str, Future[None]] = {}
        self._closed = threading.Event()

    def check(self, shard: Shard) -> None:
        """Nothing is known of a shard before it is fetched."""

    def announce(self, shards: Iterable[Shard]) -> None:
        """Begin to fetch what the cache lacks."""
        # forget what has come; a failure is kept for the one who opens the shard
        self._coming = {key: coming for key, coming in self._coming.items() if not coming.done() or coming.exception()}
        for shard in shards:
            if shard.sha256 not in self._coming and shard.sha256 not in self.cache:
                self._coming[shard.sha256] = self._threads.submit(self._fetch_ahead, shard)

    def open(self, shard: Shard) -> pa.NativeFile:
        """Open a shard, waiting until it is fetched; its sha256 is the manifest's."""
        coming = self._coming.pop(shard.sha256, None)
        if coming is not None:
            coming.result()
        return self.cache.open(shard.sha256, self.name(shard), lambda: self._remote.read(shard.file, shard.bytes))

    def name(self, shard: Shard) -> str:
        """Its URL."""
        return f"{self._remote.url}/{shard.file}"

    def close(self) -> None:
        """Stop fetching ahead; a request under way ends by itself, nobody waits for it."""
        self._closed.set()
        self._remote.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fetch_ahead(self, shard: Shard) -> None:
        if not self._closed.is_set():
            self.cache.ensure(shard.sha256, self.name(shard), lambda: self._remote.read(shard.file, shard.bytes))


class PreparedFolder:
    """Manifest and tokenizer of a prepared folder as local files, and a way to its shards."""

    def __init__(self, location: str | Path, config: RemoteConfig) -> None:
        """Open a folder or URL; behind a URL, manifest and tokenizer are copied into the cache.

        Raises DataError when the URL holds no prepared folder or cannot be reached.
        """
        self._config = config
        self._url = _url(location)
        self.path = Path(location) if self._url is None else _mirror(self._url, config)
        """Local folder with manifest.json and tokenizer/."""

    def files(self) -> ShardFiles:
        """The shards; the caller closes it."""
        if self._url is None:
            return LocalFiles(self.path, Path(self._config.cache).expanduser())
        return RemoteFiles(self._url, self._config)


def _url(location: str | Path) -> str | None:
    return take_credentials(location) if isinstance(location, str) and is_url(location) else None


def _mirror(url: str, config: RemoteConfig) -> Path:
    """Copy manifest and tokenizer of a remote folder into the cache, file by file and atomically."""
    remote = RemoteFolder(url, config)
    cache = ShardCache(config.cache, int(config.cache_gb * 1e9))
    folder = path_inside(cache.folder, f"folders/{hashlib.sha256(remote.url.encode()).hexdigest()[:16]}")
    try:
        files = {MANIFEST_FILE: _json(remote, MANIFEST_FILE)}
    except ShardFault as error:
        what = f"is not a prepared folder (no {MANIFEST_FILE})"
        raise DataError(Problem(url, wrong=what, fix="give one of `acn prepare`")) from error
    for name in _TOKENIZER_FILES:
        try:
            files[f"{TOKENIZER_FOLDER}/{name}"] = _json(remote, f"{TOKENIZER_FOLDER}/{name}")
        except ShardFault:  # loading the manifest says so where it matters
            continue
    for name, content in files.items():
        write_bytes(folder / name, content)
    return folder


def _json(remote: RemoteFolder, name: str) -> bytes:
    """A JSON file, asked for again if it did not come whole."""
    for _ in range(3):
        content = remote.read(name)
        try:
            json.loads(content)
        except ValueError:
            continue
        return content
    raise DataError(Problem(f"{remote.url}/{name}", wrong="is damaged", fix="run `acn prepare` again"))
