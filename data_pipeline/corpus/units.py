"""Units of work: what a corpus is cut into, whatever the number of workers and machines.

A unit is some slices of one source, about `target` stored bytes of them; a source with a weight above 1 has its units
once per copy. The cuts depend on the files alone, and every unit is read, tokenized and packed by itself, so who does
it, and when, cannot be seen in the result. The plan of a prepared folder, its settings, sources and units, is kept
there so that interrupted work is found again.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import DataError
from ..folder import MANIFEST_FILE, WORK_FOLDER
from ..records import parse_yaml
from ..shards import Manifest
from .formats import Slice, cut_file
from .sources import CorpusConfig, Source
from .store import DAMAGED_FIX, Store, read_manifest, write_json

_UNITS = 256  # aimed at in a large corpus: enough for many workers, few enough to keep their tails short
_SMALLEST, _LARGEST = 4 << 20, 256 << 20  # bytes

CONFIG_FILE = "config.yaml"
_PLAN_FILE = f"{WORK_FOLDER}/plan.json"
_FIX = "choose another output, or remove it"


@dataclass(frozen=True)
class Unit:
    """Slices of one source that are read one after the other."""

    number: int
    field: str
    """"train" or "validation": the field of the corpus configuration."""
    source: int
    """Which source of that field."""
    slices: list[Slice]
    copy: int = 0
    """Which time the source's documents are used; above 0 only for weights above 1."""
    original: int = 0
    """Number of the unit with copy 0 of the same slices."""

    @property
    def bytes(self) -> int:
        """Stored size, at least 1."""
        return max(sum(part.bytes for part in self.slices), 1)


def plan_units(corpus: CorpusConfig, unit_bytes: int) -> list[Unit]:
    """Cut a corpus into units of about `unit_bytes`; 0 aims at 256 units of 4 to 256 MiB. Reads no text."""
    sources = [(name, number, source) for name in ("train", "validation") for number, source in _numbered(corpus, name)]
    whole = [source.slices() for _, _, source in sources]
    total = sum(part.bytes for slices in whole for part in slices)
    target = unit_bytes or min(max(total // _UNITS, _SMALLEST), _LARGEST)
    units: list[Unit] = []
    for (name, number, source), slices in zip(sources, whole, strict=True):
        parts = slices if source.is_hub else [cut for part in slices for cut in cut_file(part.file, part.bytes, target)]
        groups = [[part] for part in parts] if source.is_hub else list(_grouped(parts, target))
        first = len(units)
        for copy in range(max(1, math.ceil(source.weight))):
            for index, group in enumerate(groups):
                units.append(Unit(len(units), name, number, group, copy, first + index))
    return units


def _numbered(corpus: CorpusConfig, name: str) -> list[tuple[int, Source]]:
    return list(enumerate(corpus.sources(name)))


def _grouped(parts: list[Slice], target: int) -> Iterator[list[Slice]]:
    """Consecutive slices together as long as they stay within the target."""
    group: list[Slice] = []
    for part in parts:
        if group and sum(held.bytes for held in group) + part.bytes > target:
            yield group
            group = []
        group.append(part)
    if group:
        yield group


@dataclass
class Plan:
    """What is to be done."""

    settings: dict[str, Any]
    """The configuration, without what does not change the result."""
    source: dict[str, Any]
    """The sources with their files, as the manifest describes them."""
    units: list[Unit]


def source_description(corpus: CorpusConfig) -> dict[str, Any]:
    """Where the text comes from, per field of the corpus configuration."""
    return {name: [source.describe() for source in corpus.sources(name)] for name in ("train", "validation")}


def open_plan(store: Store, settings: dict[str, Any], corpus: CorpusConfig, unit_bytes: int) -> Plan:
    """The plan an earlier run left in the store, or a new one, written there.

    Raises DataError when the store holds something else, or the plan of other settings or corpus files.
    """
    source = source_description(corpus)
    found = store.names()
    if WORK_FOLDER in found and store.size(_PLAN_FILE) is not None:
        before = store.read_record(Plan, _PLAN_FILE)
        _compare(store, before.settings, settings, before.source, source, "holds unfinished work")
        return before
    if found - {WORK_FOLDER} or store.is_file():
        raise DataError(f"output: {store.url} exists and was not written by `acn prepare`: {_FIX}")
    plan = Plan(settings, source, plan_units(corpus, unit_bytes))
    write_json(store, _PLAN_FILE, asdict(plan))
    return plan


def finished_manifest(store: Store, settings: dict[str, Any], corpus: CorpusConfig) -> Manifest | None:
    """The manifest of an output that needs no work, None where there is work to do.

    Raises DataError for an output that was prepared with other settings or from other files.
    """
    found = store.names()
    if MANIFEST_FILE not in found:
        return None
    if CONFIG_FILE not in found:
        raise DataError(f"output: {store.url} exists and was not written by `acn prepare`: {_FIX}")
    before = parse_yaml(store.read(CONFIG_FILE), f"{store.url}/{CONFIG_FILE}", fix=DAMAGED_FIX)
    manifest = read_manifest(store)
    _compare(store, before, settings, manifest.source, source_description(corpus), "exists")
    return manifest


def _compare(
    store: Store,
    before: dict[str, Any],
    now: dict[str, Any],
    source_before: dict[str, Any],
    source: dict[str, Any],
    state: str,
) -> None:
    changed = [key for key in now if now[key] != before.get(key)]
    if changed:
        raise DataError(f"output: {store.url} {state} with other settings of {', '.join(changed)}: {_FIX}")
    if source_before != source:
        raise DataError(f"output: {store.url} was prepared from other versions of the corpus files: {_FIX}")
