"""Model cards: that of a cut classifier with the numbers behind the cut, and the tables of any classifier's card."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from ..chance import AT_CHANCE, are_at_chance, constant_score, is_at_chance, is_cut_at_chance
from ..report import mean_and_std
from ..results import CutResults, ScoredOn, TaskResults, size_mb
from ..tasks import GLUE_TASKS
from .markdown import Markdown, code, escape, link, markdown_table, public_path, read_templates

CARD_FILE = "README.md"
# names of our metrics on the Hub, where they differ
_HUB_METRICS = {"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"}


LOCAL, NOT_RECORDED = "local", "unknown"
"""What stands for the Hub's name of a data set that is not from there, or of which nothing is known."""


def score_entry(record: TaskResults | CutResults, score: float, name: str | None = None) -> EvalResult:
    """A score on the examples of a record as the Hub's `model-index` states it: a part of a split is called that, and
    files of the user's are no data set of the Hub.

    Args:
        name: what is special about this score, a depth for instance.
    """
    data, task = record.data, record.task
    title = f"GLUE {task}" if task in GLUE_TASKS else task
    if data is None:
        kind, split, title = NOT_RECORDED, "not recorded", f"{task}, data not recorded"
    else:
        kind = data.hub_dataset or LOCAL
        split = data.split if data.is_whole else f"{data.split} ({_how_many(data)})"
        title = title if data.hub_dataset is not None else f"{task}, local files"
    return EvalResult(
        task_type="text-classification",
        dataset_type=kind,
        dataset_name=title,
        dataset_config=data.hub_config if data is not None else None,
        dataset_split=split,
        metric_type=_HUB_METRICS.get(record.metric, record.metric),
        metric_value=round(score, 4),
        metric_name=name,
    )


def _how_many(data: ScoredOn) -> str:
    if data.examples is None:
        return "an unrecorded number of examples"
    return f"{data.examples:,}{f' of {data.of:,}' if data.of not in (None, data.examples) else ''} examples"


def describe_data(record: TaskResults | CutResults) -> Markdown:
    """What the scores of a record were measured on, in a few words."""
    data = record.data
    if data is None:
        return Markdown("data that was not recorded")
    if data.hub_dataset is not None:
        name = link(data.hub_dataset, f"https://huggingface.co/datasets/{data.hub_dataset}")
        where = f"{name} {escape(data.hub_config)}" if data.hub_config is not None else name
    else:
        where = f"the local {code(public_path(data.place))}" if data.place is not None else "local files"
    return Markdown(f"{_how_many(data)} of {where}, split {escape(data.split)}")


def classifier_front(record: TaskResults | CutResults, scores: list[EvalResult], name: str) -> ModelCardData:
    """The Hub's metadata of a classifier: what it is, and its scores."""
    hub_dataset = record.data.hub_dataset if record.data is not None else None
    return ModelCardData(
        model_name=name,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["acn", "auto-compressing-networks"],
        datasets=[hub_dataset] if hub_dataset is not None else None,
        metrics=sorted({score.metric_type for score in scores}),
        eval_results=scores,
    )


def cut_front(cut: CutResults) -> ModelCardData:
    """The Hub's metadata of a cut classifier. What it was cut from is a folder, which the text names."""
    name = f"{cut.task}-{cut.connectivity}-depth{cut.depth}"
    front = classifier_front(cut, [score_entry(cut, cut.score)], name)
    front.tags = [*(front.tags or []), "layer-pruning"]
    return front


def cut_body(cut: CutResults) -> Markdown:
    """The card of a cut classifier without the Hub's metadata."""
    return _render(cut, None)


def card(cut: CutResults) -> str:
    """README.md of a cut classifier."""
    return _render(cut, Markdown(cut_front(cut).to_yaml()))


def _render(cut: CutResults, metadata: Markdown | None) -> Markdown:
    template = read_templates(Path(__file__).parent).get_template("card.md")
    marks = {"full": is_at_chance(cut), "cut": is_cut_at_chance(cut), "constant": constant_score(cut)}
    return Markdown(template.render(cut=cut, metadata=metadata, scored_on=describe_data(cut), chance=marks))


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
        whole = mean_and_std(full, deviation)
        if are_at_chance(results):
            whole, cut_text = f"{whole}, {AT_CHANCE}", "not cut"
        rows.append([results.task, results.metric, whole, seeds, cut_text, constant_score(results),
                     describe_data(results)])  # fmt: skip
    columns = ["task", "metric", "all layers", "each seed", "cut", "constant answer", "scored on"]
    return markdown_table(columns, rows)
