"""Pictures: drawn and written in one place, where names are text and no failure ends the work that is shown."""

import logging
import textwrap
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
            _wrap_texts(figure)
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


def _wrap_texts(figure: "Figure") -> None:
    """Break what is longer than its place into lines: entries of legends, titles, names of axes."""
    grids = [spec.get_gridspec() for axes in figure.axes if (spec := axes.get_subplotspec()) is not None]
    across = figure.get_figwidth() / max((grid.ncols for grid in grids), default=1)
    beside = across - 1.2  # in the middle of the axes, which the numbers at their left push out of the page's
    down = figure.get_figheight() / max((grid.nrows for grid in grids), default=1)
    for text in (text for legend in figure.legends for text in legend.get_texts()):
        _wrap(text, figure.get_figwidth() - 0.6)
    if figure.get_suptitle():
        _wrap(figure._suptitle, figure.get_figwidth() - 0.3)  # type: ignore[attr-defined]
    for axes in figure.axes:
        legend = axes.get_legend()
        for text in legend.get_texts() if legend is not None else ():
            _wrap(text, across - 0.6)
        for text, inches in (
            (axes.title, beside),
            (axes.xaxis.label, beside),
            (axes.yaxis.label, down - 0.5),
        ):
            _wrap(text, inches)


def _wrap(text: Any, inches: float) -> None:
    """Break a text of a figure, which may stand upright, into lines that are no longer than so many inches."""
    if not text.get_text().strip():
        return
    box = text.get_window_extent(text.figure.canvas.get_renderer())
    length = max(box.width, box.height) / text.figure.dpi
    lines = text.get_text().split("\n")
    if length > inches:
        letters = max(8, int(max(map(len, lines)) * 0.93 * inches / length))  # letters are not all of one width
        text.set_text("\n".join(textwrap.fill(line, letters, break_on_hyphens=False) for line in lines))
