"""The facts that cards state, as rows and lines. What the files of a run do not say is called not recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from data_pipeline import Manifest, parse_record
from eval.compress import Markdown, code, escape, link, markdown_table, public_path

from ..errors import LaunchError
from .config import PublishConfig
from .licences import OTHER
from .training import Pretraining

TEMPLATES = Path(__file__).parent / "templates"
UNKNOWN = "not recorded"


def without_places(value: Any) -> Any:
    """A JSON value with every absolute path in it shortened to its last two names, and without credentials."""
    if isinstance(value, Mapping):
        return {key: without_places(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_places(inner) for inner in value]
    return public_path(value) if isinstance(value, str) else value


def fact_table(rows: Sequence[tuple[str, Any]]) -> Markdown:
    """A table of two columns; None is a fact that was not recorded."""
    return markdown_table(["", ""], [[name, UNKNOWN if value is None else escape(value)] for name, value in rows])


def number(value: float | None) -> str | None:
    """1,234,567."""
    return None if value is None else f"{value:,.0f}"


def count(size: int, thing: str) -> str:
    """1 file, 2 files."""
    return f"{size:,} {thing}" + ("" if size == 1 else "s")


def licence_line(config: PublishConfig, thing: str) -> Markdown:
    """What may be done with the `thing`, a model or a corpus."""
    if config.license is None:
        return Markdown(f"No licence was given for this {thing}: ask its publisher before you use it.")
    if config.license == OTHER:
        return Markdown(f"The {thing} is under {link(config.license_name, config.license_link or '')}.")
    return Markdown(f"The {thing} is under {code(config.license)}.")


def licence_metadata(config: PublishConfig) -> dict[str, str]:
    """The licence as the Hub's metadata state it."""
    fields = {name: getattr(config, name) for name in ("license", "license_name", "license_link")}
    return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class _SourceFile:
    bytes: int


@dataclass(frozen=True)
class SourceFacts:
    """A source of text, as far as cards speak of it."""

    path: str
    files: list[_SourceFile] | None = None
    """None for a data set of the Hub."""
    name: str | None = None
    split: str | None = None
    revision: str | None = None

    def describe(self) -> Markdown:
        """The source in a line."""
        if self.files is None:
            parts = [self.name, self.split, Markdown(f"revision {code(self.revision)}")]
            details = ", ".join(escape(part) for part in parts if part)
            return Markdown(f"{link(self.path, f'https://huggingface.co/datasets/{self.path}')} ({details})")
        size = sum(file.bytes for file in self.files) / 1e6
        files = f"{count(len(self.files), 'local file')}, {size:,.1f} MB"
        return Markdown(f"{code(public_path(self.path))} ({files})")


def describe_sources(sources: Sequence[SourceFacts]) -> Markdown:
    """Several sources in a line."""
    return Markdown("; ".join(source.describe() for source in sources))


def find_sources(manifest: Manifest | None, split: str) -> list[SourceFacts]:
    """The sources of a split as the corpus' manifest describes them; none where there is no manifest.

    Raises:
        LaunchError: the manifest is damaged there.
    """
    described = manifest.source.get(split, []) if manifest is not None else []
    try:
        return [parse_record(SourceFacts, source) for source in described]
    except ValueError as error:
        raise LaunchError(f"the corpus' manifest.json is damaged: source.{split}: {error}: prepare again") from error


def hub_datasets(manifest: Manifest | None) -> list[str]:
    """The Hub data sets that a corpus was made of."""
    return sorted({source.path for source in find_sources(manifest, "train") if source.files is None})


def pretraining_rows(run: Pretraining) -> list[tuple[str, Any]]:
    """How the weights came about."""
    return [*_corpus_rows(run), *_recipe_rows(run.config), *_course_rows(run)]


def _corpus_rows(run: Pretraining) -> list[tuple[str, Any]]:
    corpus = run.corpus
    if corpus is None:
        data = code(public_path(run.config["data"]))
        return [("corpus", Markdown(f"{data}, whose manifest was not at hand: its text is not known"))]
    train = corpus.split("train")
    return [
        ("corpus", describe_sources(find_sources(corpus, "train"))),
        ("its size", f"{train.documents:,} documents, {train.tokens:,} tokens in blocks of {corpus.seq_length}"),
        ("vocabulary", f"{corpus.tokenizer.vocab_size:,} tokens"),
    ]


def _recipe_rows(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    model, optim, masking = config["model"], config["optim"], config["masking"]
    schedule = config["schedule"]
    values = {
        "lr": optim["lr"], "betas": optim.get("betas"), "eps": optim.get("eps"),
        "weight decay": optim.get("weight_decay"), "gradient clipping": optim.get("grad_clip"),
    }  # fmt: skip
    settings = ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
    shape = (
        f"{model['num_hidden_layers']} layers x {model['hidden_size']}, {model['num_attention_heads']} heads, "
        f"feed-forward {model['intermediate_size']}"
    )
    return [
        ("connectivity", code(model["connectivity"])),
        ("architecture", shape),
        ("objective", f"masked language modelling, {masking['probability']:.0%} of the tokens"),
        ("optimizer", f"{optim.get('name', 'adamw')}: {settings}"),
        ("schedule", f"{schedule.get('name', 'linear')}, warm-up over {schedule['warmup_fraction']:.0%} of the run"),
        ("global batch", f"{config['global_batch_size']:,} blocks"),
        ("seed", config["seed"]),
    ]


def _course_rows(run: Pretraining) -> list[tuple[str, Any]]:
    progress, tags, metrics = run.progress, run.tags, run.metrics
    seconds = progress.get("seconds")
    hosts = tags.get("hosts")
    machines = f" on {count(hosts.count(',') + 1, 'machine')}" if hosts else ""
    hardware = f"{tags['world_size']} x {tags['device']}{machines}" if "device" in tags else None
    versions = ", ".join(
        f"{name.removeprefix('version.')} {value}" for name, value in tags.items() if name.startswith("version.")
    )
    commit = tags.get("git.commit", "")[:12] + (" with changes" if tags.get("git.dirty") == "true" else "")
    epochs = metrics.get("train/epoch")
    seen = number(run.tokens)
    return [
        ("steps", number(progress.get("step"))),
        ("tokens seen", f"{seen} ({epochs:.3g} epochs)" if seen and epochs is not None else seen),
        ("precision, ZeRO stage", f"{progress['precision']}, {progress['zero_stage']}" if progress else None),
        ("hardware", hardware),
        ("time of training", f"{timedelta(seconds=round(seconds))} (hours:minutes:seconds)" if seconds else None),
        ("energy", _energy(run)),
        ("validation loss", metrics.get("validation/loss") and f"{metrics['validation/loss']:.4f}"),
        ("masked accuracy, validation", metrics.get("validation/accuracy") and f"{metrics['validation/accuracy']:.4f}"),
        ("software", versions + (f", acn-lm commit {commit}" if commit else "") if versions else None),
    ]


def _energy(run: Pretraining) -> str:
    if run.energy_kwh is None:
        return "not measured"
    measured = " and ".join(f"{part} ({watts:.0f} W)" for part, watts in run.watts.items())
    return (
        f"about {run.energy_kwh:.3g} kWh, an estimate: the mean power of the {measured} of the first machine over the "
        "time of training; the rest of it, cooling and other machines are not in it"
    )
