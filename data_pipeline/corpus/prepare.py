"""`acn prepare`: raw text becomes a tokenizer, token shards and a manifest."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from ..errors import DataError, UnfinishedError
from ..folder import MANIFEST_FILE, TOKENIZER_FOLDER, WORK_FOLDER
from ..hub import find_model
from ..shards import Manifest
from ..tokenizer import Vocabulary, load_tokenizer, save_tokenizer, train_tokenizer, vocabulary_of
from .config import PrepareConfig
from .job import SPLITS, Job, finished_units
from .merge import merge_units, report_lines
from .pool import do_units
from .progress import Progress, Say, Stages
from .selection import unit_duplicates, used_documents, write_duplicates
from .sources import CorpusConfig, no_documents
from .store import Store, write_json
from .units import CONFIG_FILE, Plan, Unit, finished_manifest, open_plan

_TOKENIZER_RECORD = f"{WORK_FOLDER}/tokenizer.json"
_OURS = (MANIFEST_FILE, CONFIG_FILE, TOKENIZER_FOLDER, *SPLITS, WORK_FOLDER)
"""All that is written into an output."""


@dataclass
class _TokenizerRecord:
    """What is kept of the tokenizer while the corpus is being prepared."""

    vocabulary: Vocabulary
    about: dict[str, Any]
    """Where it came from."""


def prepare_corpus(config: PrepareConfig, say: Say = print) -> Manifest | None:
    """Write a prepared folder and return its manifest; None after one part of several.

    Work that is finished stays in `output` when the process is interrupted or killed, and the same configuration goes
    on from there, with any number of workers. The manifest is written last. A mistake in the settings or the text
    leaves nothing behind. A folder that the same configuration has already made from the same files is returned as
    it is. Raises DataError for whatever is wrong with the settings, the text, the tokenizer or the output, and its
    UnfinishedError when the network or a worker failed and the same command may go on.
    """
    problems = config.problems()
    if problems:
        raise DataError(*problems)
    store, corpus = Store(config.output), config.corpus.pinned()
    manifest = _finished(config, corpus, store, say)
    if manifest is not None:
        return manifest
    part = config.part if config.part is not None and config.part != "merge" else ""
    with store.held(part):
        # again: another job may have finished in this moment
        manifest = _finished(config, corpus, store, say) or _work(config, corpus, store, say)
    if manifest is None:
        say(f"part {config.part} is done: when all parts are, run the same with --part merge")
    return manifest


def _finished(config: PrepareConfig, corpus: CorpusConfig, store: Store, say: Say) -> Manifest | None:
    """The manifest of an output that needs no work."""
    manifest = finished_manifest(store, config.settings(), corpus)
    if manifest is not None:
        store.remove(WORK_FOLDER)  # the process was killed between its last two acts
        say(f"{config.output} is already prepared with this configuration: nothing to do")
    return manifest


def _work(config: PrepareConfig, corpus: CorpusConfig, store: Store, say: Say) -> Manifest | None:
    """Make the output, or a part of it, from nothing or from what is there; the manifest, None after a part."""
    is_new, is_shared = not store.names(), config.part is not None
    others_work: Callable[[], bool] = lambda: False  # noqa: E731

    def keep(error: BaseException) -> bool:
        has_work = bool(finished_units(store)) or store.size(_TOKENIZER_RECORD) is not None
        is_mistake = isinstance(error, DataError) and not isinstance(error, UnfinishedError)
        return not is_new or is_shared or others_work() or (has_work and not is_mistake)

    with store.removed_on_error(_OURS, unless=keep):
        plan = open_plan(store, config.settings(), corpus, int(config.unit_mb * 1e6))
        with store.announced() as others_work:
            manifest = _write(config, corpus, plan, store, say)
    if manifest is not None:
        for line in report_lines(manifest.statistics, manifest.splits, manifest.seq_length):
            say(line)
        say(f"prepared corpus: {config.output}")
    return manifest


def _write(config: PrepareConfig, corpus: CorpusConfig, plan: Plan, store: Store, say: Say) -> Manifest | None:
    """Do what is left to do: duplicates, tokenizer, units, and the merge unless this is one part of several."""
    job = Job(
        config.output, corpus, config.seq_length, config.row_group_blocks, config.shard_row_groups, config.packing
    )
    if config.part != "merge":
        if corpus.deduplicate:
            _find_duplicates(config, job, plan.units, store, say)
        vocabulary, about = _tokenizer(config, corpus, plan.units, store, say)
        done = finished_units(store)
        if done:
            say(f"going on: {len(done)} of {len(plan.units)} units of work are done")
        todo = [unit for unit in _not_in(plan.units, done) if config.is_mine(unit.number)]
        with Progress("encoding", {unit.number: unit.bytes for unit in todo}, say) as progress:
            do_units(job, vocabulary, todo, config.workers, progress)
        if config.part is not None:
            return None
    else:
        vocabulary, about = _tokenizer_record(store)
    manifest = merge_units(job, store, plan.units, vocabulary, plan.source, about)
    written = {"output": config.output, **config.settings()}
    store.write(CONFIG_FILE, yaml.safe_dump(written, sort_keys=False).encode())
    store.write(MANIFEST_FILE, manifest.to_bytes())
    store.remove(WORK_FOLDER)
    return manifest


def _not_in(units: list[Unit], numbers: set[int]) -> list[Unit]:
    return [unit for unit in units if unit.number not in numbers]


def _find_duplicates(config: PrepareConfig, job: Job, units: list[Unit], store: Store, say: Say) -> None:
    """Hash all documents and write which are duplicates, unless that is done.

    Every part needs all hashes. Each begins with its own units and goes on with what others have not done yet, so
    parts may run at once, one after the other, or not all.
    """
    originals = [unit for unit in units if unit.copy == 0]
    if {f"{unit.number:05d}.npy" for unit in originals} <= store.names(f"{WORK_FOLDER}/duplicates"):
        return
    with Progress("hashing", {unit.number: unit.bytes for unit in originals}, say) as progress:
        while True:
            there = {int(name[:5]) for name in store.names(f"{WORK_FOLDER}/hashes") if name.endswith(".npy")}
            todo = sorted(_not_in(originals, there), key=lambda unit: (not config.is_mine(unit.number), unit.number))
            if not todo:
                break
            mine = [unit for unit in todo if config.is_mine(unit.number)]
            do_units(job, None, mine or todo[: config.workers], config.workers, progress)
    write_duplicates(store, units)


def _tokenizer(
    config: PrepareConfig, corpus: CorpusConfig, units: list[Unit], store: Store, say: Say
) -> tuple[Vocabulary, dict[str, Any]]:
    """The vocabulary, and where it came from; loads or trains and writes the tokenizer unless that is done."""
    if store.size(_TOKENIZER_RECORD) is not None:
        return _tokenizer_record(store)
    if config.tokenizer is not None:
        tokenizer = load_tokenizer(config.tokenizer)
        say(f"tokenizer: {config.tokenizer}, {len(tokenizer):,} entries")
        about: dict[str, Any] = {"loaded_from": find_model(config.tokenizer, "tokenizer", weights=False).name}
    else:
        sample, about = _sample(config, corpus, units, store)
        kind = "WordPiece" if config.tokenizer_kind == "wordpiece" else "byte-level BPE"
        megabytes = f"{about['sample']['megabytes']:.1f}"
        say(f"tokenizer: training a {kind} of at most {config.vocab_size:,} entries on {megabytes} MB of text")
        with Stages("tokenizer", say) as stages:
            tokenizer = train_tokenizer(
                sample, config.vocab_size, config.seq_length, config.tokenizer_kind, stages.tell
            )
    vocabulary = vocabulary_of(tokenizer)
    with store.scratch() as folder:
        save_tokenizer(tokenizer, folder)
        for file in sorted(folder.iterdir()):
            store.put(file, f"{TOKENIZER_FOLDER}/{file.name}")
    write_json(store, _TOKENIZER_RECORD, asdict(_TokenizerRecord(vocabulary, about)))
    return vocabulary, about


def _tokenizer_record(store: Store) -> tuple[Vocabulary, dict[str, Any]]:
    try:
        record = store.read_record(_TokenizerRecord, _TOKENIZER_RECORD)
    except FileNotFoundError as error:
        raise DataError(f"part: nothing has been done in {store.url} yet: run the parts first") from error
    return record.vocabulary, record.about


def _sample(
    config: PrepareConfig, corpus: CorpusConfig, units: list[Unit], store: Store
) -> tuple[list[str], dict[str, Any]]:
    """The text to train a tokenizer on, and its description for the manifest.

    The first used documents of every training unit, in proportion to the unit's stored size: a mixture is sampled by
    its weights, and no machine has to read the whole corpus.
    """
    training = [unit for unit in units if unit.field == "train"]
    stored = sum(unit.bytes for unit in training)
    sample: list[str] = []
    size = 0
    for unit in training:
        quota, taken = config.tokenizer_sample_mb * 1e6 * unit.bytes / stored, 0
        for text in _training_texts(corpus, unit, store):
            sample.append(text)
            taken += len(text.encode("utf-8", "replace"))
            if taken >= quota:
                break
        size += taken
    if not sample:
        raise no_documents(corpus.sources("train")[0].path)
    rule = "the first documents of every training unit, in proportion to its stored size"
    about = {"megabytes": round(size / 1e6, 3), "documents": len(sample), "units": len(training), "rule": rule}
    return sample, {"sample": about}


def _training_texts(corpus: CorpusConfig, unit: Unit, store: Store) -> Iterator[str]:
    for batch, _ in used_documents(corpus, unit, unit_duplicates(corpus, unit, store), Counter()):
        yield from (text for split, text in batch if split == "train")
