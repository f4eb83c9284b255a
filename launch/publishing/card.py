"""The card of a published model: what it is, how to load it at any depth, what it scores, and where it comes from."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from eval import TaskResults, read_results
from eval.compress import classifier_front, cut_body, depth_table, markdown_table, score_entry, suite_table
from eval.tasks import TASKS
from modeling import AcnConfig
from modeling.configuration_acn import AUTO_MAP
from pretrain.checkpoints import step_of

from .config import PublishConfig
from .sections import (
    CITATION,
    PAPER,
    count,
    fact_table,
    hub_datasets,
    licence_metadata,
    licence_section,
    pretraining_section,
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
    def name(self) -> str:
        """The repository without its owner."""
        return self.config.repo_id.partition("/")[2]


def model_card(facts: CardFacts, only: CutModel | None = None) -> str:
    """README.md of the repository, of all its revisions; with `only`, of a repository that holds that cut model."""
    front = _front(facts, only)
    parts = [_about(facts, only), _loading(facts, only), _revisions(facts, only), _results(facts)]
    parts += [_finetuning(facts), pretraining_section(facts.run), _limits(facts)]
    parts += [licence_section(facts.config, "model"), CITATION]
    text = f"---\n{front.to_yaml()}\n---\n\n" + "\n".join(part for part in parts if part)
    ModelCard(text)  # raises where the Hub could not read the metadata
    return text


def _front(facts: CardFacts, only: CutModel | None) -> ModelCardData:
    scores, name = _scores(facts, only), (only.repo_id.partition("/")[2] if only else facts.name)
    results = facts.source.cut or facts.source.results
    datasets = hub_datasets(facts.run.corpus if facts.run else None)
    if results is not None:
        front = classifier_front(results.task, scores, name)
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
    front.base_model = facts.config.repo_id if only else facts.config.base_model
    front.language = facts.config.language
    for key, value in licence_metadata(facts.config).items():
        front[key] = value
    return front


def _scores(facts: CardFacts, only: CutModel | None) -> list[EvalResult]:
    """The scores for `model-index`: of the model itself, and of the cut ones that are published with it."""
    cut, results, run = facts.source.cut, facts.source.results, facts.run
    if cut is not None:
        return [score_entry(cut.task, cut.metric, cut.score)]
    if results is not None:
        layers = len(results.depth_scores) - 1
        depths = [only.depth] if only else [layers, *(cut.depth for cut in facts.cuts)]
        return [
            score_entry(
                results.task, results.metric, results.depth_scores[depth],
                f"{results.metric}, {depth} of {layers} layers",
            )
            for depth in depths
        ]  # fmt: skip
    if run is None or not run.whole or facts.pipeline != "fill-mask" or not run.by_depth():
        return []
    corpus = Path(run.config["data"]).name  # with a slash it would look like a data set on the Hub
    return [
        EvalResult(
            task_type="fill-mask",
            dataset_type=(hub_datasets(run.corpus) or [corpus])[0],
            dataset_name=f"held-out text of {corpus}",
            dataset_split="validation",
            metric_type="accuracy",
            metric_name="accuracy on masked tokens" + (f", {only.depth} layers" if only else ""),
            metric_value=round(run.by_depth()[only.depth if only else -1], 4),
        )
    ]


def _about(facts: CardFacts, only: CutModel | None) -> str:
    cut, results, model = facts.source.cut, facts.source.results, facts.model
    if cut is not None:
        base = facts.config.base_model or public_path(cut.model)
        return cut_body(replace(cut, model=base, source=public_path(cut.source)))
    family = f"of the Auto-Compressing Network family ({PAPER}, connectivity `{model.connectivity}`)"
    shape = f"{model.num_hidden_layers} layers x {model.hidden_size}, {facts.params:,} parameters"
    if results is not None:
        base = facts.config.base_model or public_path(results.model)
        text = f"A text classifier {family}, fine-tuned on {results.task} from `{base}`: {shape}."
    elif facts.pipeline == "fill-mask":
        text = f"A masked language model {family}: {shape}."
    else:
        text = f"A model {family} for {facts.pipeline}: {shape}."
    title = f"# {only.repo_id.partition('/')[2] if only else facts.name}\n\n"
    if only is not None:
        whole = f"[{facts.config.repo_id}](https://huggingface.co/{facts.config.repo_id})"
        title += (
            f"**This repository holds the first {only.depth} of {model.num_hidden_layers} layers of {whole}, "
            f"{only.params:,} parameters.** The rest of this card is about the whole model.\n\n"
        )
    return title + text + f"\n\nThe first k layers are a model too, at every depth k = 0..{model.num_hidden_layers}.\n"


def _loading(facts: CardFacts, only: CutModel | None) -> str:
    """Code that runs as it stands, which the tests do."""
    layers = only.depth if only else facts.model.num_hidden_layers
    depth = facts.cuts[0].depth if facts.cuts and not only else layers // 2
    repo, auto = only.repo_id if only else facts.config.repo_id, facts.auto_class
    lines = [f"from transformers import {auto}, AutoTokenizer, pipeline", "", f'name = "{repo}"']
    if facts.pipeline == "fill-mask":
        lines += [
            'fill = pipeline("fill-mask", model=name, trust_remote_code=True)',
            'fill(f"the {fill.tokenizer.mask_token} sat on the mat")', "",
        ]  # fmt: skip
    elif facts.pipeline == "text-classification":
        lines += [
            'classify = pipeline("text-classification", model=name, trust_remote_code=True)',
            'classify("a sentence to classify")', "",
        ]  # fmt: skip
    lines += [
        "tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=True)",
        f"model = {auto}.from_pretrained(name, trust_remote_code=True)",
        'inputs = tokenizer("a sentence", return_tensors="pt")',
        "model(**inputs)",
    ]
    depths = [
        f"model(**inputs, depth={depth})  # run {count(depth, 'layer')} only: any depth 0..{layers}, at run time",
        "# never load the other layers",
        f"small = {auto}.from_pretrained(name, num_hidden_layers={depth}, trust_remote_code=True)",
    ]
    if layers > 0:  # embeddings alone have one depth
        lines += depths
    if facts.cuts and not only:
        where = facts.cuts[0]
        chosen = f'"{where.repo_id}"' if facts.config.cuts == "siblings" else f'name, revision="{where.revision}"'
        lines.append("# never download them")
        lines.append(f"small = {auto}.from_pretrained({chosen}, trust_remote_code=True)")
    note = (
        "transformers 5 is all it needs: the model's code is in the repository. `trust_remote_code=True` runs it, so "
        "look at it first; `code_revision=` pins it to a commit. A private repository needs `hf auth login`.\n"
    )
    return "## How to load it\n\n```python\n" + "\n".join(lines) + f"\n```\n\n{note}"


def _revisions(facts: CardFacts, only: CutModel | None) -> str:
    if only is not None or not (facts.cuts or facts.steps):
        return ""
    siblings = facts.config.cuts == "siblings"
    rows: list[list[Any]] = [["`main`", f"all {facts.model.num_hidden_layers} layers", f"{facts.params:,}"]]
    for cut in facts.cuts:
        where = f"[{cut.repo_id}](https://huggingface.co/{cut.repo_id})" if siblings else f"`{cut.revision}`"
        rows.append([where, f"the first {count(cut.depth, 'layer')}", f"{cut.params:,}"])
    for name in facts.steps:
        step = step_of(name)
        rows.append([f"`{name}`", f"all layers, after {step:,} steps of pretraining", f"{facts.params:,}"])
    return "## Revisions\n\n" + markdown_table(["revision", "what", "parameters"], rows) + "\n"


def _results(facts: CardFacts) -> str:
    source, parts = facts.source, []
    tasks = [read_results(folder) for folder in source.suite]
    if tasks:
        parts.append(_suite_text(source) + "\n\n" + suite_table(tasks))
        parts.append(
            "Scores are on validation splits. *All layers* and *cut* are means over the seeds (± their standard "
            "deviation); *cut* is the smallest depth whose mean is within the suite's tolerance; *majority class* is "
            "what always answering the commonest label scores."
        )
    else:
        parts.append("No results of fine-tuning on GLUE were at hand when this card was written.")
    if source.results is not None:
        of = "the model that this one was cut from" if source.cut else f"this model ({source.results.how_selected})"
        parts.append(f"Every depth of {of}:\n\n{depth_table(source.results)}")
    elif source.cut is not None:
        parts.append("The scores of the other depths were not at hand when this card was written.")
    parts += [f"![{what}]({file})" for file, what in facts.figures.items()]
    return "## Results\n\n" + "\n\n".join(parts) + "\n"


def _suite_text(source: Source) -> str:
    if source.kind == "pretrained":
        return "Fine-tuned from this model, by task:"
    return "The suite that this model belongs to, by task:"


def _finetuning(facts: CardFacts) -> str:
    if facts.source.kind == "pretrained":
        return ""
    title, results = "## How it was fine-tuned\n\n", facts.source.results
    if results is None:
        return title + "The record of the fine-tuning was not at hand when this card was written.\n"
    train = results.train
    named = ("samples", "epochs", "steps", "optimizer", "schedule", "learning_rate", "batch_size", "weight_decay",
             "warmup_fraction", "device", "ranks", "seconds")  # fmt: skip
    rows = [("task", results.task), ("data", _finetuning_data(results)), ("seed of this model", results.seed)]
    rows += [("tokens per example, at most", results.seq_length)]
    rows += [(_NAMES.get(name, name.replace("_", " ")), train.get(name)) for name in named]
    return title + fact_table(rows) + "\n"


def _finetuning_data(results: TaskResults) -> str | None:
    """Where the task's data came from, and how much of it was left out."""
    settings = results.settings
    if settings is None:
        return None
    if settings["dataset"] is not None:
        where = f"`{public_path(settings['dataset']['path'])}`"
    elif settings["glue_dir"] is None:
        known = TASKS.get(results.task)  # another version of acn-lm may know more tasks
        path = known.hub_dataset if known is not None else None
        where = "the Hugging Face Hub" if path is None else f"[{path}](https://huggingface.co/datasets/{path})"
    else:
        where = f"local folder `{public_path(settings['glue_dir'])}/{results.task}`"
    for split, name in (("training", "max_train_samples"), ("validation", "max_eval_samples")):
        if settings[name] is not None:
            where += f", at most {settings[name]:,} {split} examples"
    return where


def _limits(facts: CardFacts) -> str:
    source, run, model = facts.source, facts.run, facts.model
    points = ["Nothing was measured of bias, toxicity or safety: the model may repeat what its training text says."]
    if run is not None and run.tokens is not None:
        points.append(f"It was pretrained on {run.tokens:,.0f} tokens, with one seed ({run.config['seed']}).")
    if model.position_embedding_type == "absolute":
        points.append(f"It reads at most {model.max_position_embeddings} tokens.")
    if source.kind == "pretrained" and facts.pipeline == "fill-mask":
        points.append(
            "It is an encoder to be fine-tuned. It does not write text, and its depths were not trained apart."
        )
    if source.kind != "pretrained":
        points.append(
            "Its scores are on the validation split, which was also used to choose among seeds and depths: expect a "
            "little less on other text."
        )
    if facts.config.language is None:
        points.append("The language of its text was not stated.")
    return "## Limits\n\n" + "\n".join(f"- {point}" for point in points) + "\n"
