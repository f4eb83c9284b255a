"""Cards in Markdown, into which values go as text: what a file says of itself makes no links, images, rows or HTML."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data_pipeline import hide_credentials

from ..report import format_cell
from ..results import size_mb

# an underscore inside a word emphasizes nothing, and a bracket makes a link only with what follows it
_SPECIAL = re.compile(r"[\\`*<>|#~$&]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:]|$)")
_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")


class Markdown(str):
    """Text that is Markdown, and stays as it is where other text is escaped."""


def escape(value: Any) -> Markdown:
    """A value as text of one line."""
    if isinstance(value, Markdown):
        return value
    text = hide_credentials(_BREAKS.sub(" ", str(value)))
    return Markdown(_SPECIAL.sub(r"\\\g<0>", text))


def code(value: Any) -> Markdown:
    """A value as `code`."""
    text = hide_credentials(_BREAKS.sub(" ", str(value)))
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if "`" in text else ""
    return Markdown(f"{fence}{space}{text}{space}{fence}")


def public_path(name: str) -> str:
    """A path as others may see it: of an absolute one the last two names, and no credentials."""
    return "/".join(Path(name).parts[-2:]) if Path(name).is_absolute() else hide_credentials(name)


def address(value: Any) -> Markdown:
    """A URL, or a file of the repository, as the address of a link or picture."""
    return Markdown(quote(hide_credentials(str(value)), safe="/:?&=#%@+,~"))


def link(text: Any, url: str) -> Markdown:
    """A link."""
    return Markdown(f"[{escape(text)}]({address(url)})")


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Markdown:
    """A table; numbers have four significant digits, what is not there a dash."""
    cells = [[_cell(column) for column in columns], ["---"] * len(columns), *([_cell(c) for c in row] for row in rows)]
    return Markdown("\n".join("| " + " | ".join(line) + " |" for line in cells))


def _cell(value: Any) -> str:
    """A cell; one that is Markdown may still have a bar in code."""
    return re.sub(r"(?<!\\)\|", r"\\|", escape(value if isinstance(value, Markdown) else format_cell(value)))


def read_templates(folder: Path) -> Environment:
    """The cards in `folder`, Markdown in which every value is escaped.

    Filters: `number(FORMAT)` and `size_mb` for what is computed, `code`, `address`, `public_path`, and `raw` for what
    is known to be harmless and stands in a block of code.
    """
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=escape,
    )
    environment.filters |= {
        "number": format,
        "code": code,
        "address": address,
        "raw": Markdown,
        "public_path": public_path,
    }
    environment.globals["size_mb"] = size_mb
    environment.globals["link"] = link
    return environment
