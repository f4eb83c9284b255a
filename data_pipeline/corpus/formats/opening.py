"""Opening files and URLs of text, compressed or not; whatever goes wrong on the way is one error that names the file.

A compressed file is read to its last member, and its end must be the end of one: rubbish behind it and a missing rest
are errors.
"""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from ...errors import DataError, UnfinishedError
from ...filesystem import is_url, open_filesystem
from ...problems import Problem

_BUFFER = 1 << 18  # bytes
_XZ_PADDING = 4  # bytes: zeros between .xz streams come in fours
_WINDOW_TOO_LARGE = "requires too much memory"  # zstd's word for a window above 128 MiB, which Arrow does not allow


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn whatever goes wrong while a source is read into one message that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # decoders and drivers of remote stores raise classes of their own
        reason = " ".join(str(error).split()) or type(error).__name__
        wrong, fix = f"cannot be read ({reason})", "check the file"
        if _WINDOW_TOO_LARGE in reason:
            name = path.rsplit("/", 1)[-1]
            fix = f"recompress it with a window of at most 128 MiB: `zstd -dc --long=31 {name} | zstd -o new-{name}`"
        elif is_url(path) and not isinstance(error, FileNotFoundError | PermissionError | ValueError | EOFError):
            raise UnfinishedError(Problem(repr(path), wrong=wrong, fix="check the network, then run again")) from error
        raise DataError(Problem(repr(path), wrong=wrong, fix=fix)) from error


def open_file(file: str) -> IO[bytes]:
    """Open a path or URL for reading."""
    if not is_url(file):
        return open(file, "rb")
    filesystem, path = open_filesystem(file)
    stream: IO[bytes] = filesystem.open(path, "rb")
    return stream


def decompressed(raw: IO[bytes], compression: str | None) -> IO[bytes]:
    """The content of a file, read on the go; `compression` is one of `COMPRESSIONS`, or None."""
    if compression is None:
        return raw
    if compression == "gzip":
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if compression == "bz2":
        return io.BufferedReader(_Members(raw, bz2.BZ2Decompressor), _BUFFER)
    if compression == "xz":
        return io.BufferedReader(_Members(raw, lzma.LZMADecompressor, is_padded=True), _BUFFER)
    import pyarrow as pa

    # reads frames to the last and notices a truncated one and rubbish, which zstandard's reader does not
    arrow = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), compression)
    return io.BufferedReader(arrow, _BUFFER)


class _Members(io.RawIOBase):
    """What the members of an .xz or .bz2 file hold, one after the other.

    `lzma.open` and `bz2.open` take whatever they do not know behind the first member for rubbish and say nothing, so
    that they drop damaged members, and those behind padding.
    """

    def __init__(self, raw: IO[bytes], decoder: Callable[[], Any], is_padded: bool = False) -> None:
        self._raw, self._new_decoder, self._is_padded = raw, decoder, is_padded
        self._rest = b""  # read and not yet decoded
        self._decoder: Any = decoder()
        self._began = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while (decoder := self._decoder or self._next()) is not None:
            data = b""
            if decoder.needs_input:
                data, self._rest = self._rest or self._raw.read(_BUFFER), b""
                if not data and self._began:
                    raise EOFError("it ends in the middle of compressed data")
                if not data:
                    break
                self._began = True
            content: bytes = decoder.decompress(data, len(buffer))
            if decoder.eof:
                self._rest, self._decoder = decoder.unused_data, None
            if content:
                buffer[: len(content)] = content
                return len(content)
        return 0

    def _next(self) -> Any:
        """A decoder for the next member, behind padding; None at the end of the file."""
        padding = 0
        while rest := self._rest or self._raw.read(_BUFFER):
            self._rest = rest.lstrip(b"\0") if self._is_padded else rest
            padding += len(rest) - len(self._rest)
            if self._rest:
                break
        if padding % _XZ_PADDING:
            raise EOFError("it ends in the middle of compressed data")
        self._decoder = self._new_decoder() if self._rest else None
        return self._decoder
