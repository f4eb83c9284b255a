"""The live panel of a pretraining at a terminal; lines of text anywhere else."""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self

from rich.console import Console as Terminal
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from data_pipeline import duration
from pretrain.observe import Console, LineConsole


def open_console(title: str) -> AbstractContextManager[Console]:
    """A panel when stdout is a terminal that can move its cursor, else lines."""
    terminal = Terminal(highlight=False)
    if sys.stdout.isatty() and not terminal.is_dumb_terminal:
        return PanelConsole(title, terminal)
    return nullcontext(LineConsole())


class PanelConsole:
    """One panel that is redrawn in place; what is said scrolls above it.

    It redraws only when there is something new, in the caller's thread: nothing runs between two logging steps.
    """

    def __init__(self, title: str, terminal: Terminal) -> None:
        self._title = title
        self._step = self._steps = 0
        self._metrics: dict[str, float] = {}
        self._saved: int | None = None
        self._live = Live(console=terminal, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print a line above the panel."""
        self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def progress(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Take over what was measured and redraw."""
        self._step, self._steps = step, steps
        self._metrics |= metrics
        if any(name.startswith("checkpoint/") for name in metrics):
            self._saved = step
        if not self._live.is_started:
            self._live.start()
        self._live.update(self.render(), refresh=True)

    def render(self) -> RenderableType:
        """The panel as it is now."""
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column()
        bar.add_column(ratio=1)
        bar.add_column(justify="right")
        left = self._metrics.get("train/seconds_left")
        bar.add_row(
            f"step {self._step:,}/{self._steps:,}",
            ProgressBar(total=self._steps, completed=self._step),
            "" if left is None else f"{duration(left)} left",
        )
        numbers = Table.grid(padding=(0, 3))
        for row in self._rows():
            numbers.add_row(*row)
        return Panel(Group(bar, numbers), title=Text(self._title), title_align="left")

    def _rows(self) -> list[tuple[str, ...]]:
        saved = "none yet" if self._saved is None else f"step {self._saved:,}"
        rows: list[tuple[str, ...]] = [
            (
                f"tokens {_amount(self._metrics['train/tokens'])}" if "train/tokens" in self._metrics else "",
                self._text("loss {:.4f}", "train/loss"),
                self._text("validation loss {:.4f}", "validation/loss"),
                self._text("{:,.0f} tokens/s", "train/tokens_per_second"),
            ),
            (
                self._text("epoch {:.2f}", "train/epoch"),
                self._text("accuracy {:.4f}", "train/accuracy"),
                self._text("all layers {:.4f}", "validation/accuracy"),
                self._text("MFU {:.1%}", "train/mfu"),
            ),
            (
                self._text("lr {:.2e}", "train/learning_rate"),
                self._text("gradient {:.3f}", "train/gradient_norm"),
                self._text("best cut: depth {:.0f} at {:.4f}", "validation/cut_depth", "validation/cut_accuracy"),
                f"checkpoint: {saved}",
            ),
        ]
        conversion = (
            self._text("shortcuts {:.3f}", "train/shortcut_scale"),
            self._text("match {:.4f}", "train/match"),
            self._text("validation match {:.4f}", "validation/match"),
            "",
        )
        return [*rows, conversion] if any(conversion) else rows

    def _text(self, form: str, *names: str) -> str:
        if any(name not in self._metrics for name in names):
            return ""
        return form.format(*(self._metrics[name] for name in names))


def _amount(count: float) -> str:
    """1,234 or 12.3M or 4.5B."""
    for unit, letter in ((1e9, "B"), (1e6, "M")):
        if count >= unit:
            return f"{count / unit:.1f}{letter}"
    return f"{count:,.0f}"
