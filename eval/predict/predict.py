"""Texts are read strictly, run in batches of similar lengths, and answered in the order of the file."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from data_pipeline import Problem, find_model, new_file
from modeling import AcnConfig, AcnForSequenceClassification, autocast, model_type_of

from ..errors import EvalError
from ..models import (
    best_device,
    class_names,
    load_finetuned,
    load_tokenizer,
    most_tokens,
    pin_model,
    read_model_config,
)
from ..precision import precision_problems, resolved, say_precision
from ..progress import Progress
from ..results import CutResults, TaskResults, find_cut, find_results
from ..tasks import TASKS, Task, load_texts
from .config import PredictConfig

_TOKENIZED = 1000
_DIGITS = 6


@dataclass(frozen=True)
class Predictions:
    """What a model says about each text, in order."""

    texts: dict[str, list[str]]
    """By column."""
    names: list[str]
    """Of the classes; empty for a regression."""
    scores: np.ndarray
    """(N, classes): probabilities; (N, 1) of a regression: the values."""

    @property
    def columns(self) -> list[str]:
        """Of a table of them."""
        classes = [f"score_{name}" for name in self.names]
        return [*self.texts, *(["label"] if self.names else []), "score", *classes]

    def rows(self) -> Iterator[list[Any]]:
        """The cells of each text's row."""
        for row, scores in enumerate(self.scores.tolist()):
            texts = [column[row] for column in self.texts.values()]
            rounded = [round(score, _DIGITS) for score in scores]
            if not self.names:
                yield [*texts, rounded[0]]
                continue
            best = int(self.scores[row].argmax())
            yield [*texts, self.names[best], rounded[best], *rounded]

    def objects(self) -> Iterator[dict[str, Any]]:
        """Each text's row as JSON has it."""
        plain = len(self.columns) - len(self.names)
        for row in self.rows():
            value = dict(zip(self.columns[:plain], row[:plain], strict=True))
            yield value | ({"scores": dict(zip(self.names, row[plain:], strict=True))} if self.names else {})


def predict_file(config: PredictConfig) -> str:
    """Label the texts of a file; writes a row for each to `output` or to standard output.

    Returns:
        How many, at which depth and with how many cut texts, in a line.

    Raises:
        EvalError: a wrong option; a model that is no fine-tuned classifier; a file that is malformed or lacks a column,
            an empty text.
    """
    if problems := config.problems() + precision_problems(config.precision):
        raise EvalError(*problems)
    with redirect_stdout(sys.stderr):  # standard output is for the answers alone
        predictions, said = _predict(config)
    with _opened(config.output) as file:
        _write(predictions, config.written, file)
    return said


def _predict(config: PredictConfig) -> tuple[Predictions, str]:
    config = replace(config, model=pin_model(config.model))
    folder = find_model(config.model).path
    shape = read_model_config(config.model)
    _check_kind(config.model, shape)
    record = (find_cut(folder) or find_results(folder)) if model_type_of(folder) == AcnConfig.model_type else None
    depth, max_length = _limits(config, shape, record)
    texts = load_texts(_task(folder, record, config), config.source, config.kind)
    regression = shape.problem_type == "regression" or shape.num_labels == 1
    names = [] if regression else class_names(shape)
    _check_columns(texts, names)
    precision = resolved(config.precision)
    say_precision(config.precision, precision)
    tokenizer = load_tokenizer(config.model, shape)
    encoded, cut = _encode(tokenizer, texts, max_length)
    model = load_finetuned(config.model, precision).to(best_device())
    logits = _logits(model, tokenizer, encoded, depth, config.batch_size, precision)
    scores = logits if regression else torch.from_numpy(logits).double().softmax(-1).numpy()
    said = f"{len(encoded):,} texts at depth {depth} of {shape.num_hidden_layers}"
    return Predictions(texts, names, scores), said + (f", {cut:,} cut at {max_length} tokens" if cut else "")


def _check_kind(folder: str, shape: AcnConfig) -> None:
    """Refuse what has no classifier that was trained."""
    kinds = shape.architectures or []
    if AcnForSequenceClassification.__name__ not in kinds:
        what = "a masked language model" if any("MaskedLM" in kind for kind in kinds) else "no classifier"
        fix = f"fine-tune it first: acn glue --model {folder} --tasks TASK --output OUTPUT, then give OUTPUT/TASK"
        raise EvalError(Problem("model", folder, f"is {what}, it has no labels", fix))


def _limits(config: PredictConfig, shape: AcnConfig, record: CutResults | TaskResults | None) -> tuple[int, int]:
    """The depth, and the most tokens of a text."""
    layers, positions = shape.num_hidden_layers, most_tokens(shape)
    depth = layers if config.depth is None else config.depth
    trained = record.seq_length if record is not None and record.seq_length else shape.max_position_embeddings
    max_length = config.max_length or (trained if positions is None else min(trained, positions))
    problems = []
    if depth > layers:
        problems.append(Problem("depth", depth, f"is more than the model has: 0..{layers}", "give one of them"))
    if positions is not None and max_length > positions:
        problems.append(Problem("max_length", max_length, f"is above the model's {positions} positions", "lower it"))
    if problems:
        raise EvalError(*problems)
    return depth, max_length


def _task(folder: Path, record: CutResults | TaskResults | None, config: PredictConfig) -> Task:
    """The model's task as far as texts need it; without columns where neither options nor results name them."""
    name = record.task if record is not None else folder.name
    known = TASKS.get(name) if record is not None else None
    columns = config.columns or (known.columns if known is not None else _trained_columns(record))
    return Task(name, columns, (), ("accuracy",))


def _trained_columns(record: CutResults | TaskResults | None) -> tuple[str, ...]:
    """The text columns of the data of one's own that a model was fine-tuned on; none where that is not known."""
    if isinstance(record, CutResults):
        source = Path(record.source)
        record = find_results(source) if source.is_dir() else None
    dataset = (record.settings or {}).get("dataset") if record is not None else None
    named = dataset.get("text_columns", ()) if isinstance(dataset, dict) else ()
    names = named.split(",") if isinstance(named, str) else named
    return tuple(name.strip() for name in names)


def _check_columns(texts: dict[str, list[str]], names: Sequence[str]) -> None:
    """Refuse columns of texts that are called as those of the answers."""
    ours = {"label", "score", "scores", *(f"score_{name}" for name in names)}
    if clash := [name for name in texts if name in ours]:
        raise EvalError(Problem("text_columns", ",".join(clash), "is a column of the answers", "rename it in the file"))


def _encode(tokenizer: Any, texts: dict[str, list[str]], max_length: int) -> tuple[list[dict[str, list[int]]], int]:
    """The model's inputs of every text, unpadded, and how many texts were cut."""
    columns, rows, cut = list(texts.values()), [], 0
    for start in range(0, len(columns[0]), _TOKENIZED):
        batch = [column[start : start + _TOKENIZED] for column in columns]
        whole = tokenizer(*batch, truncation=False, verbose=False)["input_ids"]
        cut += sum(len(ids) > max_length for ids in whole)
        inputs = tokenizer(*batch, truncation=True, max_length=max_length)
        rows += [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    return rows, cut


@torch.no_grad()
def _logits(
    model: AcnForSequenceClassification,
    tokenizer: Any,
    encoded: list[dict[str, list[int]]],
    depth: int,
    size: int,
    precision: str,
) -> np.ndarray:
    """(N, num_labels) at one depth; similar lengths run together, which leaves little padding."""
    order = np.argsort([-len(row["input_ids"]) for row in encoded], kind="stable")
    logits = np.empty((len(encoded), model.config.num_labels), dtype=np.float32)
    progress = Progress("predict", -(-len(encoded) // size))
    with autocast(precision, model.device):  # around all batches: weights are cast once
        for start in range(0, len(encoded), size):
            index = order[start : start + size]
            batch = tokenizer.pad([encoded[int(row)] for row in index], return_tensors="pt")
            inputs = {name: value.to(model.device) for name, value in batch.items()}
            logits[index] = model(**inputs, depth=depth).logits.float().cpu().numpy()
            progress.step(f"{start + len(index):,} of {len(encoded):,} texts")
    return logits


@contextmanager
def _opened(output: str | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is there once it is whole."""
    if output is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    with new_file(Path(output)) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        yield file


def _write(predictions: Predictions, form: str, file: IO[str]) -> None:
    if form == "jsonl":
        file.writelines(json.dumps(value, ensure_ascii=False) + "\n" for value in predictions.objects())
        return
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(predictions.columns)
    writer.writerows(predictions.rows())
