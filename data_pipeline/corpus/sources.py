"""Raw text: local and remote files and Hub datasets, mixed by weight, as documents that each belong to one split."""

import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..credentials import where_to_keep
from ..errors import DataError, UnfinishedError
from ..filesystem import is_url, open_filesystem, public_url
from ..problems import Problem
from .cleaning import CleaningConfig
from .formats import FORMATS, UNKNOWN_BYTES, Batch, MalformedRule, RowCheck, Slice, read_slice, reading, suffix_format

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LARGEST_WEIGHT = 1000  # every copy of a source is read by itself
_HUB_BATCH = 256  # documents per step through the datasets library


@dataclass
class Source:
    """One place where text comes from."""

    path: str
    """A file, a glob such as 'corpus/*.parquet', a URL or a glob of URLs such as 's3://bucket/text/*.jsonl.zst' (s3://,
    gs://, https://, hf://: whatever fsspec has a driver for), or a Hub dataset such as 'wikimedia/wikipedia'. Files are
    Parquet, JSON lines, CSV or text (.txt, .md), and all but Parquet may be compressed (.gz, .zst, .xz, .bz2). In text
    files, a document is a paragraph: blank lines part them."""
    name: str | None = None
    """Configuration of a Hub dataset, such as '20231101.en'."""
    split: str = "train"
    """Split of a Hub dataset."""
    text_column: str = "text"
    """Column that holds the text; text files have just the column 'text'."""
    revision: str | None = None
    """Commit, tag or branch of a Hub dataset. `acn prepare` resolves it once and keeps to that commit."""
    weight: float = 1.0
    """How often each document of this source is used in an epoch: 0.3 keeps those 30 % of the documents whose hash
    says so, 2.5 uses every document twice and every second one a third time. For training sources only."""

    @property
    def is_local(self) -> bool:
        """Whether `path` means files here, not a URL or Hub dataset: it exists, matches, or looks like a path."""
        if is_url(self.path):
            return False
        looks_local = (
            _is_pattern(self.path) or self.path.startswith((".", "/", "~")) or suffix_format(self.path)[0] is not None
        )
        return looks_local or bool(self.files())

    @property
    def is_hub(self) -> bool:
        """Whether `path` names a dataset of the Hugging Face Hub."""
        return not is_url(self.path) and not self.is_local

    def files(self) -> list[str]:
        """The files that `path` names, sorted; those of a URL as URLs."""
        return [file for file, _, _ in self.listing()]

    def listing(self) -> list[tuple[str, int, str]]:
        """(file, bytes, version) of every file; 0 and "" where the store does not tell.

        Raises DataError for a URL whose store refuses, UnfinishedError for one that cannot be reached.
        """
        if is_url(self.path):
            with reading(self.path):
                return _remote_listing(self.path)
        path = str(Path(self.path).expanduser())
        files = _matches(path, os.path.exists, lambda pattern: glob.glob(pattern, recursive=True))
        there = (file for file in files if Path(file).is_file() or (file == path and Path(file).exists()))
        return sorted((file, Path(file).stat().st_size, "") for file in there)

    def problems(self) -> list[Problem]:
        """Each is about the path; `CorpusConfig` knows the option that it was given in."""
        path, found = repr(self.path), []
        if not 0 < self.weight <= _LARGEST_WEIGHT:
            fix = f"set it above 0 and at most {_LARGEST_WEIGHT}"
            found.append(Problem(path, wrong=f"has weight {self.weight}", fix=fix))
        if self.is_hub:
            if not _HUB_NAME.fullmatch(self.path):
                strange = "is neither a local file or glob nor a Hub dataset"
                found.insert(0, Problem(path, wrong=strange, fix="correct the path"))
            return found
        kind = "local" if self.is_local else "a URL"
        found += [
            Problem(path, wrong=f"is {kind}, but {name} is set", fix="leave it out, it is for Hub datasets")
            for name, is_set in (
                ("name", self.name is not None),
                ("split", self.split != "train"),
                ("revision", self.revision is not None),
            )
            if is_set
        ]
        try:
            return found + self._file_problems(self.files())
        except DataError as error:
            return found + error.problems

    def _file_problems(self, files: list[str]) -> list[Problem]:
        path = repr(self.path)
        if not files:
            where = f" (it is relative to {Path.cwd()})" if self.is_local else ""
            return [Problem(path, wrong="matches no file", fix=f"correct the path{where}")]
        pipes = [file for file in files if self.is_local and not Path(file).is_dir() and not Path(file).is_file()]
        if pipes:
            fix = "write the text to a file: it is read more than once"
            return [Problem(repr(pipes[0]), wrong="is neither a regular file nor a folder", fix=fix)]
        folders = [file for file in files if self.is_local and Path(file).is_dir()]
        if folders:
            fix = f"name its files with a glob such as '{folders[0]}/*.parquet'"
            return [Problem(path, wrong="is a folder", fix=fix)]
        suffixes = {file: suffix_format(file)[0] for file in files}
        strange = [file for file, kind in suffixes.items() if kind is None]
        if strange:
            return [Problem(repr(strange[0]), wrong="is of no known format", fix=f"use {', '.join(FORMATS)}")]
        if len(set(suffixes.values())) > 1:
            kinds = ", ".join(sorted({str(kind) for kind in suffixes.values()}))
            return [Problem(path, wrong=f"mixes formats ({kinds})", fix="give one source per format")]
        return []

    def pinned(self) -> "Source":
        """This source with a Hub dataset's revision resolved to a commit; DataError when the Hub cannot tell."""
        if not self.is_hub or (self.revision and _COMMIT.fullmatch(self.revision)):
            return self
        from huggingface_hub import HfApi

        with reading_dataset(self):
            return replace(self, revision=HfApi().dataset_info(self.path, revision=self.revision).sha)

    def describe(self) -> dict[str, Any]:
        """The source as the manifest records it, for files with their sizes in bytes, and versions where known."""
        weight = {} if self.weight == 1 else {"weight": self.weight}
        if self.is_hub:
            return {
                "path": self.path,
                "name": self.name,
                "split": self.split,
                "text_column": self.text_column,
                "revision": self.revision,
                **weight,
            }
        files = [
            {"file": file, "bytes": size, **({"version": version} if version else {})}
            for file, size, version in self.listing()
        ]
        return {"path": self.path, "text_column": self.text_column, "files": files, **weight}

    def slices(self) -> list[Slice]:
        """The whole source: a slice per file, or per shard of a Hub dataset."""
        if self.is_hub:
            return [Slice("", number, number + 1, UNKNOWN_BYTES) for number in range(_dataset(self).num_shards)]
        return [Slice(file, bytes=size) for file, size, _ in self.listing()]

    def read(self, part: Slice, rule: MalformedRule = "stop", tally: Counter[str] | None = None) -> Iterator[Batch]:
        """The texts in a slice of this source, with the share of the slice read so far; see `read_slice`."""
        if self.is_hub:
            place = f"row {{}} of shard {part.first}".format
            return _hub_slice(self, part, RowCheck(self.path, self.text_column, rule, tally, place))
        return read_slice(part, self.text_column, rule, tally)


@dataclass
class CorpusConfig:
    """The text to train and validate on."""

    train: str | Source | list[str | Source] = ""
    """Files, globs, URLs or Hub datasets to train on. A plain string is the path of a source."""
    validation: str | Source | list[str | Source] | None = None
    """The same for validation; without it, documents of the training text are held out."""
    validation_fraction: float = 0.005
    """Share of the documents held out when `validation` is not given. The hash of a document's text decides, so
    copies of one document never end up on both sides."""
    text_column: str = "text"
    """Text column of those sources that are given as plain strings."""
    malformed: MalformedRule = "stop"
    """What to do about a row that is not the text it should be (a CSV row with too many fields, a line that is no JSON,
    text with NUL bytes): stop with its file and line, or skip it. Skipped rows are counted by cause in the manifest."""
    deduplicate: bool = False
    """Use each text once only, at its first occurrence; the corpus is read twice for it. Validation sources come
    first: a training document that is also in them is left out."""
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    """What happens to a document before anything else."""

    def problems(self) -> list[Problem]:
        """Missing files count too."""
        found = []
        for name in ("train", "validation"):
            sources = self.sources(name)
            if not sources and getattr(self, name) is not None:
                found.append(Problem(f"corpus.{name}", wrong="is empty", fix="name at least one file or dataset"))
            of_sources = [problem for source in sources for problem in source.problems()]
            found += [replace(one, field=f"corpus.{name}", wrong=f": {one.seen}") for one in of_sources]
        found += [
            Problem(
                "corpus.validation",
                wrong=f": {source.path!r} has weight {source.weight}",
                fix="weights are for training sources",
            )
            for source in self.sources("validation")
            if source.weight != 1
        ]
        if self.validation is None and not 0 < self.validation_fraction < 1:
            found.append(
                Problem(
                    "corpus.validation_fraction",
                    wrong=f"is {self.validation_fraction}",
                    fix="set it between 0 and 1, or give corpus.validation",
                )
            )
        if self.malformed not in ("stop", "skip"):
            found.append(Problem("corpus.malformed", self.malformed, "is unknown", "use stop or skip"))
        return found + self.cleaning.problems()

    def sources(self, field: str) -> list[Source]:
        """The sources of "train" or "validation" as a list, empty where none is given."""
        given = getattr(self, field)
        entries = [] if given is None or given == "" else given if isinstance(given, list) else [given]
        return [Source(entry, text_column=self.text_column) if isinstance(entry, str) else entry for entry in entries]

    def pinned(self) -> "CorpusConfig":
        """This corpus with every source spelled out and every Hub revision resolved to a commit."""
        train: list[str | Source] = [source.pinned() for source in self.sources("train")]
        validation: list[str | Source] | None = None
        if self.validation is not None:
            validation = [source.pinned() for source in self.sources("validation")]
        return replace(self, train=train, validation=validation)

    def split_of(self, text: str) -> str:
        """The split, "train" or "validation", of a cleaned document of the training sources."""
        held_out = self.validation is None and unit_hash(text) < self.validation_fraction
        return "validation" if held_out else "train"

    def documents(self) -> Iterator[tuple[str, str]]:
        """Every cleaned document as (split, text) in a fixed order, each once: without weights and deduplication."""
        clean = self.cleaning.function()
        for name in ("train", "validation"):
            for source in self.sources(name):
                for raw in iter_documents(source, self.malformed):
                    if (text := clean(raw)) is not None:
                        yield (self.split_of(text) if name == "train" else name), text


def iter_documents(source: Source, malformed: MalformedRule = "stop") -> Iterator[str]:
    """Stream the documents of a source that are not blank, in order.

    Raises DataError when it cannot be read, lacks the text column, holds something other than text there that is not
    to be skipped, or has no document at all.
    """
    empty = True
    for part in source.slices():
        for texts, _ in source.read(part, malformed):
            for text in texts:
                if text and not text.isspace():
                    empty = False
                    yield text
    if empty:
        raise no_documents(source.path)


def no_documents(path: str, why: str = "") -> DataError:
    """The error for a source without text."""
    wrong = f"holds no documents ({why})" if why else "holds no documents"
    return DataError(Problem(repr(path), wrong=wrong, fix="give a source with text"))


def unit_hash(text: str, purpose: bytes = b"") -> float:
    """A number in [0, 1) that depends on the text alone; each purpose has its own."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose).digest()
    return int.from_bytes(digest, "big") / 2**64


@contextmanager
def reading_dataset(source: Source) -> Iterator[None]:
    """Turn whatever goes wrong while a Hub dataset is read into one message that names it."""
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        fix = "check the dataset's name, configuration, split and your network"
        raise UnfinishedError(Problem(repr(source.path), wrong=f"cannot be read ({reason})", fix=fix)) from error


def _dataset(source: Source) -> Any:
    from datasets import load_dataset  # a second of import time that reading files should not pay

    with reading_dataset(source):
        return load_dataset(source.path, source.name, split=source.split, revision=source.revision, streaming=True)


def _hub_slice(source: Source, part: Slice, check: RowCheck) -> Iterator[Batch]:
    dataset = _dataset(source)
    number = 1
    with reading_dataset(source):
        shard = dataset.shard(num_shards=dataset.num_shards, index=part.first)
        for batch in shard.iter(batch_size=_HUB_BATCH):
            check.has_column(list(batch))
            values = batch[source.text_column]
            yield list(check.texts(enumerate(values, number))), 0.0
            number += len(values)


def _is_pattern(path: str) -> bool:
    return any(character in path for character in "*?[")


def _matches(path: str, exists: Callable[[str], bool], match: Callable[[str], list[str]]) -> list[str]:
    """What a pattern matches; the longest part of it that exists as it is written is meant as it is written.

    Raises DataError where the brackets in that part, read as a pattern, match something else.
    """
    parts = path.split("/")
    leading = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    literal = next((part for part in leading if _is_pattern(part) and exists(part)), "")
    found = match(glob.escape(literal) + path.removeprefix(literal))
    if literal and (others := match(path)) and others != found:
        wrong = f"is ambiguous: {literal!r} exists, and as a pattern it means {others[0]!r}"
        raise DataError(Problem(repr(path), wrong=wrong, fix="rename one of them"))
    return found


def _remote_listing(url: str) -> list[tuple[str, int, str]]:
    filesystem, path = open_filesystem(url)
    known: dict[str, dict[str, Any]] = {}

    def match(pattern: str) -> list[str]:
        found = filesystem.glob(pattern, detail=True)
        known.update(found)
        return sorted(found)

    try:
        if _is_pattern(path) and not url.startswith(("http://", "https://")):
            infos = [known[name] for name in _matches(path, filesystem.exists, match)]
        else:
            infos = [filesystem.info(path)]
    except FileNotFoundError as error:
        # HTTP's driver says this of every failure
        status = getattr(error.__cause__, "status", 404)
        if status in (401, 403):
            raise PermissionError(f"the server answers {status} to these credentials: {where_to_keep(url)}") from error
        if status not in (404, 410):
            raise ConnectionError(str(error.__cause__)) from error
        infos = []
    files = [info for info in infos if info["type"] == "file"]
    return sorted(
        (
            public_url(filesystem, info["name"]),
            int(info.get("size") or 0),
            str(info.get("ETag") or info.get("etag") or "").strip('"'),
        )
        for info in files
    )
