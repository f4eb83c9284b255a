"""acn report"""

import os
import sys
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eval.report import ReportConfig

from . import large_imports

if TYPE_CHECKING:
    from eval.report import Origin

EXAMPLE = "acn report runs/glue-acn runs/glue-res --output runs/report --open"
_COMMIT = 10  # digits


@dataclass
class Args(ReportConfig):
    """Tables and figures of any number of fine-tunings, as one page."""

    open: bool = False
    """Show the page in the browser, where there is one: not in a pipe, nor without a display."""


def run(args: Args) -> int:
    """Write the page and say where it is."""
    with large_imports():
        from eval.report import write_report

    page = write_report(args, _made(), _recorded)
    print(f"report: {page}")
    if args.open:
        _open(page)
    return 0


def _made() -> "Origin":
    from eval.report import Origin, day

    from ..provenance import machine_name, provenance_tags

    return Origin(day(time.time()), _commit(provenance_tags()), machine_name())


def _recorded(folder: Path) -> "Origin | None":
    """What the record of a suite or of studies says of how they were made."""
    from eval.report import Origin, day

    from ..tracking import read_record

    if (record := read_record(folder)) is None:
        return None
    return Origin(day(record.ended or record.started), _commit(record.tags), record.tags.get("machine", ""))


def _commit(tags: dict[str, str]) -> str:
    commit = tags.get("git.commit", "")[:_COMMIT]
    return f"{commit} with changes" if commit and tags.get("git.dirty") == "true" else commit


def _open(page: Path) -> None:
    """Open the page in a browser, or say why it is not."""
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    if not sys.stdout.isatty():
        why = "standard output is no terminal"
    elif sys.platform.startswith("linux") and not any(os.environ.get(name) for name in displays):
        why = "there is no display"
    elif webbrowser.open(page.resolve().as_uri()):
        return
    else:
        why = "no browser was found"
    print(f"not opened, {why}: open {page.resolve()} in a browser", file=sys.stderr)
