"""Model cards: that of a cut classifier with the numbers behind the cut, and the tables of any classifier's card."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from ..report import mean_and_std
from ..results import CutResults, TaskResults, size_mb
from ..tasks import GLUE_TASKS, TASKS
from .markdown import Markdown, markdown_table, read_templates

CARD_FILE = "README.md"
# names of our metrics on the Hub, where they differ
_HUB_METRICS = {"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"}


def _hub_dataset(task: str) -> str | None:
    """The data set on the Hub that a task is from; None for a task of the user's."""
    return TASKS[task].hub_dataset if task in TASKS else None


def score_entry(task: str, metric: str, score: float, name: str | None = None) -> EvalResult:
    """A score on a task's validation split as the Hub's `model-index` states it.

    Args:
        name: what is special about this score, a depth for instance.
    """
    known = TASKS.get(task)
    return EvalResult(
        task_type="text-classification",
        dataset_type=_hub_dataset(task) or task,
        dataset_name=f"GLUE {task}" if task in GLUE_TASKS else task,
        dataset_config=known.hub_config if known is not None else None,
        dataset_split=known.validation_splits[0] if known is not None else "validation",
        metric_type=_HUB_METRICS.get(metric, metric),
        metric_value=round(score, 4),
        metric_name=name,
    )


def classifier_front(task: str, scores: list[EvalResult], name: str) -> ModelCardData:
    """The Hub's metadata of a classifier: what it is, and its scores."""
    return ModelCardData(
        model_name=name,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["acn", "auto-compressing-networks"],
        datasets=[path] if (path := _hub_dataset(task)) is not None else [],
        metrics=sorted({score.metric_type for score in scores}),
        eval_results=scores,
    )


def cut_front(cut: CutResults) -> ModelCardData:
    """The Hub's metadata of a cut classifier."""
    name = f"{cut.task}-{cut.connectivity}-depth{cut.depth}"
    front = classifier_front(cut.task, [score_entry(cut.task, cut.metric, cut.score)], name)
    front.tags = [*(front.tags or []), "layer-pruning"]
    base = cut.model
    # the Hub takes names of its repositories only; a local folder is named in the text
    front.base_model = base if base.count("/") == 1 and not Path(base).exists() else None
    return front


def cut_body(cut: CutResults) -> Markdown:
    """The card of a cut classifier without the Hub's metadata."""
    return _render(cut, None)


def card(cut: CutResults) -> str:
    """README.md of a cut classifier."""
    return _render(cut, Markdown(cut_front(cut).to_yaml()))


def _render(cut: CutResults, metadata: Markdown | None) -> Markdown:
    return Markdown(read_templates(Path(__file__).parent).get_template("card.md").render(cut=cut, metadata=metadata))


def depth_table(results: TaskResults) -> Markdown:
    """What every depth of a fine-tuned model scores and costs."""
    together = results.aggregate
    columns = ["depth", results.metric, "parameters", "MB (float32)", "forward GFLOPs"]
    deviations = together.depth_std if together is not None else None
    if deviations is not None:
        columns.insert(2, f"mean of {len(results.all_seeds)} seeds")
    rows = []
    for depth, score in enumerate(results.depth_scores):
        params, flops = results.params_by_depth[depth], results.flops_by_depth[depth]
        row = [depth, f"{score:.4f}", f"{params:,}", f"{size_mb(params):.2f}", f"{flops / 1e9:.4g}"]
        if together is not None and deviations is not None:
            row.insert(2, mean_and_std(together.depth_mean[depth], deviations[depth]))
        rows.append(row)
    return markdown_table(columns, rows)


def suite_table(tasks: Sequence[TaskResults]) -> Markdown:
    """A row for every task: mean and deviation over its seeds, each seed's score, and where the mean may be cut."""
    rows = []
    for results in tasks:
        together = results.aggregate
        if together is None:  # written before seeds were put together
            by_seed, full, deviation = {str(results.seed): results.depth_scores}, results.full_score, None
            cut, at_cut = results.cut_depth, results.depth_scores[results.cut_depth]
        else:
            by_seed, deviations = together.by_seed, together.depth_std
            full, deviation = together.depth_mean[-1], None if deviations is None else deviations[-1]
            cut = together.cut_depth_tolerance
            at_cut = together.depth_mean[cut]
        layers = len(results.depth_scores) - 1
        seeds = ", ".join(f"{seed}: {scores[-1]:.4f}" for seed, scores in by_seed.items())
        cut_text = f"{at_cut:.4f} with {cut} of {layers}"
        majority = results.majority_score
        rows.append([results.task, results.metric, mean_and_std(full, deviation), seeds, cut_text, majority])
    return markdown_table(["task", "metric", "all layers", "each seed", "cut", "majority class"], rows)
