"""Files behind a URL, over a network that fails now and then."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from fsspec.asyn import AsyncFileSystem

from ..credentials import take_credentials, url_below, where_to_keep
from ..errors import DataError, ShardFault
from ..filesystem import open_filesystem
from ..problems import Problem
from .config import RemoteConfig

_CHUNK = 16 << 20  # bytes per request
_LONGEST_PAUSE = 30.0
_TRANSIENT_STATUS = (408, 425, 429)  # client errors that mean "later"

T = TypeVar("T")


class RemoteFolder:
    """Reads the files below a URL of any fsspec file system. Threads may share it."""

    def __init__(self, url: str, config: RemoteConfig) -> None:
        """Connects to nothing yet. Raises DataError for a URL that no installed file system understands."""
        self.url = take_credentials(url).rstrip("/")
        self._config = config
        self._closed = threading.Event()
        self._fs, self._root = open_filesystem(self.url)

    def read(self, name: str, size: int | None = None) -> bytes:
        """The content of a file below the URL, of `size` bytes where that is known.

        Failed, shortened and late answers are asked for again. Raises ShardFault when there is no such file, and
        DataError when it may not be read or the attempts are used up.
        """
        if size is None or size <= _CHUNK:
            return self._patiently(name, partial(self._request, name, 0, size, whole=True))
        parts = [
            self._patiently(name, partial(self._request, name, start, min(start + _CHUNK, size), whole=False))
            for start in range(0, size, _CHUNK)
        ]
        return b"".join(parts)

    def close(self) -> None:
        """Give up on all attempts under way."""
        self._closed.set()

    def _request(self, name: str, start: int, end: int | None, whole: bool) -> bytes:
        path = url_below(self._root, name)
        limits = {} if whole else {"start": start, "end": end}
        content: bytes = _within(self._config.timeout, self._fs, "cat_file", path, **limits)
        if not whole and end is not None and len(content) > end - start:  # a server without ranges sends everything
            content = content[start:end]
        if end is not None and len(content) != end - start:
            raise OSError(f"{len(content)} bytes came instead of {end - start}")
        return content

    def _patiently(self, name: str, attempt: Callable[[], T]) -> T:
        began, pause = time.monotonic(), self._config.backoff
        for number in range(self._config.retries + 1):
            try:
                return attempt()
            except FileNotFoundError as error:
                fix = "restore it or run `acn prepare` again"
                raise ShardFault(Problem(f"{self.url}/{name}", wrong="is missing", fix=fix)) from error
            except Exception as error:  # every file system has exception classes of its own
                reason = " ".join(str(error).split()) or type(error).__name__
                if _is_final(error):
                    raise DataError(
                        Problem(
                            f"{self.url}/{name}",
                            wrong=f"may not be read ({reason})",
                            fix=f"check the URL and your credentials, which nothing keeps: {where_to_keep(self.url)}",
                        )
                    ) from error
                # spread out, so that thousands of ranks do not all come back at the same moment
                last = number == self._config.retries
                if last or self._closed.wait(min(pause, _LONGEST_PAUSE) * random.uniform(0.5, 1)):
                    raise DataError(
                        Problem(
                            f"{self.url}/{name}",
                            wrong=f"could not be fetched in {number + 1} attempts over "
                            f"{time.monotonic() - began:.0f} s (the last: {reason})",
                            fix="check the network and start the run again, it goes on where it was; or raise "
                            "stream.remote.retries or stream.remote.timeout",
                        )
                    ) from error
                pause *= 2
        raise AssertionError("the last attempt returns or raises")


def _within(seconds: float, fs: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method of a file system; TimeoutError when it takes longer."""
    if isinstance(fs, AsyncFileSystem):
        call = asyncio.wait_for(getattr(fs, f"_{method}")(*args, **kwargs), seconds)
        try:
            return asyncio.run_coroutine_threadsafe(call, fs.loop).result()
        except TimeoutError as error:
            raise TimeoutError(f"no answer within {seconds:g} s") from error
    outcome: list[Any] = []
    failure: list[Exception] = []

    def run() -> None:
        try:
            outcome.append(getattr(fs, method)(*args, **kwargs))
        except Exception as error:  # raised again below, in the caller's thread
            failure.append(error)

    # a blocking call cannot be cancelled; a daemon thread at least does not hold up the process
    thread = threading.Thread(target=run, name="remote-request", daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return outcome[0]


def _is_final(error: Exception) -> bool:
    """Whether trying again is no use: refused for good, rather than not served now."""
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return 400 <= status < 500 and status not in _TRANSIENT_STATUS
    return isinstance(error, (PermissionError, ImportError, NotImplementedError, TypeError, AttributeError))
