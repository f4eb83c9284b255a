"""The card of a published model: what it is, how to load it at any depth, what it scores, and where it comes from."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from eval import TaskResults, is_at_chance, most_tokens, read_results
from eval.compress import (
    LOCAL,
    Markdown,
    classifier_front,
    code,
    cut_body,
    depth_table,
    describe_data,
    escape,
    link,
    read_templates,
    score_entry,
    suite_table,
)
from eval.tasks import TASKS
from modeling import AcnConfig
from modeling.configuration_acn import AUTO_MAP
from pretrain.checkpoints import step_of

from .config import PublishConfig
from .facts import (
    TEMPLATES,
    count,
    fact_table,
    find_sources,
    hub_datasets,
    licence_line,
    licence_metadata,
    pretraining_rows,
    public_path,
)
from .source import Source
from .training import Pretraining

_PIPELINES = {
    "AutoModel": "feature-extraction",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMultipleChoice": "multiple-choice",
}
# of what results.json states about a training, where the field's name alone would puzzle
_NAMES = {"samples": "training examples", "ranks": "processes", "seconds": "seconds of training"}


@dataclass(frozen=True)
class CutModel:
    """A cut model that is published with the whole one."""

    depth: int
    params: int
    repo_id: str
    revision: str


@dataclass
class CardFacts:
    """All that a card is made of."""

    config: PublishConfig
    source: Source
    model: AcnConfig
    params: int
    run: Pretraining | None
    cuts: list[CutModel] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    """Revisions of intermediate checkpoints."""
    figures: dict[str, str] = field(default_factory=dict)
    """Files of figures and what they show."""

    @property
    def auto_class(self) -> str:
        """transformers' Auto class of the model's head."""
        head = (self.model.architectures or ["AcnModel"])[0]
        return next(auto for auto, reference in AUTO_MAP.items() if reference.endswith(f".{head}"))

    @property
    def pipeline(self) -> str:
        """The Hub's name of what the model is for."""
        return _PIPELINES[self.auto_class]

    @property
    def base_model(self) -> str | None:
        """OWNER/NAME of what the model was made from: as the user says, or as records do."""
        return self.config.base_model or self.source.base_model

    @property
    def name(self) -> str:
        """The repository without its owner."""
        return self.config.repo_id.partition("/")[2]


def model_card(facts: CardFacts, only: CutModel | None = None) -> str:
    """README.md of the repository, of all its revisions; with `only`, of a repository that holds that cut model."""
    template = read_templates(TEMPLATES).get_template("model.md")
    text = template.render(_contents(facts, only), metadata=Markdown(_front(facts, only).to_yaml()))
    ModelCard(text)  # raises where the Hub could not read the metadata
    return text


def _contents(facts: CardFacts, only: CutModel | None) -> dict[str, Any]:
    """What templates/model.md shows."""
    source, results, run, config = facts.source, facts.source.results, facts.run, facts.config
    layers = only.depth if only else facts.model.num_hidden_layers
    kind, purpose = _description(facts)
    return {
        **{name: getattr(facts, name) for name in ("config", "source", "model", "params", "run", "cuts", "figures")},
        **{name: getattr(facts, name) for name in ("auto_class", "pipeline")},
        "only": only,
        "name": only.repo_id.partition("/")[2] if only else facts.name,
        "repo_id": only.repo_id if only else config.repo_id,
        "kind": kind,
        "purpose": purpose,
        "cut_body": _cut_body(facts) if source.cut is not None else None,
        "layers": layers,
        # of the code: the published cut, where there is one, or any
        "depth": facts.cuts[0].depth if facts.cuts and not only else layers // 2,
        "revisions": only is None and bool(facts.cuts or facts.steps),
        "steps": {name: step_of(name) for name in facts.steps},
        "tasks": [read_results(folder) for folder in source.suite],
        "results": results,
        "finetuning": _finetuning_rows(results) if results is not None else [],
        "pretraining": pretraining_rows(run) if run is not None else [],
        "licence": licence_line(config, "model"),
        "longest": most_tokens(facts.model),
        "count": count,
        "suite_table": suite_table,
        "depth_table": depth_table,
        "scored_on": describe_data(results) if results is not None else None,
        "chance": is_at_chance(results) if results is not None else False,
        "fact_table": fact_table,
    }


def _front(facts: CardFacts, only: CutModel | None) -> ModelCardData:
    scores, name = _scores(facts, only), (only.repo_id.partition("/")[2] if only else facts.name)
    results = facts.source.cut or facts.source.results
    datasets = hub_datasets(facts.run.corpus if facts.run else None)
    if results is not None:
        front = classifier_front(results, scores, name)
        front.datasets = [*(front.datasets or []), *datasets] or None
    else:
        front = ModelCardData(
            model_name=name,
            library_name="transformers",
            pipeline_tag=facts.pipeline,
            tags=["acn", "auto-compressing-networks"],
            datasets=datasets or None,
            metrics=["accuracy"] if scores else None,
            eval_results=scores or None,
        )
    if results is None and not scores:
        del front.model_name
    front.tags = [*(front.tags or []), "arxiv:2506.09714", *(["layer-pruning"] if only or facts.source.cut else [])]
    front.base_model = facts.config.repo_id if only else facts.base_model
    front.language = facts.config.language
    for key, value in licence_metadata(facts.config).items():
        front[key] = value
    return front


def _scores(facts: CardFacts, only: CutModel | None) -> list[EvalResult]:
    """The scores for `model-index`: of the model itself, and of the cut ones that are published with it."""
    cut, results, run = facts.source.cut, facts.source.results, facts.run
    if cut is not None:
        return [score_entry(cut, cut.score)]
    if results is not None:
        layers = len(results.depth_scores) - 1
        depths = [only.depth] if only else [layers, *(cut.depth for cut in facts.cuts)]
        return [
            score_entry(results, results.depth_scores[depth], f"{results.metric}, {depth} of {layers} layers")
            for depth in depths
        ]
    if run is None or not run.whole or facts.pipeline != "fill-mask" or not run.by_depth():
        return []
    kind, split = _held_out(run)
    return [
        EvalResult(
            task_type="fill-mask",
            dataset_type=kind,
            dataset_name=f"held-out text of {Path(run.config['data']).name}",
            dataset_split=split,
            metric_type="accuracy",
            metric_name="accuracy on masked tokens" + (f", {only.depth} layers" if only else ""),
            metric_value=round(run.by_depth()[only.depth if only else -1], 4),
        )
    ]


def _held_out(run: Pretraining) -> tuple[str, str]:
    """The data set and split that a pretraining was validated on, as the Hub knows them."""
    sources = find_sources(run.corpus, "validation")
    if len(sources) == 1 and sources[0].files is None and sources[0].split is not None:
        return sources[0].path, f"part of {sources[0].split}"
    return LOCAL, "validation"


def _cut_body(facts: CardFacts) -> Markdown:
    cut = facts.source.cut
    assert cut is not None
    base = facts.base_model or public_path(cut.model)
    return cut_body(replace(cut, model=base, source=public_path(cut.source)))


def _description(facts: CardFacts) -> tuple[str, str]:
    """What kind of model it is, and what was done to it or what it is for."""
    results = facts.source.results
    if results is not None:
        base = facts.base_model or public_path(results.model)
        return "A text classifier", Markdown(f", fine-tuned on {escape(results.task)} from {code(base)}")
    made = ""
    if facts.source.convert is not None:
        made = Markdown(f", with the weights of {code(facts.base_model or public_path(facts.source.convert))}")
    if facts.pipeline == "fill-mask":
        return "A masked language model", made
    return "A model", Markdown(f" for {facts.pipeline}{made}")


def _finetuning_rows(results: TaskResults) -> list[tuple[str, Any]]:
    fields = ("samples", "epochs", "steps", "optimizer", "schedule", "learning_rate", "batch_size", "weight_decay",
              "warmup_fraction", "device", "ranks", "seconds")  # fmt: skip
    return [
        ("task", results.task),
        ("data", _finetuning_data(results)),
        ("seed of this model", results.seed),
        ("tokens per example, at most", results.seq_length),
        *((_NAMES.get(name, name.replace("_", " ")), results.train.get(name)) for name in fields),
    ]


def _finetuning_data(results: TaskResults) -> Markdown | None:
    """Where the task's data came from, and how much of it was left out."""
    settings = results.settings
    if settings is None:
        return None
    if (dataset := settings["dataset"]) is not None:
        where: str = code(public_path(dataset["path"] or dataset["train_file"]))
    elif settings["glue_dir"] is None:
        known = TASKS.get(results.task)  # another version of acn-lm may know more tasks
        path = known.hub_dataset if known is not None else None
        where = "the Hugging Face Hub" if path is None else link(path, f"https://huggingface.co/datasets/{path}")
    else:
        where = f"local folder {code(public_path(settings['glue_dir']) + '/' + results.task)}"
    for split, name in (("training", "max_train_samples"), ("validation", "max_eval_samples")):
        if settings[name] is not None:
            where += f", at most {settings[name]:,} {split} examples"
    return Markdown(where)
