"""What the checks say: one row of the report each."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Level = Literal["fine", "skipped", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """What a check saw somewhere."""

    check: str
    where: str
    """Nodes or ranks, by name."""
    level: Level
    """Only a fault stops a job; skipped says that something could not be looked at because of another fault."""
    seen: str
    fix: str = ""


def fault(check: str, where: str, seen: str, fix: str) -> Finding:
    """Something that would stop, slow or spoil the training."""
    return Finding(check, where, "fault", seen, fix)


def warning(check: str, where: str, seen: str, fix: str) -> Finding:
    """Something to know that the training can live with."""
    return Finding(check, where, "warning", seen, fix)


def fine(check: str, where: str, seen: str) -> Finding:
    """Nothing to fix."""
    return Finding(check, where, "fine", seen)


def skipped(check: str, where: str, seen: str, fix: str) -> Finding:
    """Something that could not be looked at."""
    return Finding(check, where, "skipped", seen, fix)


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Rows that differ in nothing but the place as one, in the order of the first ones."""
    places: dict[Finding, list[str]] = {}
    for finding in findings:
        places.setdefault(replace(finding, where=""), []).append(finding.where)
    return [replace(row, where=listed(names)) for row, names in places.items()]


def listed(names: Iterable[str], most: int = 6) -> str:
    """`a, b, c and 12 more`."""
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - most} more" if len(unique) > most else ""
    return ", ".join(unique[:most]) + more
