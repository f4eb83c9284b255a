"""stdout and stderr that end no work: a reader that has gone, a closed descriptor, a terminal with few letters."""

import codecs
import errno
import io
import os
import select
import sys
from typing import Any

_GONE = (errno.EPIPE, errno.EIO)
"""The reader has had enough, `| head -1` for instance, or the terminal was closed."""


class _Patient(io.FileIO):
    """Where what cannot be written is dropped, together with all that follows."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, waiting for a full pipe that does not block; a broken one becomes the null device."""
        while True:
            try:
                written = super().write(data)
            except OSError as error:
                self.lost = error
                with open(os.devnull, "wb") as null:  # the descriptor too: libraries and children write there
                    os.dup2(null.fileno(), self.fileno())
                return len(data)
            if written is not None:
                return written
            select.select([], [self], [])


def _write_anyhow(error: UnicodeError) -> tuple[bytes, int]:
    """Bytes of the command line that are no text as they came, all else that the encoding lacks as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    written = (
        bytes([ord(letter) - 0xDC00]) if "\udc80" <= letter <= "\udcff" else letter.encode("ascii", "backslashreplace")
        for letter in letters
    )
    return b"".join(written), error.end


codecs.register_error("acn", _write_anyhow)
_guarded: dict[str, _Patient] = {}


def guard_streams() -> None:
    """Have stdout and stderr take all they are given, from now on and as far as they are this process's own.

    Characters that they do not have are written as escapes. Closed descriptors are opened on the null device: the next
    file to be opened would get their numbers, and with it what is written to them.
    """
    _open_closed()
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            raw = _guarded[name] = _Patient(number, "wb", closefd=False)
            guarded = io.TextIOWrapper(
                io.BufferedWriter(raw), stream.encoding, "acn", None,
                stream.line_buffering, stream.write_through,
            )  # fmt: skip
            setattr(sys, name, guarded)


def _open_closed() -> None:
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


def lost_output() -> OSError | None:
    """Why stdout lost text that somebody wanted, on a full disk for instance; None where nobody misses any."""
    if "stdout" not in _guarded:
        return None
    sys.stdout.flush()
    lost = _guarded["stdout"].lost
    return None if lost is None or lost.errno in _GONE else lost
