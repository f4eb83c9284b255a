"""`acn prepare`: raw text becomes a tokenizer, token shards and a manifest."""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.status import Status

from data_pipeline.errors import DataError
from data_pipeline.packing import BlockPacker
from data_pipeline.shards import MANIFEST_FILE, TOKENIZER_FOLDER, Manifest, ShardWriter, dtype_for
from data_pipeline.sources import CorpusConfig
from data_pipeline.tokenizer import load_tokenizer, train_tokenizer, vocabulary_of

CONFIG_FILE = "config.yaml"
_BATCH_BYTES = 1 << 20  # text encoded at once
_BATCH_DOCUMENTS = 4096
_REPORT_SECONDS = 5.0

Say = Callable[[str], None]


@dataclass
class PrepareConfig:
    """Turn raw text into a folder of token shards."""

    corpus: CorpusConfig
    """The text."""
    output: str
    """Folder to write; it must not exist yet."""
    vocab_size: int = 32768
    """Most entries of the vocabulary to train; a small corpus gives fewer. Not used when `tokenizer` is given."""
    seq_length: int = 128
    """Tokens per block, [CLS] and [SEP] included."""
    tokenizer: str | None = None
    """Existing tokenizer: a Hugging Face folder or Hub name. Without it, a lower-casing WordPiece is trained."""
    tokenizer_sample_mb: float = 100.0
    """Megabytes of training text, from its beginning, that the vocabulary is trained on."""
    row_group_blocks: int = 512
    """Blocks per Parquet row group, the unit that is read and shuffled."""
    shard_row_groups: int = 64
    """Row groups per shard file."""

    def problems(self) -> list[str]:
        """Every problem of these settings, missing files included, each naming the field and the mend."""
        least = {"vocab_size": 64, "seq_length": 8, "row_group_blocks": 1, "shard_row_groups": 1}
        found = [
            f"{name}={getattr(self, name)} must be at least {minimum}"
            for name, minimum in least.items()
            if getattr(self, name) < minimum
        ]
        if self.tokenizer_sample_mb <= 0:
            found.append(f"tokenizer_sample_mb={self.tokenizer_sample_mb} must be above 0")
        if not self.output:
            found.append("output is empty: name a folder to write")
        return found + self.corpus.problems()


def prepare(config: PrepareConfig, say: Say = print) -> Manifest:
    """Write a prepared folder and return its manifest.

    Everything is written beside `config.output` and renamed at the end: an interrupted run leaves nothing. A
    folder that the same configuration has already made from the same files is returned as it is. Raises DataError
    for whatever is wrong with the settings, the text, the tokenizer or the output folder.
    """
    problems = config.problems()
    if problems:
        raise DataError("\n".join(problems))
    output = Path(config.output)
    source = {field: [part.describe() for part in config.corpus.sources(field)] for field in ("train", "validation")}
    if output.exists() or output.is_symlink():
        manifest = _finished(config, source)
        say(f"{output} is already prepared with this configuration: nothing to do")
        return manifest
    aside = output.with_name(f".{output.name}.partial-{uuid.uuid4().hex[:8]}")
    new_parents = [parent for parent in output.parents if not parent.exists()]
    try:
        try:
            aside.mkdir(parents=True)
        except OSError as error:
            raise DataError(f"output: {output} cannot be written ({error.strerror}): choose another folder") from error
        manifest = _write(config, source, aside, say)
        os.rename(aside, output)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(aside, ignore_errors=True)
        for parent in new_parents:
            with suppress(OSError):
                parent.rmdir()
        raise
    for name, split in manifest.splits.items():
        say(
            f"{name}: {split.blocks:,} blocks of {config.seq_length} = {split.tokens:,} tokens "
            f"from {split.documents:,} documents ({split.tokens_dropped} tokens dropped at the end)"
        )
    say(f"prepared corpus: {output}")
    return manifest


def _finished(config: PrepareConfig, source: dict[str, Any]) -> Manifest:
    """The manifest of an output folder that needs no work; DataError for any other folder."""
    output = Path(config.output)
    mend = "choose another output, or remove it"
    if not (output / MANIFEST_FILE).is_file() or not (output / CONFIG_FILE).is_file():
        raise DataError(f"output: {output} exists and was not written by `acn prepare`: {mend}")
    before = yaml.safe_load((output / CONFIG_FILE).read_text(encoding="utf-8"))
    now = asdict(config)
    changed = [key for key in now if key != "output" and now[key] != (before or {}).get(key)]
    if changed:
        raise DataError(f"output: {output} exists with other settings of {', '.join(changed)}: {mend}")
    manifest = Manifest.load(output)
    if manifest.source != source:
        raise DataError(f"output: {output} was prepared from other versions of the corpus files: {mend}")
    return manifest


def _write(config: PrepareConfig, source: dict[str, Any], folder: Path, say: Say) -> Manifest:
    """Write everything into `folder`, the manifest last."""
    tokenizer = _tokenizer(config, say)
    tokenizer.save_pretrained(folder / TOKENIZER_FOLDER)
    vocabulary = vocabulary_of(tokenizer)
    dtype = dtype_for(vocabulary.vocab_size)
    packers = {
        split: BlockPacker(
            ShardWriter(folder, split, config.seq_length, dtype, config.row_group_blocks, config.shard_row_groups),
            vocabulary,
            config.seq_length,
            config.row_group_blocks,
            dtype,
        )
        for split in ("train", "validation")
    }
    _encode(config.corpus, tokenizer, packers, say)
    splits = {name: packer.finish() for name, packer in packers.items()}
    for name, split in splits.items():
        if not split.blocks:
            mend = "set corpus.validation_fraction higher" if name == "validation" else "lower seq_length"
            raise DataError(
                f"corpus: the {name} text ({split.documents} documents, {split.tokens_dropped} tokens) does not "
                f"fill one block of {config.seq_length}: give more text, or {mend}"
            )
    manifest = Manifest(
        seq_length=config.seq_length,
        dtype=dtype,
        row_group_blocks=config.row_group_blocks,
        tokenizer=vocabulary,
        source=source,
        splits=splits,
    )
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(asdict(config), sort_keys=False), encoding="utf-8")
    manifest.save(folder)
    return manifest


def _tokenizer(config: PrepareConfig, say: Say) -> Any:
    if config.tokenizer is not None:
        tokenizer = load_tokenizer(config.tokenizer)
        say(f"tokenizer: {config.tokenizer}, {len(tokenizer):,} entries")
        return tokenizer
    sample, size = [], 0.0
    for split, text in config.corpus.documents():
        if split == "validation":
            if config.corpus.validation is not None:
                break  # the training text is over
            continue
        sample.append(text)
        size += len(text.encode("utf-8", "replace")) / 1e6
        if size >= config.tokenizer_sample_mb:
            break
    say(f"tokenizer: training a WordPiece of at most {config.vocab_size:,} entries on {size:.1f} MB of text")
    tokenizer = train_tokenizer(sample, config.vocab_size, config.seq_length)
    if len(tokenizer) < config.vocab_size:
        say(f"tokenizer: the text gives {len(tokenizer):,} entries, fewer than vocab_size={config.vocab_size:,}")
    return tokenizer


def _encode(corpus: CorpusConfig, tokenizer: Any, packers: dict[str, BlockPacker], say: Say) -> None:
    """Stream all documents through the tokenizer into the packers."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True  # a "[MASK]" in someone's text is text
    documents, size = 0, 0.0
    with _progress(say) as report:
        for batch in _batches(corpus.documents()):
            texts = [text for _, text in batch]
            encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
            for split, packer in packers.items():
                packer.add(
                    [encoding.ids for (part, _), encoding in zip(batch, encodings, strict=True) if part == split]
                )
            documents += len(batch)
            size += sum(map(len, texts)) / 1e6
            report(documents, size, sum(packer.ids for packer in packers.values()))


def _batches(documents: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Lists of consecutive documents, about a megabyte each."""
    while first := next(documents, None):
        batch, size = [first], len(first[1])
        while len(batch) < _BATCH_DOCUMENTS and size < _BATCH_BYTES and (more := next(documents, None)):
            batch.append(more)
            size += len(more[1])
        yield batch


@contextmanager
def _progress(say: Say) -> Iterator[Callable[[int, float, int], None]]:
    """Report documents, megabytes (millions of characters) and tokens: a live line on a terminal, else now and then."""
    began = said = time.monotonic()
    console = Console(stderr=True)

    def line(documents: int, size: float, tokens: int) -> str:
        speed = size / max(time.monotonic() - began, 1e-9)
        return f"encoding: {documents:,} documents, {size:,.1f} MB at {speed:.1f} MB/s, {tokens:,} tokens"

    def now_and_then(documents: int, size: float, tokens: int) -> None:
        nonlocal said
        if time.monotonic() - said >= _REPORT_SECONDS:
            said = time.monotonic()
            say(line(documents, size, tokens))

    if not (say is print and console.is_terminal):
        yield now_and_then
        return
    with Status("encoding", console=console) as status:
        yield lambda *counts: status.update(line(*counts))
