"""A prepared corpus for people to look at: coloured blocks, a table, a picture."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text
from tokenizers import Tokenizer

from data_pipeline import CONTINUATION_MARK, LOCK_FILE, SPACE_MARK, save_picture, write_bytes
from data_pipeline.stream import MaskedBatch, SplitSummary

from .errors import LaunchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERS_FILE, PICTURE_FILE, VOCABULARY_FILE = "stats.json", "stats.png", "vocabulary.csv"
_STYLES = {"mask": "black on bright_red", "random": "black on yellow", "kept": "black on green"}
_COLOUR = "#0072B2"


def legend() -> Text:
    """What the colours of `coloured_blocks` mean."""
    text = Text("targets: ")
    text.append("true token, seen as [MASK]", _STYLES["mask"]).append("  ")
    text.append("true token (random token seen)", _STYLES["random"]).append("  ")
    return text.append("true token, seen as it is", _STYLES["kept"])


def coloured_blocks(batch: MaskedBatch, tokenizer: Tokenizer, mask_token_id: int) -> Iterator[tuple[int, Text]]:
    """Sample number and decoded text of each block of a batch, its targets coloured by what the model sees there."""
    labels = batch.labels.tolist()
    for row, sample in enumerate(batch.samples.tolist()):
        targets = dict(zip(batch.masked_positions[row].tolist(), labels[row], strict=True))
        text = Text()
        for position, seen in enumerate(batch.input_ids[row].tolist()):
            true = targets.get(position, -100)
            space, piece = _piece(tokenizer, true if true >= 0 else seen)
            text.append(space)
            if true < 0:
                text.append(piece, "dim" if piece.startswith("[") else "")
            elif seen == mask_token_id:
                text.append(piece, _STYLES["mask"])
            elif seen == true:
                text.append(piece, _STYLES["kept"])
            else:
                text.append(f"{piece} ({_piece(tokenizer, seen)[1]})", _STYLES["random"])
        yield sample, text


def _piece(tokenizer: Tokenizer, token_id: int) -> tuple[str, str]:
    """The space before a token, and its text."""
    piece = tokenizer.id_to_token(token_id) or f"<{token_id}>"
    if piece.startswith(CONTINUATION_MARK):
        return "", piece.removeprefix(CONTINUATION_MARK)
    if SPACE_MARK in piece or "\u010a" in piece:  # a byte-level vocabulary writes space and line end so
        return " ", piece.replace(SPACE_MARK, "").replace("\u010a", "\\n")
    return " ", piece


def stats_table(numbers: dict[str, object]) -> Table:
    """The figures of a summary, a line each."""
    table = Table(show_header=False)
    for name, value in numbers.items():
        shown = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
        table.add_row(name.replace("_", " "), shown)
    return table


def check_stats_folder(output: Path) -> None:
    """Raise LaunchError for a folder that holds something else than earlier statistics."""
    found = [path for path in output.iterdir() if not path.name.startswith(LOCK_FILE)] if output.is_dir() else []
    if found and not (output / NUMBERS_FILE).is_file():
        raise LaunchError(f"output={output} holds other files: choose another folder")
    if output.exists() and not output.is_dir():
        raise LaunchError(f"output={output} is a file: choose a folder")


def write_stats(summary: SplitSummary, tokenizer: Tokenizer, title: str, output: Path) -> None:
    """Write stats.png, vocabulary.csv (id, token, count; the commonest first) and stats.json, each atomically."""
    output.mkdir(parents=True, exist_ok=True)
    rows = io.StringIO(newline="")
    writer = csv.writer(rows)
    writer.writerow(["id", "token", "count"])
    for number in np.argsort(-summary.counts, kind="stable").tolist():
        writer.writerow([number, tokenizer.id_to_token(number), int(summary.counts[number])])
    save_picture(output / PICTURE_FILE, lambda figure: _draw(figure, summary, title), (11, 4), 120)
    contents = {
        VOCABULARY_FILE: rows.getvalue().encode(),
        NUMBERS_FILE: (json.dumps(summary.numbers(), indent=1) + "\n").encode(),
    }
    for name, content in contents.items():
        write_bytes(output / name, content)


def _draw(figure: "Figure", summary: SplitSummary, title: str) -> None:
    figure.suptitle(title)
    lengths, use = figure.subplots(1, 2)
    if len(summary.document_lengths):
        longest = int(summary.document_lengths.max())
        edges = np.unique(np.round(np.geomspace(1, longest + 1, 50)).astype(int))
        lengths.hist(summary.document_lengths, bins=edges, color=_COLOUR)
        lengths.axvline(float(np.median(summary.document_lengths)), color="black", linestyle="--", label="median")
        lengths.set_xscale("log")
        lengths.legend(frameon=False)
    lengths.set(xlabel="tokens of a document", ylabel="documents", title="Document lengths")
    ordinary = np.sort(summary.counts[summary.vocabulary.is_ordinary])[::-1]
    used = ordinary[ordinary > 0]
    use.loglog(np.arange(1, len(used) + 1), used, color=_COLOUR)
    use.axvline(
        len(ordinary), color="black", linestyle=":", label=f"vocabulary ({len(ordinary) - len(used)} ids unused)"
    )
    use.set(xlabel="rank of the token", ylabel="occurrences", title="Vocabulary use")
    use.legend(frameon=False)
    for axes in (lengths, use):
        axes.grid(alpha=0.3)
