"""When, where and with what the numbers of a report were made."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Origin:
    """What is known of how numbers were made; empty where it was not recorded."""

    date: str = ""
    """YYYY-MM-DD, UTC."""
    commit: str = ""
    machine: str = ""

    def __str__(self) -> str:
        commit = f"commit {self.commit}" if self.commit else ""
        return ", ".join(filter(None, (self.date, commit, self.machine)))


OriginOf = Callable[[Path], Origin | None]
"""Gives what the record in a run's folder says; None where there is none."""


def day(seconds: float) -> str:
    """The date of a time in seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def origin_of_file(file: Path, recorded: OriginOf) -> Origin:
    """Of a results.json or study.json: what the record of its run says, else the date of the file."""
    folder = file.resolve().parent
    return recorded(folder) or recorded(folder.parent) or Origin(day(file.stat().st_mtime))


def summary(origins: Sequence[Origin], seeds: Iterable[int]) -> str:
    """The different dates, commits, seeds and machines in a line."""
    parts = [
        ("measured", sorted({origin.date for origin in origins} - {""})),
        ("commit", sorted({origin.commit for origin in origins} - {""})),
        ("seeds", list(map(str, sorted(set(seeds))))),
        ("on", sorted({origin.machine for origin in origins} - {""})),
    ]
    return "; ".join(f"{name} {', '.join(values)}" for name, values in parts if values)
