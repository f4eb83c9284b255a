"""claim.json, read back in the terms of the page: pretrainings, fine-tunings and studies by arm."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline import parse_record
from eval import Speed, TaskResults, TrialResults, read_json
from eval.glue import aggregate_seeds
from eval.report import StudyResults, parse_study
from pretrain.observe import Curves

from .budgets import Arm
from .collect import curves_of
from .curves import LossCurve

_SEEDS = 1000  # a fine-tuning's seed and its pretraining's become one number: every run of an arm has its own


@dataclass(frozen=True)
class Run:
    """One pretraining."""

    arm: Arm
    seed: int
    longer: int
    rate: float
    result: dict[str, Any]

    @property
    def curves(self) -> Curves:
        """Every metric by step."""
        return curves_of(self.result)

    def by_tokens(self, metric: str) -> tuple[list[float], list[float]]:
        """Tokens and values of a metric."""
        curve = self.curves[metric]
        return [step * self.result["tokens_per_step"] for step in curve], list(curve.values())

    @property
    def losses(self) -> LossCurve:
        """Validation loss over tokens."""
        return LossCurve(*self.by_tokens("validation/loss"))


@dataclass(frozen=True)
class Claim:
    """A study's file."""

    name: str
    """Of the file, without its suffix."""
    budget: dict[str, Any]
    machine: dict[str, Any]
    jobs: list[dict[str, Any]]
    remarks: str = ""
    """What a person wrote beside it, in a file of the same name ending in .md: likely causes, and what is left open."""

    @classmethod
    def read(cls, path: Path) -> "Claim":
        """Raises EvalError where it cannot be read."""
        beside, content = path.with_suffix(".md"), read_json(path)
        remarks = beside.read_text() if beside.is_file() else ""
        # the file has the word that jobs had in version 0.1
        return cls(path.stem, content["budget"], content["machine"], jobs=content["cells"], remarks=remarks)

    def done(self, kind: str, **wanted: Any) -> Iterator[dict[str, Any]]:
        """The finished jobs of a kind with these values."""
        for job in self.jobs:
            asked = {"kind": kind, "status": "done", **wanted}
            if all(job.get(name) == value for name, value in asked.items()):
                yield job

    @property
    def corpus(self) -> dict[str, Any] | None:
        """The baseline, and what the corpus is; None where it was not prepared."""
        return next((job["result"] for job in self.done("corpus")), None)

    @property
    def arms(self) -> list[Arm]:
        """Those with a finished pretraining, in order of importance."""
        return list(dict.fromkeys(_arm(job) for job in self.done("pretrain")))

    @property
    def pairs(self) -> list[tuple[Arm, Arm]]:
        """Every arm that is not residual with its residual twin, where both were pretrained."""
        arms = self.arms
        return [(arm, arm.twin) for arm in arms if arm != arm.twin and arm.twin in arms]

    def runs(self, arm: Arm, longer: int = 1) -> list[Run]:
        """The finished pretrainings of an arm, by seed."""
        found = self.done("pretrain", **vars(arm), longer=longer)
        return sorted((Run(arm, c["seed"], longer, c["rate"], c["result"]) for c in found), key=lambda run: run.seed)

    @property
    def tasks(self) -> list[str]:
        """Those that something was fine-tuned on, in order of importance."""
        return list(dict.fromkeys(job["task"] for job in self.done("finetune")))

    def scores(self, arm: Arm, task: str, longer: int = 1) -> TaskResults | None:
        """All runs of an arm on a task (pretraining seeds x fine-tuning seeds) as one result; None without any."""
        found = list(self.done("finetune", **vars(arm), task=task, longer=longer))
        trials = [
            # a claim's file has no folders: the model is the job that made it
            TrialResults.from_json(
                trial | {"model": job["name"], "seed": job["seed"] * _SEEDS + trial["seed"]}, Path(self.name)
            )
            for job in found
            for trial in job["result"]["seeds"]
        ]
        if not trials:
            return None
        together = aggregate_seeds(trials, trials[0].tolerance)
        seeds, speed = [trial.seed for trial in trials], found[0]["result"].get("speed")
        measured = parse_record(Speed, speed) if speed else None
        return TaskResults(**vars(trials[0]), seeds=seeds, aggregate=together, speed=measured)

    def cut_depths(self, arm: Arm, task: str, longer: int = 1) -> dict[int, int]:
        """The cut depth of every run by its seed (see `scores`)."""
        return {seed: one["cut_depth"] for seed, one in self._finetunings(arm, task, longer)}

    def full_scores(self, arm: Arm, task: str, longer: int = 1) -> dict[int, float]:
        """The whole model's score of every run by its seed."""
        return {seed: one["full_score"] for seed, one in self._finetunings(arm, task, longer)}

    def lost_at(self, arm: Arm, task: str, depth: int, longer: int = 1) -> dict[int, float]:
        """What the score of every run loses when its model is cut at `depth`, by its seed."""
        tuned = self._finetunings(arm, task, longer)
        return {seed: one["full_score"] - one["depth_scores"][depth] for seed, one in tuned}

    def _finetunings(self, arm: Arm, task: str, longer: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for job in self.done("finetune", **vars(arm), task=task, longer=longer):
            for one in job["result"]["seeds"]:
                yield job["seed"] * _SEEDS + one["seed"], one

    def studies(self) -> dict[tuple[str, str], list[tuple[StudyResults, str]]]:
        """(study, task): each arm's, with the arm's name."""
        found: dict[tuple[str, str], list[tuple[StudyResults, str]]] = {}
        for job in self.done("study"):
            for name, content in job["result"].items():
                study = parse_study(content, Path(job["name"]))
                found.setdefault((name, job["task"]), []).append((study, _arm(job).name))
        return found


def _arm(job: dict[str, Any]) -> Arm:
    return Arm(job["connectivity"], job["variant"])


def mean_and_deviation(values: list[float]) -> tuple[float, float | None]:
    """Mean, and sample standard deviation where there are several."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
