"""What is done with a fine-tuned classifier, by this project and by hand with transformers' BERT of the same weights.

A sweep scores every depth. Ours takes one pass; by hand it is one prediction of each truncated BERT. The study scores
noisy copies of the texts at full depth and at half of it; by hand with those two models. Trainer predicts, in the
batches and with the padding that ours have: its rows are given to it sorted by length.
"""

import os
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import BertForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

from eval import TASKS, depth_sweep, load_task, load_tokenizer, read_model_config
from eval.glue import encode
from eval.models import best_device, load_finetuned
from eval.progress import NoTracker
from eval.studies import StudyConfig, run_studies
from eval.studies.base import draw_samples
from eval.studies.config import NoiseOptions
from eval.studies.noise import noisy_texts
from modeling import AcnForSequenceClassification
from modeling.conversion import acn_to_bert

from .finetune_jobs import EVAL_BATCH, MAX_LENGTH, TASK, Bench

EXAMPLES = 256
KINDS, STRENGTHS, NOISE_SEED = ("typo", "word_drop"), (0.1, 0.3), 1
TOLERANCE = {"fp32": 1e-4, "bf16": 0.05}
"""Of the two sides' logits."""


@dataclass(frozen=True)
class Reading:
    """A fine-tuned residual model, the same as BERT cut at every depth, and the examples that they read."""

    bench: Bench
    precision: str
    model: AcnForSequenceClassification
    berts: list[BertForSequenceClassification]
    """By depth."""
    tokenizer: Any
    texts: datasets.Dataset
    data: datasets.Dataset
    """Tokenized, sorted by length."""
    folder: str
    """Of the model."""
    scratch: Path

    @classmethod
    def of(cls, bench: Bench, folder: str, precision: str, scratch: Path) -> "Reading":
        """Of the model that `acn glue` left in `folder`."""
        model = load_finetuned(folder, precision)
        berts = [cut_bert(acn_to_bert(load_finetuned(folder)), k) for k in range(model.config.num_hidden_layers + 1)]
        tokenizer = load_tokenizer(folder, read_model_config(folder))
        validation = load_task(TASKS[TASK], str(bench.glue_dir))["validation"]
        texts = draw_samples(TASKS[TASK], validation, EXAMPLES, seed=0)  # as a study does
        encoded = by_length(encode(TASKS[TASK], texts, tokenizer, MAX_LENGTH))
        return cls(bench, precision, model.to(best_device()), berts, tokenizer, texts, encoded, folder, scratch)

    def our_sweep(self) -> np.ndarray:
        """The logits (L+1, N, C) of every depth, from one pass."""
        collate = DataCollatorWithPadding(self.tokenizer)
        return depth_sweep(self.model, self.data, TASKS[TASK], collate, EVAL_BATCH, precision=self.precision).logits

    def their_sweep(self) -> np.ndarray:
        """The same by hand: a prediction of each truncated BERT."""
        return np.stack([self.predicted(bert, self.data) for bert in self.berts])

    def check(self) -> None:
        """Both sides have to say the same of each example.

        Raises:
            AssertionError: they do not.
        """
        np.testing.assert_allclose(self.our_sweep(), self.their_sweep(), atol=TOLERANCE[self.precision])

    def our_study(self) -> dict[str, Any]:
        """`acn study` of noise: the content of its study.json."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as output:
            noise = NoiseOptions(kinds=",".join(KINDS), strengths=list(STRENGTHS))
            config = StudyConfig(
                studies="noise", model=self.folder, output=output, glue_dir=str(self.bench.glue_dir), noise=noise,
                seeds=[NOISE_SEED], max_eval_samples=EXAMPLES, max_length=MAX_LENGTH,
                precision=self.precision,  # type: ignore[arg-type]
            )  # fmt: skip
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                return run_studies(config, NoTracker)[0]

    def their_study(self) -> list[float]:
        """The accuracies by hand: for each noise, the texts anew, tokenized, read by the whole and by the cut model."""
        noisy = [noisy_texts(TASKS[TASK], self.texts, kind, much, NOISE_SEED) for kind in KINDS for much in STRENGTHS]
        found = []
        for texts in (self.texts, *noisy):
            rows = by_length(encode(TASKS[TASK], texts, self.tokenizer, MAX_LENGTH))
            for bert in (self.berts[-1], self.berts[len(self.berts) // 2]):
                found.append(float((self.predicted(bert, rows).argmax(-1) == np.asarray(rows["labels"])).mean()))
        return found

    def predicted(self, bert: BertForSequenceClassification, data: datasets.Dataset) -> np.ndarray:
        """Trainer's logits (N, C)."""
        arguments = TrainingArguments(
            output_dir=str(self.scratch / "trainer"), per_device_eval_batch_size=EVAL_BATCH, report_to="none",
            bf16=self.precision == "bf16", use_cpu=not torch.cuda.is_available(), disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(bert, arguments, data_collator=DataCollatorWithPadding(self.tokenizer))
        return trainer.predict(data).predictions


def cut_bert(bert: BertForSequenceClassification, depth: int) -> BertForSequenceClassification:
    """Without the layers after the first `depth`."""
    bert.bert.encoder.layer = bert.bert.encoder.layer[:depth]
    bert.config.num_hidden_layers = depth
    return bert


def by_length(data: datasets.Dataset) -> datasets.Dataset:
    """The longest first, as a sweep has them."""
    return data.select(np.argsort([-len(ids) for ids in data["input_ids"]], kind="stable"))
