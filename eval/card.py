"""The model card of a cut classifier: README.md with the Hub's metadata and the numbers behind the cut."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from .results import size_mb
from .tasks import HUB_DATASET, TASKS

CARD_FILE = "README.md"
# names of our metrics on the Hub, where they differ
_HUB_METRICS = {"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"}

_BODY = """---
{front}
---

# {task}, {depth} of {layers} layers

A text classifier of the Auto-Compressing Network family ([arXiv 2506.09714](https://arxiv.org/abs/2506.09714),
connectivity `{connectivity}`), fine-tuned on {task} and cut after layer {depth}: {rule}.

| | {layers} layers | {depth} layers |
|---|---|---|
| {metric}, validation | {full_score:.4f} | {score:.4f} |
| parameters | {full_params:,} | {params:,} |
| forward GFLOPs, {seq_length} tokens | {full_gflops:.3f} | {gflops:.3f} |
| MB (float32) | {full_mb:.1f} | {mb:.1f} |
{speed_rows}
The scores are those of one model: {selection}. {all_seeds}{checked}

Fine-tuned from `{base}`, source of the cut `{source}`.
{variant_rows}"""


def _front(cut: dict[str, Any]) -> ModelCardData:
    task = cut["task"]
    ours = task in TASKS
    metric = _HUB_METRICS.get(cut["metric"], cut["metric"])
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=HUB_DATASET if ours else task,
            dataset_name=f"GLUE {task}" if ours else task,
            dataset_config=task if ours else None,
            dataset_split="validation_matched" if task == "mnli" else "validation",
            metric_type=metric,
            metric_value=round(cut["score"], 4),
        )
    ]
    base = cut["model"]
    # the Hub takes names of its repositories only; a local folder is named in the text
    published = base if base.count("/") == 1 and not Path(base).exists() else None
    return ModelCardData(
        model_name=f"{task}-{cut['connectivity']}-depth{cut['depth']}",
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["acn", "auto-compressing-networks", "layer-pruning"],
        datasets=[HUB_DATASET] if ours else [],
        metrics=[metric],
        base_model=published,
        eval_results=results,
    )


def _speed_rows(cut: dict[str, Any]) -> str:
    speed = cut.get("speed")
    if not speed:
        return ""
    full, small = speed["depths"][str(cut["layers"])], speed["depths"][str(cut["depth"])]
    where = f"{speed['device']}, {speed['threads']} threads"
    return (
        f"| latency of one sequence, ms ({where}) | {full['latency_ms']:.2f} | {small['latency_ms']:.2f} |\n"
        f"| sequences/s in batches of 32 ({where}) | {full['sequences_per_second']:.1f} "
        f"| {small['sequences_per_second']:.1f} |\n"
    )


def _all_seeds(cut: dict[str, Any]) -> str:
    if not cut.get("seed_mean"):
        return ""
    return (
        f"Over the seeds {', '.join(map(str, cut['seeds']))} depth {cut['depth']} scores {cut['seed_mean']:.4f} "
        f"± {cut['seed_std']:.4f} (mean, standard deviation). "
    )


def _variants(cut: dict[str, Any]) -> str:
    rows = [
        f"| `{name}` | {format(value['score'], '.4f') if 'score' in value else 'not measured'} "
        f"| {value['mb']:.1f} | {value['latency_ms']:.2f} |"
        for name, value in cut.get("variants", {}).items()
    ]
    if not rows:
        return ""
    return "\n".join(["", f"| file | {cut['metric']} | MB | ms for one sequence |", "|---|---|---|---|", *rows, ""])


def card(cut: dict[str, Any]) -> str:
    """The text of README.md, from the content of the cut model's results.json."""
    checked = cut.get("checked_score")
    return _BODY.format(
        **cut | {"seq_length": cut["seq_length"] or "an unstated number of"},
        front=_front(cut).to_yaml(),
        base=cut["model"],
        full_gflops=cut["full_flops"] / 1e9,
        gflops=cut["flops"] / 1e9,
        full_mb=size_mb(cut["full_params"]),
        mb=size_mb(cut["params"]),
        speed_rows=_speed_rows(cut),
        variant_rows=_variants(cut),
        all_seeds=_all_seeds(cut),
        checked="" if checked is None else f"The written model was run again on that split: {checked:.4f}.",
    )
