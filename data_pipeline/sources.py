"""Raw text: local files and Hub datasets as one stream of documents."""

import glob
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError

FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "json",
    ".json": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}
"""Suffix -> builder of the datasets library."""
COMPRESSIONS = (".gz", ".zst", ".xz", ".bz2")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_READ_BATCH = 256  # documents per step through the datasets library


@dataclass
class Source:
    """One place where text comes from."""

    path: str
    """A local file, a glob such as 'corpus/*.parquet', or a Hub dataset such as 'wikimedia/wikipedia'. Local files
    are Parquet, JSON lines, CSV or text (.txt, .md), and all but Parquet may be compressed (.gz, .zst, .xz, .bz2).
    In text files, a document is a paragraph: blank lines part them."""
    name: str | None = None
    """Configuration of a Hub dataset, such as '20231101.en'."""
    split: str = "train"
    """Split of a Hub dataset."""
    text_column: str = "text"
    """Column that holds the text; text files have just the column 'text'."""
    revision: str | None = None
    """Commit, tag or branch of a Hub dataset."""

    @property
    def is_local(self) -> bool:
        """Whether `path` means files here rather than a Hub dataset: it exists, matches, or looks like a path."""
        looks_local = (
            any(character in self.path for character in "*?[")
            or self.path.startswith((".", "/", "~"))
            or _format(self.path) is not None
        )
        return looks_local or bool(self.files())

    def files(self) -> list[str]:
        """The local files that `path` names, sorted."""
        pattern = str(Path(self.path).expanduser())
        if Path(pattern).exists():
            return [pattern]
        return sorted(file for file in glob.glob(pattern, recursive=True) if Path(file).is_file())

    def problems(self) -> list[str]:
        """Every problem of this source, each naming it and the mend."""
        if not self.is_local:
            if _HUB_NAME.fullmatch(self.path):
                return []
            return [f"{self.path!r} is neither a local file or glob nor a Hub dataset: correct the path"]
        found = [
            f"{self.path!r} is local, but {field} is set: leave it out, it is for Hub datasets"
            for field, is_set in (
                ("name", self.name is not None),
                ("split", self.split != "train"),
                ("revision", self.revision is not None),
            )
            if is_set
        ]
        files = self.files()
        if not files:
            found.append(f"{self.path!r} matches no file: correct the path (it is relative to {Path.cwd()})")
        folders = [file for file in files if Path(file).is_dir()]
        if folders:
            found.append(f"{self.path!r} is a folder: name its files with a glob such as '{folders[0]}/*.parquet'")
        formats = {_format(file) for file in files} if not folders else set()
        if None in formats:
            strange = next(file for file in files if _format(file) is None)
            found.append(f"{strange!r} is of no known format: use {', '.join(FORMATS)}")
        elif len(formats) > 1:
            found.append(
                f"{self.path!r} mixes formats ({', '.join(sorted(map(str, formats)))}): give one source per format"
            )
        return found

    def describe(self) -> dict[str, Any]:
        """The source as the manifest records it, for local files with their sizes in bytes."""
        if self.is_local:
            files = [{"file": file, "bytes": Path(file).stat().st_size} for file in self.files()]
            return {"path": self.path, "text_column": self.text_column, "files": files}
        return {
            "path": self.path,
            "name": self.name,
            "split": self.split,
            "text_column": self.text_column,
            "revision": self.revision,
        }


@dataclass
class CorpusConfig:
    """The text to train and validate on."""

    train: str | Source | list[str | Source]
    """Files, globs or Hub datasets to train on, read in the given order. A plain string is the path of a source."""
    validation: str | Source | list[str | Source] | None = None
    """The same for validation; without it, documents of the training text are held out."""
    validation_fraction: float = 0.005
    """Share of the documents held out when `validation` is not given. The hash of a document's text decides, so
    copies of one document never end up on both sides."""
    text_column: str = "text"
    """Text column of those sources that are given as plain strings."""

    def problems(self) -> list[str]:
        """Every problem of the corpus, missing files included, each naming the field and the mend."""
        found = []
        for field in ("train", "validation"):
            sources = self.sources(field)
            if not sources and getattr(self, field) is not None:
                found.append(f"corpus.{field} is empty: name at least one file or dataset")
            found += [f"corpus.{field}: {problem}" for source in sources for problem in source.problems()]
        if self.validation is None and not 0 < self.validation_fraction < 1:
            found.append(
                f"corpus.validation_fraction is {self.validation_fraction}: set it between 0 and 1, "
                "or give corpus.validation"
            )
        return found

    def sources(self, field: str) -> list[Source]:
        """The sources of "train" or "validation" as a list, empty where none is given."""
        given = getattr(self, field)
        entries = [] if given is None or given == "" else given if isinstance(given, list) else [given]
        return [Source(entry, text_column=self.text_column) if isinstance(entry, str) else entry for entry in entries]

    def documents(self) -> Iterator[tuple[str, str]]:
        """Every document as (split, text), the split "train" or "validation", in a fixed order."""
        for source in self.sources("train"):
            for text in iter_documents(source):
                held_out = self.validation is None and _unit_hash(text) < self.validation_fraction
                yield "validation" if held_out else "train", text
        for source in self.sources("validation"):
            for text in iter_documents(source):
                yield "validation", text


def iter_documents(source: Source) -> Iterator[str]:
    """Stream the documents of a source that are not blank.

    Raises DataError when it cannot be read, lacks the text column, holds something other than text there, or has
    no document at all.
    """
    empty = True
    rows = iter(_open(source).iter(batch_size=_READ_BATCH))
    while True:
        try:
            batch = next(rows, None)
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            raise _unreadable(source, error) from error
        if batch is None:
            break
        if source.text_column not in batch:
            raise DataError(
                f"{source.path!r} has no column {source.text_column!r}, only {', '.join(map(repr, batch))}: "
                "set text_column"
            )
        for text in batch[source.text_column]:
            if text is not None and not isinstance(text, str):
                raise DataError(
                    f"{source.path!r}: column {source.text_column!r} holds {type(text).__name__}, not text: "
                    "set text_column to a column of strings"
                )
            if text and not text.isspace():
                empty = False
                yield text
    if empty:
        raise DataError(f"{source.path!r} holds no documents: give a source with text")


def _open(source: Source) -> Any:
    """The source as a streaming dataset."""
    from datasets import load_dataset  # a second of import time that reading shards should not pay

    try:
        if not source.is_local:
            return load_dataset(source.path, source.name, split=source.split, revision=source.revision, streaming=True)
        files = [str(Path(file).resolve()) for file in source.files()]
        builder = FORMATS[str(_format(files[0]))]
        options: dict[str, Any] = {"sample_by": "paragraph"} if builder == "text" else {}
        return load_dataset(builder, data_files=files, split="train", streaming=True, **options)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from error


def _unreadable(source: Source, error: Exception) -> DataError:
    mend = "check the file" if source.is_local else "check the dataset's name, configuration, split and your network"
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{source.path!r} cannot be read ({reason}): {mend}")


def _format(path: str) -> str | None:
    """The suffix in FORMATS that names a path's format, compression left aside; None when there is none."""
    name = path.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    suffix = Path(name).suffix
    return suffix if suffix in FORMATS else None


def _unit_hash(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
