"""The plan of a prepared folder: its settings, sources and units, kept so that interrupted work is found again."""

import json
from dataclasses import dataclass
from typing import Any

import yaml

from ..errors import DataError
from ..folder import MANIFEST_FILE, WORK_FOLDER
from ..shards import Manifest
from .merge import read_manifest, write_json
from .sources import CorpusConfig
from .store import Store
from .units import Unit, plan_units

CONFIG_FILE = "config.yaml"
_PLAN_FILE = f"{WORK_FOLDER}/plan.json"
_MEND = "choose another output, or remove it"


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
        before = json.loads(store.read(_PLAN_FILE))
        _compare(store, before["settings"], settings, before["source"], source, "holds unfinished work")
        return Plan(settings, source, [Unit.from_json(unit) for unit in before["units"]])
    if found - {WORK_FOLDER} or store.is_file():
        raise DataError(f"output: {store.url} exists and was not written by `acn prepare`: {_MEND}")
    units = plan_units(corpus, unit_bytes)
    content = {"settings": settings, "source": source, "units": [unit.to_json() for unit in units]}
    write_json(store, _PLAN_FILE, content)
    return Plan(settings, source, units)


def finished_manifest(store: Store, settings: dict[str, Any], corpus: CorpusConfig) -> Manifest | None:
    """The manifest of an output that needs no work, None where there is work to do.

    Raises DataError for an output that was prepared with other settings or from other files.
    """
    found = store.names()
    if MANIFEST_FILE not in found:
        return None
    if CONFIG_FILE not in found:
        raise DataError(f"output: {store.url} exists and was not written by `acn prepare`: {_MEND}")
    before = yaml.safe_load(store.read(CONFIG_FILE)) or {}
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
        raise DataError(f"output: {store.url} {state} with other settings of {', '.join(changed)}: {_MEND}")
    if source_before != source:
        raise DataError(f"output: {store.url} was prepared from other versions of the corpus files: {_MEND}")
