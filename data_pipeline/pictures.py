"""Pictures: drawn and written in one place, where names are text and no failure ends the work that is shown."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .filesystem import new_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

# a dollar in the name of a run or a task is a dollar: neither matplotlib's mathematics nor LaTeX may read it
_STYLE: dict[Any, Any] = {"text.parse_math": False, "text.usetex": False, "svg.fonttype": "path"}
_METADATA = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}

_failed: set[Path] = set()


def save_picture(
    path: Path, draw: "Callable[[Figure], None]", size: tuple[float, float] = (9, 4.5), dpi: float = 150
) -> bool:
    """Have `draw` fill a figure and write it as the PNG or SVG that `path` says, atomically; the same figure gives the
    same bytes.

    Whatever goes wrong, in reading what is to be drawn, in drawing, in writing, is a warning, once for each path: a
    picture can be drawn again, and nothing is lost with it.

    Args:
        size: of the figure, in inches.

    Returns:
        Whether the picture is there.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        with rc_context({**_STYLE, "svg.hashsalt": path.stem}):
            figure = Figure(figsize=size, layout="constrained")
            FigureCanvasAgg(figure)
            draw(figure)
            _label_plainly(figure)
            with new_file(path) as aside:
                figure.savefig(aside, format=path.suffix[1:], dpi=dpi, metadata=_METADATA[path.suffix])
    except Exception as error:  # matplotlib, its fonts, its settings, the numbers, the disk
        if path not in _failed:
            logger.warning("no picture %s (%s: %s); the rest goes on without it", path, type(error).__name__, error)
        _failed.add(path)
        return False
    return True


def as_label(name: str) -> str:
    """A name for a legend, which leaves out those that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def _label_plainly(figure: "Figure") -> None:
    """Have logarithmic axes write 0.01, 100 and 1e+06: matplotlib writes powers as mathematics."""
    from matplotlib.ticker import LogFormatter

    class PlainFormatter(LogFormatter):
        """The ticks that matplotlib would label, also those between powers of ten where an axis spans few."""

        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                axis.set_major_formatter(PlainFormatter())
                axis.set_minor_formatter(PlainFormatter())
