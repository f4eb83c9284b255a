"""Measure the numbers that must not change; `tests/test_golden.py` compares them with those in `tests/golden.json`.

    python -m tests.golden          # rewrites tests/golden.json
    python -m tests.golden FILE     # only measures, into FILE

Rewriting is legitimate when a change is *meant* to change a number, and then in a commit of its own that says which
numbers moved, by how much and why; never in one that moves, renames or speeds up code. Part by part:

- `stream`: never within a format version. Checkpoints hold a sample number only, so another order or other masks would
  resume every existing run in another place of the corpus. `identity` decides whether a run may be resumed at all.
- `prepared`: when the tokenizers library trains other vocabularies, or `acn prepare` is meant to write other blocks.
  The files' own checksums follow pyarrow, whose version stands in every file: another one is reason enough for those.
- `pretraining`, `finetuning`: when a default or the arithmetic is meant to change, or when a new torch draws other
  random numbers. Rounding is no reason: what it may move is within the tolerances of the test.

Everything goes through the command line and the public names of the packages, so that modules may move. What is
measured is the arithmetic of one thread of a CPU, on machines with a GPU too.
"""

import hashlib
import json
import os
import random
import re
import sys
import tempfile
from contextlib import chdir, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from data_pipeline import BlockReader, MaskingConfig, Order, StreamConfig, TokenStream, validation_batches
from launch import cli
from modeling import AcnConfig, AcnForMaskedLM

FILE = Path(__file__).with_name("golden.json")
MARGIN = 0.01
"""Least difference between the two logits of a validation example, at every depth. Other instructions (AVX-512, AVX2,
SSE4.2) were seen to move it by 1e-5 at most, so the scores are the same everywhere."""

UNITS = ("token", "word", "span")
STREAMS = [  # lanes (0 chooses), window, seed, epoch
    (0, 4, 0, 0), (0, 4, 0, 1), (0, 4, 1, 0), (12, 1, 7, 0), (12, 2, 7, 3), (5, 2, 7, 1), (1, 3, 11, 2),
]  # fmt: skip

PREPARE = {
    # several units of work with their tails merged, duplicates, documents held out by their hash
    "wordpiece": [
        "--corpus.train", '["stories.jsonl", {"path": "notes.txt", "weight": 0.7}]', "--vocab_size", "130",
        "--corpus.validation_fraction", "0.15", "--corpus.deduplicate", "true", "--unit_mb", "0.016",
    ],
    "bpe": [
        "--tokenizer_kind", "bpe", "--packing", "documents", "--vocab_size", "560",
        "--corpus.train", '{"path": "stories.jsonl", "weight": 1.3}', "--corpus.validation", "notes.txt",
        "--corpus.cleaning.unicode_form", "NFC", "--corpus.cleaning.min_characters", "40",
    ],
}  # fmt: skip
MANIFEST = ("seq_length", "dtype", "row_group_blocks", "packing", "tokenizer", "splits", "format_version")
SHAPE = ["--seq_length", "32", "--row_group_blocks", "16", "--shard_row_groups", "4"]

PRETRAIN = {
    "acn": ["--data", "wordpiece"],
    "residual, dropout, whole documents": [
        "--data", "bpe", "--model.connectivity", "residual", "--model.hidden_dropout_prob", "0.1",
        "--model.attention_probs_dropout_prob", "0.1",
    ],
}  # fmt: skip
TINY = [
    "--model.hidden_size", "16", "--model.num_hidden_layers", "3", "--model.num_attention_heads", "2",
    "--model.intermediate_size", "24", "--model.max_position_embeddings", "32", "--model.initializer_range", "0.1",
    "--steps", "6", "--global_batch_size", "16", "--micro_batch_size", "4", "--optim.lr", "0.01", "--seed", "3",
    "--stream.seed", "5", "--log_every", "1", "--validation.every", "3", "--validation.blocks", "10",
    "--checkpoint.every", "0", "--nproc_per_node", "2", "--zero_stage", "1", "--precision", "fp32",
    "--tracking.mlflow", "null",
]  # fmt: skip
CURVES = re.compile(r"train/(loss|gradient_norm|learning_rate|tokens)|validation/loss_depth_\d+")

TASK = "tone"
FINETUNE = [
    "--tasks", TASK, "--glue_dir", "tasks", "--seed", "17", "--epochs", "6", "--learning_rate", "0.001",
    "--batch_size", "16", "--precision", "fp32", "--speed", "false", "--predict_test", "false",
    "--tracking.mlflow", "null",
]  # fmt: skip
RESULTS = (
    "metric", "depth_scores", "full_score", "cut_depth", "majority_score", "standard_error", "params_by_depth",
    "flops_by_depth", "seq_length",
)  # fmt: skip
TRAINING = ("learning_rate", "weight_decay", "warmup_fraction", "samples", "steps", "mean_loss")

SYLLABLES = ["ba", "ke", "lo", "mi", "ru", "sta", "ven", "dor", "hil"]
WORDS = ["the", "of", "a", "in", "and", "Café", "naïve", "[MASK]", "don't", "x-ray", "1984"]
WORDS += [first + second for first in SYLLABLES for second in SYLLABLES]
GOOD, BAD, FILLER = ["bake", "milo", "ruke"], ["kelo", "baru", "loba"], ["the", "a", "in", "baba", "kemi", "and"]


def measure(folder: Path) -> dict[str, Any]:
    """All numbers, as JSON values; works in `folder`, which must be empty."""
    with chdir(folder):
        _write_corpus()
        for name, options in PREPARE.items():
            _acn("prepare", *options, *SHAPE, "--output", name)
        return {
            "environment": environment(),
            "stream": {
                "order": [_order("wordpiece", *case) for case in STREAMS],
                "order_of_many_blocks": _order_of_many_blocks(),
                "masks": {f"{name}, {unit}": _masks(name, unit) for name in PREPARE for unit in UNITS},
                "validation_masks": {name: _validation_masks(name) for name in PREPARE},
                "identity": {name: _identity(name) for name in PREPARE},
            },
            "prepared": {name: _prepared(name) for name in PREPARE},
            "pretraining": {name: _pretrain(options) for name, options in PRETRAIN.items()},
            "finetuning": _finetune(),
        }


def environment() -> dict[str, Any]:
    """What the bytes of Parquet files depend on besides the program; the rest is for people to read."""
    return {
        "parquet": {"pyarrow": version("pyarrow"), "zstd_level": pa.Codec.default_compression_level("zstd")},
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "deepspeed")},
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _acn(*arguments: str) -> None:
    """`acn ARGUMENTS` in this process, which saves starting one for every verb."""
    if code := cli.main(list(arguments)):
        raise RuntimeError(f"acn {' '.join(arguments)} ended with exit code {code}")


def _write_corpus() -> None:
    stories = _documents(220, seed=1)
    rows = [{"text": text} for text in (*stories, "", *stories[:6])]  # the last are duplicates
    Path("stories.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    notes = [*_documents(60, seed=2), "The ☃ is rarer than the characters that a WordPiece spells."]
    Path("notes.txt").write_text("\n\n".join(notes) + "\n", encoding="utf-8")


def _documents(count: int, seed: int) -> list[str]:
    """Text from `choices` alone, which gives the same in every version of Python."""
    draw = random.Random(seed)
    frequencies = [1 / (rank + 2) for rank in range(len(WORDS))]
    lengths = draw.choices(range(3, 60), k=count)
    return [" ".join(draw.choices(WORDS, frequencies, k=length)).capitalize() + "." for length in lengths]


# the stream


def _order(folder: str, lanes: int, window: int, seed: int, epoch: int) -> dict[str, Any]:
    """Ids of an epoch's first blocks, found by their tokens in what the stream deals."""
    stream = TokenStream(folder, StreamConfig(lanes=lanes, window=window, seed=seed), MaskingConfig())
    blocks = BlockReader(folder, "train").read(np.arange(stream.blocks))
    numbers = {block.tobytes(): number for number, block in enumerate(blocks)}
    assert len(numbers) == len(blocks), "two blocks hold the same tokens and cannot be told apart"
    with closing(stream.micro_batches(epoch * stream.blocks, 24)) as batches:
        batch = next(batches)
    tokens = batch.input_ids.clone()
    tokens.scatter_(1, batch.masked_positions, batch.labels)
    dealt = [numbers[block.tobytes()] for block in tokens.numpy().astype(blocks.dtype)]
    return {"lanes": stream.lanes, "window": window, "seed": seed, "epoch": epoch, "blocks": dealt}


def _order_of_many_blocks() -> dict[str, list[int]]:
    """The same for ten trillion tokens, where the permutation of the row groups walks its cycles."""
    blocks = 80_000_000_123
    order = Order(blocks, 960, 4, 3, 512)
    return {f"epoch {epoch}": order.locate(epoch * blocks + np.arange(6)).tolist() for epoch in (0, 1, 4)}


def _masks(folder: str, unit: Any) -> list[dict[str, Any]]:
    stream = TokenStream(folder, StreamConfig(seed=9), MaskingConfig(unit=unit))
    with closing(stream.micro_batches(1018, 3)) as batches:
        return _describe(next(batches))


def _validation_masks(folder: str) -> list[dict[str, Any]]:
    return _describe(next(iter(validation_batches(folder, MaskingConfig(), batch_size=2, max_blocks=2, seed=9))))


def _describe(batch: Any) -> list[dict[str, Any]]:
    seen = batch.input_ids.gather(1, batch.masked_positions)
    columns = {"positions": batch.masked_positions, "labels": batch.labels, "seen": seen}
    return [
        {"sample": int(sample), **{name: values[row].tolist() for name, values in columns.items()}}
        for row, sample in enumerate(batch.samples)
    ]


def _identity(folder: str) -> dict[str, Any]:
    """Without the corpus, which is the checksum of the shards' own checksums."""
    identity = TokenStream(folder, StreamConfig(seed=9), MaskingConfig()).identity()
    return {name: value for name, value in identity.items() if name != "corpus"}


# what `acn prepare` writes


def _prepared(folder: str) -> dict[str, Any]:
    manifest = json.loads(Path(folder, "manifest.json").read_text())
    shards = [
        _shard(Path(folder), split, shard)
        for split, described in manifest["splits"].items()
        for shard in _with_first_block(described.pop("shards"))
    ]
    vocabulary = AutoTokenizer.from_pretrained(f"{folder}/tokenizer").get_vocab()
    return {
        "manifest": {name: manifest[name] for name in MANIFEST} | {"sources": manifest["statistics"]["sources"]},
        "vocabulary": _sha256(json.dumps(sorted(vocabulary.items(), key=lambda item: item[1])).encode()),
        "shards": shards,
    }


def _with_first_block(shards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ends = np.cumsum([shard["blocks"] for shard in shards])
    return [{**shard, "first": int(end) - shard["blocks"]} for shard, end in zip(shards, ends, strict=True)]


def _shard(folder: Path, split: str, shard: dict[str, Any]) -> dict[str, Any]:
    """A shard's content, ids of its blocks in order as little-endian 32-bit integers, apart from how it is stored."""
    blocks = BlockReader(folder, split).read(shard["first"] + np.arange(shard["blocks"]))
    path = folder / shard["file"]
    checksum = _sha256(path.read_bytes())
    assert checksum == shard["sha256"], f"the manifest has another checksum of {path}"
    metadata = pq.read_metadata(path)
    return {
        "file": shard["file"],
        "content": _sha256(blocks.astype("<u4").tobytes()),
        "row_groups": [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)],
        "compression": metadata.row_group(0).column(0).compression,
        "sha256": checksum,
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# the models


def _pretrain(options: list[str]) -> dict[str, list[float]]:
    """The curves of a run, value by value in the order of the steps."""
    with tempfile.TemporaryDirectory(dir=".") as output:
        _acn("pretrain", *options, *TINY, "--output", output)
        records = [json.loads(line) for line in Path(output, "metrics.jsonl").read_text().splitlines()]
    curves: dict[str, list[float]] = {}
    for record in records:
        for name in filter(CURVES.fullmatch, record):
            curves.setdefault(name, []).append(record[name])
    return curves


def _finetune() -> dict[str, Any]:
    """What results.json says of a fine-tuning from random weights, and how sure the model is of its answers."""
    _write_task()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained("wordpiece/tokenizer")
    config = AcnConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    AcnForMaskedLM(config).save_pretrained("random")
    tokenizer.save_pretrained("random")
    _acn("glue", "--model", "random", *FINETUNE, "--output", "tuned")
    results = json.loads(Path("tuned", TASK, "results.json").read_text())
    return {
        **{name: results[name] for name in RESULTS},
        "train": {name: results["train"][name] for name in TRAINING},
        "margins": _margins(Path("tuned", TASK)),
    }


def _write_task() -> None:
    """Three good words and a bad one, or the other way round? Each layer more gets some more of the sentences right."""
    draw = random.Random(4)
    for split, size in (("train", 320), ("validation", 80)):
        sentences, labels = [], draw.choices((0, 1), k=size)
        for label, length in zip(labels, draw.choices(range(2, 6), k=size), strict=True):
            many, few = (GOOD, BAD) if label else (BAD, GOOD)
            words = draw.choices(FILLER, k=length) + draw.choices(many, k=3) + draw.choices(few, k=1)
            places = draw.choices(range(1 << 30), k=len(words))
            sentences.append(" ".join(word for _, word in sorted(zip(places, words, strict=True))))
        Path("tasks", TASK).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"sentence": sentences, "label": labels}), f"tasks/{TASK}/{split}.parquet")


@torch.no_grad()
def _margins(folder: Path) -> list[float]:
    """By depth, the least difference of an example's two largest logits."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    sentences = pq.read_table(f"tasks/{TASK}/validation.parquet").column("sentence").to_pylist()
    batch = AutoTokenizer.from_pretrained(folder)(sentences, return_tensors="pt", padding=True)
    return [float(-logits.topk(2).values.diff().max()) for logits in model.depth_logits(**batch)]


def _to_text(numbers: dict[str, Any]) -> str:
    """JSON with every innermost list on one line."""
    text = json.dumps(numbers, indent=1, ensure_ascii=False)
    return re.sub(r"\[\s+([^\[\]{}]*)\]", lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"


def main() -> None:
    """Measure in a folder that is removed afterwards, and write."""
    for name in [name for name in os.environ if name.startswith("ACN_")]:
        del os.environ[name]  # these would be options
    # the ranks inherit these; nothing here compiles, and dynamo off saves each of them a second of imports
    os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", DS_ACCELERATOR="cpu", TORCHDYNAMO_DISABLE="1")
    torch.set_num_threads(1)
    target = Path(sys.argv[1] if sys.argv[1:] else FILE).resolve()
    with tempfile.TemporaryDirectory() as folder:
        numbers = measure(Path(folder))
    if target == FILE and (least := min(numbers["finetuning"]["margins"])) < MARGIN:
        raise SystemExit(f"an example lies within {least:.1g} of the border between two classes: change the task")
    target.write_text(_to_text(numbers), encoding="utf-8")


if __name__ == "__main__":
    main()
