"""Pictures on the page, each drawn twice: for a phone a wide one would be scaled until nobody can read it."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

WIDE, NARROW = 7.2, 3.8
"""Inches."""


@dataclass(frozen=True)
class Image:
    """Data URLs of one picture in two widths."""

    wide: str
    narrow: str


def save_image(folder: Path, stem: str, save: Callable[[Path, float], bool]) -> Image | None:
    """Write FOLDER/STEM.png and .svg, and give the picture for the page; None where it could not be drawn.

    Args:
        save: draws into a file, for a width in inches.
    """
    for suffix in ("png", "svg"):
        save(folder / f"{stem}.{suffix}", WIDE)
    with TemporaryDirectory() as scratch:
        small = Path(scratch) / f"{stem}.png"
        save(small, NARROW)
        wide, narrow = _inline(folder / f"{stem}.png"), _inline(small)
    return Image(wide, narrow or wide) if wide is not None else None


def _inline(figure: Path) -> str | None:
    if not figure.is_file():
        return None
    return f"data:image/png;base64,{base64.b64encode(figure.read_bytes()).decode()}"
