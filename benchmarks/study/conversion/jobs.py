"""The jobs of a conversion's budget in order of importance, what they run, and what is kept of them."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_pipeline import Manifest
from eval import read_json, read_results
from pretrain.observe import read_metrics

from ..budgets import Arm
from ..collect import collect as collect_of_claims
from ..collect import last
from ..commands import ACN, Home, flags
from ..plan import Job
from .budget import (
    CONVERTED,
    ORIGINAL,
    STUDENT,
    TRAINING_SPLITS,
    Conversion,
    Fraction,
    Rivals,
    start_of,
    supervision_of,
)

STSB = "stsb"
TUNING_SEED = 0
KEPT = ("validation/match", "train/match")


def plan(budget: Conversion, tasks: Sequence[str]) -> list[Job]:
    """Every job of `budget`, each after those that it needs: the original's first, which need no conversion."""
    starts = dict.fromkeys(start_of(arm) for arm in budget.arms)
    jobs = [Job("corpus"), Job("pretrain", CONVERTED, after=("corpus",))]
    if STSB in tasks:
        jobs += [Job("similarity", arm, task=STSB, after=_source(arm)) for arm in (ORIGINAL, CONVERTED)]
    if STUDENT in starts:
        jobs += [Job("cut"), Job("pretrain", STUDENT, after=("corpus", "cut"))]
    tried = {arm: _tuning(budget, arm) for arm in budget.arms}
    for task in (part.task for part in budget.parts if part.task in tasks):
        for arm in budget.arms:
            jobs += [job for job in tried[arm] if job not in jobs]
            needed = (*_source(arm), *(job.name for job in tried[arm]))
            jobs.append(Job("finetune", arm, task=task, after=needed))
    return jobs


def _tuning(budget: Conversion, arm: Arm) -> list[Job]:
    """One of each learning rate that may be chosen."""
    return [Job("tune", arm, rate=rate, task=budget.tuning.task, after=_source(arm)) for rate in budget.finetune_rates]


def _source(arm: Arm) -> tuple[str, ...]:
    """The job whose model an arm starts from: none for the original, which is there."""
    start = start_of(arm)
    return () if start == ORIGINAL else (Job("pretrain", start).name,)


def work(budget: Conversion, job: Job) -> float:
    """What a job's time is proportional to: tokens, or examples; 0 where its time is taken as it is."""
    if job.kind == "pretrain":
        return budget.tokens
    if job.kind == "tune":
        return _examples(budget.tuning)
    if job.kind == "finetune":
        return _examples(budget.part(job.task)) * len(budget.finetune_seeds)
    return 0.0


def _examples(part: Fraction) -> float:
    """Of a fine-tuning with one seed, all epochs together."""
    return (part.examples or TRAINING_SPLITS[part.task]) * part.epochs


def commands(budget: Conversion, job: Job, home: Home, rate: float | None, hours: float | None) -> list[list[str]]:
    """The commands of a job, one after the other.

    Args:
        rate: peak learning rate of a fine-tuning.
        hours: the conversion stops after them, to be continued.
    """
    source = str(home.source or budget.model)
    if job.kind == "corpus":
        return _corpus(budget, home, source)
    if job.kind == "cut":
        assert isinstance(budget, Rivals)
        return [[*ACN, "export", source, str(home.output(job.name)), *flags({"depth": budget.student_layers})]]
    if job.kind == "pretrain":
        return [[*ACN, "pretrain", *flags(_conversion(budget, job, home, source, hours))]]
    assert job.arm is not None
    start = replace(job, arm=start_of(job.arm))
    model = source if start.arm == ORIGINAL else str(home.pretrained(start) / "model")
    if job.kind == "similarity":
        pairs = Path(str(home.glue_dir)) / STSB / "validation.parquet"
        options = {"data": pairs, "output": home.output(job.name) / "similarity.json"}
        return [[sys.executable, "-m", "benchmarks.study.conversion.similarity", model, *flags(options)]]
    return [[*ACN, "glue", *flags({"model": model, **_finetuning(budget, job, home, rate)})]]


def _corpus(budget: Conversion, home: Home, source: str) -> list[list[str]]:
    """The tasks' own sentences, unless the user brought a corpus."""
    if home.tokens_dir is not None:
        return []
    text = {"glue_dir": home.glue_dir, "output": home.text}
    tokens = {
        "corpus.train": home.text / "train.jsonl",
        "corpus.validation": home.text / "validation.jsonl",
        "tokenizer": source,
        "seq_length": budget.seq_length,
        "packing": "documents",  # the tasks' sentences are read one by one, too, each from its own [CLS]
        "output": home.tokens,
    }
    return [
        [sys.executable, "-m", "benchmarks.study.conversion.texts", *flags(text)],
        [*ACN, "prepare", *flags(tokens)],
    ]


def _conversion(budget: Conversion, job: Job, home: Home, source: str, hours: float | None) -> dict[str, Any]:
    """Options of `acn pretrain` beside the recipe's."""
    every = max(1, budget.steps // budget.validations)
    options: dict[str, Any] = {
        "config": budget.recipe,
        "data": home.tokens,
        "output": home.output(job.name),
        "init_from": source,
        "steps": budget.steps,
        "global_batch_size": budget.batch,
        "micro_batch_size": budget.batch,
        "optim.lr": budget.only_rate,
        "validation.every": every,
        "validation.blocks": budget.validation_blocks,
        "checkpoint.every": every,
        "checkpoint.keep": 1,
        "nproc_per_node": 1,
        "tracking.mlflow": None,
    }
    if job.arm == STUDENT:  # as much of everything as the conversion, but its layers keep their shortcuts
        start = home.output("cut")
        options |= {"init_from": start, "teacher.model": source, "carry_shortcuts": False}
        options |= {"model.connectivity": STUDENT.connectivity}
    return options | ({"stop_after_hours": hours} if hours is not None else {})


def _finetuning(budget: Conversion, job: Job, home: Home, rate: float | None) -> dict[str, Any]:
    """Options of `acn glue`: between arms the model, the learning rate and the supervision of depths differ."""
    tuning = job.kind == "tune"
    part = budget.tuning if tuning else budget.part(job.task)
    options: dict[str, Any] = {
        "tasks": part.task,
        "seeds": TUNING_SEED if tuning else ",".join(map(str, budget.finetune_seeds)),
        "learning_rate": rate,
        "epochs": part.epochs,
        "batch_size": budget.finetune_batch,
        "predict_test": False,
        "speed": False,
        "output": home.output(job.name),
        "glue_dir": home.glue_dir,
        "tracking.mlflow": None,
    }
    assert job.arm is not None
    if (kind := supervision_of(job.arm)) != "none":
        options["supervision.kind"] = kind
    limits = {"max_train_samples": part.examples, "max_eval_samples": budget.eval_examples}
    return options | {name: value for name, value in limits.items() if value is not None}


def collect(job: Job, home: Home) -> dict[str, Any]:
    """The result of a job whose commands have ended well.

    Raises:
        OSError, KeyError, EvalError, DataError: they left something else behind than they should have.
    """
    output = home.output(job.name)
    if job.kind == "corpus":
        manifest = Manifest.load(home.tokens)
        return {"train_tokens": manifest.split("train").tokens, "seq_length": manifest.seq_length}
    if job.kind == "cut":
        return {"layers": read_json(output / "config.json")["num_hidden_layers"]}
    if job.kind == "pretrain":
        return _converted(output)
    if job.kind == "similarity":
        return read_json(output / "similarity.json")
    if job.kind == "tune":
        results = read_results(output / str(job.task))
        return {"score": results.full_score, "depth_scores": results.depth_scores}
    return collect_of_claims(job, home)


def _converted(run: Path) -> dict[str, Any]:
    """The match by step and at the end by depth, and what the conversion cost."""
    metrics = read_metrics(run)
    if not (run / "model" / "config.json").is_file():
        raise FileNotFoundError(f"{run} has no finished model")
    by_depth = sorted(name for name in metrics if name.startswith("validation/match_depth_"))
    return {
        "tokens": last(metrics["train/tokens"]),
        "tokens_per_second": last(metrics["train/tokens_per_second"]),
        "match": last(metrics["validation/match"]),
        "match_by_depth": [last(metrics[name]) for name in by_depth],
        "curves": {name: {str(step): float(f"{y:.6g}") for step, y in metrics[name].items()} for name in KEPT},
    }
