"""Noise on the input: typing errors, lost words, wrong tokens, and Gaussian noise on the embeddings.

The strength is the probability that a word (for token_replace: a token) is hit, so that the kinds can be compared; for
embedding noise it is the standard deviation in units of the root mean square of x_0. The draws depend on the seed, the
kind and the example only, and what is hit at one strength is hit at every larger one.
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from statistics import fmean
from typing import Any

import datasets
import numpy as np
import torch

from modeling import AcnForSequenceClassification

from ..progress import Progress
from ..tasks import Task
from .base import Context, Curve, Kind, Point, Study
from .config import NoiseOptions, numbers

LETTERS = "abcdefghijklmnopqrstuvwxyz"
_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# left, right, and the one or two keys above and below, which lie half a key to the side
_AROUND = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, -1), (1, 0))
NEIGHBOURS = {
    key: "".join(
        _KEYBOARD[row + down][col + right]
        for down, right in _AROUND
        if 0 <= row + down < len(_KEYBOARD) and 0 <= col + right < len(_KEYBOARD[row + down])
    )
    for row, keys in enumerate(_KEYBOARD)
    for col, key in enumerate(keys)
}


def _swap(word: str, at: float, which: float) -> str:
    if len(word) < 2:
        return word
    i = int(at * (len(word) - 1))
    return word[:i] + word[i + 1] + word[i] + word[i + 2 :]


def _drop(word: str, at: float, which: float) -> str:
    i = int(at * len(word))
    return word[:i] + word[i + 1 :]


def _insert(word: str, at: float, which: float) -> str:
    i = int(at * (len(word) + 1))
    return word[:i] + LETTERS[int(which * len(LETTERS))] + word[i:]


def _typo(word: str, at: float, which: float) -> str:
    places = [i for i, letter in enumerate(word) if letter.lower() in NEIGHBOURS]
    if not places:
        return word
    i = places[int(at * len(places))]
    keys = NEIGHBOURS[word[i].lower()]
    key = keys[int(which * len(keys))]
    return word[:i] + (key.upper() if word[i].isupper() else key) + word[i + 1 :]


# a word, and two numbers in [0, 1) that say where and what -> the word with one error; "" is a lost word
EDITS: dict[str, Callable[[str, float, float], str]] = {
    "char_swap": _swap,
    "char_drop": _drop,
    "char_insert": _insert,
    "typo": _typo,
    "word_drop": lambda word, at, which: "",
}


def _generator(kind: str, seed: int, example: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), example])


def noisy_text(text: str, kind: str, strength: float, rng: np.random.Generator) -> str:
    """`text` with every word (between white space) hit with probability `strength`; 0 gives `text` itself.

    A text that would lose all its words keeps the first.
    """
    words = text.split()
    hit, at, which = rng.random((3, len(words)))
    if not (hit < strength).any():
        return text
    noisy = [EDITS[kind](word, at[i], which[i]) if hit[i] < strength else word for i, word in enumerate(words)]
    return " ".join(word for word in noisy if word) or words[0]


def noisy_texts(task: Task, data: datasets.Dataset, kind: str, strength: float, seed: int) -> datasets.Dataset:
    """Every text column of `data` under one kind of textual noise; each example has its own draws."""

    columns: dict[str, list[str]] = {column: [] for column in task.columns}
    for example, row in enumerate(data):
        rng = _generator(kind, seed, example)
        for column in task.columns:
            columns[column].append(noisy_text(row[column], kind, strength, rng))
    kept = {name: data[name] for name in data.column_names if name not in columns}
    return datasets.Dataset.from_dict({**columns, **kept})


def replaced_tokens(encoded: datasets.Dataset, tokenizer: Any, strength: float, seed: int) -> datasets.Dataset:
    """Every token that is not special is, with probability `strength`, another one drawn uniformly from those."""
    special = set(tokenizer.all_special_ids)
    ordinary = np.array([i for i in range(len(tokenizer)) if i not in special])
    rows = []
    for example, ids in enumerate(encoded["input_ids"]):
        rng = _generator("token_replace", seed, example)
        tokens = np.array(ids)
        hit = (rng.random(len(tokens)) < strength) & ~np.isin(tokens, list(special))
        rows.append(np.where(hit, rng.choice(ordinary, len(tokens)), tokens).tolist())
    kept = {name: encoded[name] for name in encoded.column_names if name != "input_ids"}
    return datasets.Dataset.from_dict({"input_ids": rows, **kept})


@contextmanager
def noisy_embeddings(model: AcnForSequenceClassification, strength: float, seed: int) -> Iterator[None]:
    """Within the block, x_0 is x_0 + strength * rms(x_0) * N(0, 1), rms over the batch; the same batches get the
    same."""
    generator = torch.Generator().manual_seed(seed)

    def add(module: torch.nn.Module, inputs: Any, x_0: torch.Tensor) -> torch.Tensor:
        # drawn on the processor: a device's generator would make the noise depend on the device
        noise = torch.randn(x_0.shape, generator=generator).to(x_0)
        return x_0 + strength * x_0.square().mean().sqrt() * noise

    hook = model.base_model.embeddings.register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


def _scores(
    context: Context,
    model: AcnForSequenceClassification,
    kind: str,
    strength: float,
    seed: int,
    clean: datasets.Dataset,
) -> list[float]:
    """The metric at every depth."""
    task, data, noise = context.only.task, clean, nullcontext()
    if kind == "embedding":
        noise = noisy_embeddings(model, strength, seed)  # type: ignore[assignment]
    elif kind == "token_replace":
        data = replaced_tokens(clean, context.tokenizer, strength, seed)
    else:
        data = context.encode(task, noisy_texts(task, context.only.validation, kind, strength, seed))
    with noise:
        return context.sweep(model, task, data).scores(task.metric)


def run(context: Context, options: NoiseOptions) -> Study:
    """The score against the strength of each kind of noise, at full depth and at the cut depth."""
    assert context.results is not None
    task, cut = context.only.task, context.results.cut_depth
    depths = sorted({context.config.num_hidden_layers, cut}, reverse=True)
    model = context.load_finetuned()
    clean = context.encode(task, context.only.validation)
    unharmed = context.sweep(model, task, clean).scores(task.metric)
    strengths = sorted({0.0, *numbers(options.strengths)})
    seeds = context.options.seed_list
    progress = Progress("noise", len(options.names) * (len(strengths) - 1) * len(seeds))
    found: dict[tuple[str, float], list[list[float]]] = {}
    for kind in options.names:
        found[kind, 0.0] = [unharmed]
        for strength in strengths[1:]:
            found[kind, strength] = []
            for seed in seeds:
                found[kind, strength].append(_scores(context, model, kind, strength, seed, clean))
                progress.step(f"{kind} {strength:g}")
    curves = [
        Curve(
            kind,
            "strength of the noise",
            f"{task.name} {task.metric}" + (f", cut at depth {depth}" if depth < depths[0] else ""),
            [Point(strength, [scores[depth] for scores in found[kind, strength]]) for strength in strengths],
            reference=unharmed[depth],
        )
        for depth in depths
        for kind in options.names
    ]
    return Study(
        curves=curves,
        columns=["noise", "depth", *(f"{task.metric} at {strength:g}" for strength in strengths)],
        rows=[
            [kind, depth, *(fmean(scores[depth] for scores in found[kind, strength]) for strength in strengths)]
            for depth in depths
            for kind in options.names
        ],
        notes="Strength is the probability that a word (token_replace: a token) is hit by one error; for embedding it "
        "is the deviation of Gaussian noise on x_0 in units of its root mean square. Means over the seeds of the "
        "noise. The seeds, the kind and the example determine the draws, and what is hit at a strength is hit at "
        "larger ones.",
        seeds=seeds,
    )


KIND = Kind(run, "fine-tuned")
