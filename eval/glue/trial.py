"""One trial of a suite: one task with one seed, trained, scored at every depth, and written to its own folder."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import DataCollatorWithPadding, set_seed

from data_pipeline import Problem, new_folder, write_json
from eval import ranks
from modeling import AcnConfig, AcnForSequenceClassification, DepthSupervision, parameters_by_depth

from ..depth import DepthSweep, cut_depth, depth_sweep, flops_by_depth, majority_score
from ..errors import EvalError
from ..models import load_for_task, model_origin, most_tokens, save_model
from ..progress import Tracker
from ..results import RESULTS_FILE, ScoredOn, TrialResults
from ..tasks import DatasetConfig, Hyperparameters, Task, as_dict, hold_out, validation_name
from .aggregate import standard_error
from .config import FinetuneConfig
from .encoding import Cut, count_cut, encode, say_cut
from .finetune import Training, subset, train
from .flat import pads_nothing
from .linear_probe import probe_scores
from .submission import SplitToPredict, load_tests

# which examples of a validation split are used must not depend on the seed: seeds are compared on the same ones
EVAL_SUBSET_SEED = 0


@dataclass(frozen=True)
class TaskWork:
    """A task of a suite: its data, how it is trained, and what the trials' numbers depend on."""

    task: Task
    train: datasets.Dataset
    """Raw: each seed draws its own examples."""
    validation: dict[str, datasets.Dataset]
    """Raw, `max_eval_samples` of each split."""
    values: Hyperparameters
    settings: dict[str, Any]
    """Without the hyperparameters."""
    tests: list[SplitToPredict]
    """What the best model predicts."""
    scored_on: ScoredOn
    """What depth curves are made on."""

    @classmethod
    def of(
        cls,
        config: FinetuneConfig,
        task: Task,
        splits: datasets.DatasetDict,
        values: Hyperparameters,
        settings: dict[str, Any],
        own_data: DatasetConfig | None = None,
    ) -> "TaskWork":
        """From the splits that `load_task` or `load_custom` give; the test splits are read here: a mistake in them
        costs no training.

        Raises:
            EvalError: a test split is malformed.
        """
        validation = {
            name: subset(data, config.max_eval_samples, EVAL_SUBSET_SEED)
            for name, data in splits.items()
            if name != "train"
        }
        tests = load_tests(task, config.glue_dir, own_data) if config.predict_test else []
        first = task.validation_splits[0]
        scored_on = _scored_on(task, len(validation[first]), len(splits[first]), settings, own_data)
        return cls(task, splits["train"], validation, values, settings, tests, scored_on)

    @property
    def samples(self) -> int:
        """Training examples of each seed."""
        return min(len(self.train), self.settings["max_train_samples"] or len(self.train))

    def at(self, values: Hyperparameters) -> "TaskWork":
        """The same with other hyperparameters."""
        return replace(self, values=values)

    def holding_out(self, share: float, most: int | None) -> "TaskWork":
        """The same with a share of the training examples, at most `most` of them, for validation.

        Raises:
            EvalError: that is none.
        """
        kept, held = hold_out(self.task, self.train, share)
        if not len(held):
            wrong = f"of the {len(self.train)} training examples of {self.task.name} is none"
            raise EvalError(Problem("grid.held_out", share, wrong, "give more of them"))
        held = subset(held, most, EVAL_SUBSET_SEED)
        scored_on = replace(self.scored_on, split="train", examples=len(held), of=len(self.train))
        return replace(self, train=kept, validation={self.task.validation_splits[0]: held}, scored_on=scored_on)


def _scored_on(
    task: Task, examples: int, of: int, settings: Mapping[str, Any], own_data: DatasetConfig | None
) -> ScoredOn:
    if own_data is not None:
        place = own_data.validation_file or own_data.path or own_data.train_file
        split, is_here = validation_name(own_data), place is not None and Path(place).exists()
        return ScoredOn(split, examples, of, *((None, None, place) if is_here else (place, own_data.name, None)))
    split, glue_dir = task.validation_splits[0], settings["glue_dir"]
    if glue_dir is not None:
        return ScoredOn(split, examples, of, place=str(Path(glue_dir) / task.name))
    return ScoredOn(split, examples, of, task.hub_dataset, task.hub_config)


def sequence_length(values: Hyperparameters, model_config: AcnConfig) -> int:
    """Tokens per example at most: what is asked for, or as many as the model has positions."""
    return min(values.max_length, most_tokens(model_config) or values.max_length)


@dataclass
class _Trial:
    """A trial while it is worked on; every rank has its own."""

    config: FinetuneConfig
    work: TaskWork
    seed: int
    tokenizer: Any
    tracker: Tracker

    def __post_init__(self) -> None:
        set_seed(self.seed)
        self.model: AcnForSequenceClassification = load_for_task(
            self.config.model, self.work.task, self.config.precision
        )
        self.collate = DataCollatorWithPadding(self.tokenizer)
        self.seq_length = sequence_length(self.work.values, self.model.config)
        self.cuts: dict[str, Cut] = {}
        self.train_data = self._encode("train", subset(self.work.train, self.config.max_train_samples, self.seed))
        self.validation = {split: self._encode(split, data) for split, data in self.work.validation.items()}

    def _encode(self, split: str, data: datasets.Dataset) -> datasets.Dataset:
        encoded = encode(self.work.task, data, self.tokenizer, self.seq_length)
        self.cuts[split] = count_cut(self.work.task, data, encoded, self.tokenizer, self.seq_length)
        return encoded

    @property
    def first_validation(self) -> datasets.Dataset:
        return self.validation[self.work.task.validation_splits[0]]

    def probe(self) -> list[float]:
        return probe_scores(
            self.model, self.work.task, self.train_data, self.first_validation, self.collate, self.config.precision
        )

    def sweep(self, model: AcnForSequenceClassification, data: datasets.Dataset) -> DepthSweep:
        return depth_sweep(model, data, self.work.task, self.collate, shared=True, precision=self.config.precision)

    def training(self, task: Task) -> Training:
        validation = self.first_validation if self.config.best_epoch else None
        precision, compiled = self.config.precision, self.config.compile
        flat = pads_nothing(self.config.padding_free, precision)
        return Training(
            task, self.train_data, self.collate, self.seed, self.tracker, precision, validation, compiled,
            self.config.supervision, flat,
        )  # fmt: skip

    def recut(self, epochs: float, before: list[float]) -> list[dict[str, float]]:
        """Cut at a quarter and at half of the layers, then train on: what cutting alone is to be compared with."""
        task, layers = self.work.task, self.model.config.num_hidden_layers
        found = []
        for depth in sorted({max(1, layers // 4), max(1, layers // 2)} - {layers}):
            small = copy.deepcopy(self.model)
            small.truncate(depth)
            training = self.training(replace(task, name=f"{task.name}/cut-{depth}"))
            training = replace(training, supervision=DepthSupervision())  # it has its depth
            train(small, training, replace(self.work.values, epochs=epochs))
            score = self.sweep(small, self.first_validation).metrics[-1][task.metric]
            found.append({"depth": depth, "epochs": epochs, "score_before": before[depth], "score": score})
            ranks.say(
                f"{task.name}: cut at {depth}, {before[depth]:.4f}; trained on for {epochs:g} epochs, {score:.4f}"
            )
        return found

    def results(self, sweeps: dict[str, DepthSweep], record: dict[str, Any]) -> TrialResults:
        task, config = self.work.task, self.config
        sweep = sweeps[task.validation_splits[0]]
        scores, labels = sweep.scores(task.metric), np.asarray(self.first_validation["labels"])
        return TrialResults(
            task=task.name,
            metric=task.metric,
            seed=self.seed,
            model=self.work.settings["model"],
            connectivity=self.model.config.connectivity,
            precision=self.work.settings["precision"],
            full_score=scores[-1],
            depth_scores=scores,
            cut_depth=cut_depth(scores, scores[-1], config.tolerance),
            tolerance=config.tolerance,
            params_by_depth=parameters_by_depth(self.model.config, self.model.config.num_labels),
            flops_by_depth=flops_by_depth(self.model, self.seq_length),
            seq_length=self.seq_length,
            majority_score=majority_score(task, labels),
            metrics={split: {name: s.scores(name) for name in task.metrics} for split, s in sweeps.items()},
            standard_error=standard_error(task, sweep.predictions[-1], labels),
            scored_on=self.work.scored_on,
            absent_splits=[split for split in task.validation_splits if split not in self.validation],
            train=record,
            truncation={split: asdict(cut) for split, cut in self.cuts.items()},
            settings=self.work.settings,
            origin=model_origin(config.model),
        )


def run_trial(
    config: FinetuneConfig,
    work: TaskWork,
    seed: int,
    tokenizer: Any,
    tracker: Tracker,
    folder: Path,
    with_model: bool = True,
) -> TrialResults:
    """Train on one task with one seed, score every depth, and write `folder`; all ranks together.

    Args:
        config: its precision is resolved.
        folder: gets results.json, and the model and tokenizer `with_model`.
    """
    task = work.task
    trial = _Trial(config, work, seed, tokenizer, tracker)
    settings = {"connectivity": trial.model.config.connectivity, "precision": config.precision}
    tracker.log_settings({"seed": seed} | settings | as_dict(work.values))
    say_cut(task.name, trial.seq_length, most_tokens(trial.model.config), trial.cuts)
    probes = {"pretrained": trial.probe()} if config.probes else {}
    record = train(trial.model, trial.training(task), work.values)
    sweeps = {split: trial.sweep(trial.model, data) for split, data in trial.validation.items()}
    results = trial.results(sweeps, record)
    if config.probes:
        results = replace(results, probes=probes | {"finetuned": trial.probe()})
    if config.cut_then_finetune is not None:
        results = replace(results, recut=trial.recut(config.cut_then_finetune, results.depth_scores))
    if ranks.is_first():
        with new_folder(folder) as aside:
            if with_model:
                results = replace(results, files=save_model(aside, trial.model, tokenizer))
            write_json(aside / RESULTS_FILE, results.to_json())
    ranks.gather(None)  # nobody goes on before the folder is there
    for depth, score in enumerate(results.depth_scores):
        tracker.log_metrics({f"{task.name}/depth_score": score}, step=depth)
    summary = {name: float(getattr(results, name)) for name in ("full_score", "cut_depth", "majority_score")}
    tracker.log_metrics({f"{task.name}/{name}": value for name, value in summary.items()}, step=record["steps"])
    return results
