"""The folders of a published model: the whole one, cut ones, and those of intermediate checkpoints."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save

import modeling
from data_pipeline import drop_local_fields, file_sha256, hide_credentials, write_json
from eval import CUT_FILE, FIGURE_FILE, RESULTS_FILE, is_at_chance, quiet_transformers, read_json
from modeling import AcnConfig, divergence
from pretrain.checkpoints import export_checkpoint, find_checkpoint, find_tokenizer, step_name

from ..errors import LaunchError
from .card import CardFacts, CutModel, model_card
from .config import PublishConfig
from .facts import without_places
from .files import REVISIONS, SIBLINGS, Publication, Target, place
from .source import Source, steps_of, weight_files
from .training import Pretraining, read_pretraining

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt")
_PICTURE = "pretraining.png"


def write_model_publication(folder: Path, config: PublishConfig, source: Source) -> Publication:
    """Fill `folder` with the model, its card and figures, and `revisions/` or `siblings/` with cut models.

    Raises:
        LaunchError: the weights are not those of the configuration.
        DataError: a checkpoint is to be exported, and the corpus with its tokenizer is gone.
    """
    model = write_model(source.folder, folder)
    run = None if source.run is None else read_pretraining(source.run, source.whole_run)
    facts = CardFacts(config, source, model.config, _parameters(model), run)
    facts.figures = _write_figures(folder, source)
    published = Publication([Target(folder, config.repo_id)], list(source.notes))
    if config.wanted_depths is None and _is_left_whole(source):
        published.notes.append("the model is at chance, so it is published whole (--depths cuts it all the same)")
    cut_targets = list(_write_cuts(folder, model, facts))
    step_targets = list(_write_steps(folder, config, source))
    facts.steps = [target.revision for target in step_targets]
    _write_records(folder, source, facts.run)
    (folder / "README.md").write_text(model_card(facts), encoding="utf-8")
    for target, cut in zip(cut_targets, facts.cuts, strict=True):
        _add_shared(folder, target.folder)
        if config.cuts == "siblings":
            (target.folder / "README.md").write_text(model_card(facts, only=cut), encoding="utf-8")
    for target in step_targets:
        _add_shared(folder, target.folder)
    published.targets += [*cut_targets, *step_targets]
    return published


def write_model(source: Path, folder: Path) -> PreTrainedModel:
    """Weights, configuration with its full `auto_map`, code and tokenizer of a model folder; returns the model.

    Raises:
        LaunchError: the weights are not those of the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model(source)
    with quiet_transformers():
        # what `model.save_pretrained` does besides writing the weights, which are taken over byte by byte
        custom_object_save(model, folder, config=model.config)
        model.config.save_pretrained(folder)
    for path in [*weight_files(source), *source.glob("*.safetensors.index.json"), *source.glob("*.onnx")]:
        place(source, path.name, folder / path.name)
    _copy_tokenizer(source, folder)
    return model


def load_model(folder: Path) -> PreTrainedModel:
    """The model in `folder`, with the head that its configuration names.

    Raises:
        LaunchError: the weights are not those of the configuration.
    """
    name = (AcnConfig.from_pretrained(folder).architectures or ["AcnModel"])[0]
    if not hasattr(modeling, name):
        raise LaunchError(f"{folder}/config.json: architectures={name} is no model of this family: export it again")
    try:
        with quiet_transformers():
            model, info = getattr(modeling, name).from_pretrained(folder, output_loading_info=True)
    except Exception as error:  # a broken or foreign weights file surfaces in many classes
        raise LaunchError(f"{folder}: its weights cannot be loaded ({error}): export it again") from error
    if lacking := sorted(info["missing_keys"]):
        raise LaunchError(f"{folder}: weights are missing ({', '.join(lacking[:3])}): export it again")
    if (found := divergence(model)) is not None:
        raise LaunchError(f"{folder}: {found}: its training diverged, publish another model")
    return model.eval()


def _parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for name in _TOKENIZER:
        if (source / name).is_file():
            place(source, name, folder / name)
    drop_local_fields(folder)


def _write_figures(folder: Path, source: Source) -> dict[str, str]:
    """Copy the depth curves of the results and the picture of the run; what each file shows."""
    figures = {}
    for task in source.suite:
        if (task / FIGURE_FILE).is_file():
            name = f"figures/depth-{task.name}.png"
            place(task, FIGURE_FILE, folder / name)
            figures[name] = f"{task.name}: score of every depth"
    if source.run is not None and (source.run / _PICTURE).is_file():
        place(source.run, _PICTURE, folder / "figures" / _PICTURE)
        figures[f"figures/{_PICTURE}"] = "The pretraining: loss, and masked accuracy of every depth"
    return figures


def _write_records(folder: Path, source: Source, run: Pretraining | None) -> None:
    """The numbers behind the card: results of every task and seed, and the recipe of the run."""
    if source.cut is not None:
        digests = {name: file_sha256(path) for name in source.cut.files or {} if (path := folder / name).is_file()}
        write_json(folder / CUT_FILE, without_places(replace(source.cut, files=digests or None).to_json()))
    for task in source.suite:
        write_json(folder / "results" / f"{task.name}.json", without_places(read_json(task / RESULTS_FILE)))
    if run is not None:
        text = hide_credentials(yaml.safe_dump(run.recipe(), sort_keys=False))
        (folder / "recipe.yaml").write_text(text, encoding="utf-8")


def _add_shared(main: Path, folder: Path) -> None:
    """What every revision has alike: the card, figures and records. Files that `folder` has of its own stay."""
    shared = ["README.md", "recipe.yaml", CUT_FILE, *(f"{name}/*" for name in ("figures", "results"))]
    for path in (path for pattern in shared for path in main.glob(pattern)):
        name = path.relative_to(main).as_posix()
        if not (folder / name).exists():
            place(main, name, folder / name)


def _is_left_whole(source: Source) -> bool:
    """Whether a fine-tuned model has learned too little to be cut."""
    return source.kind == "finetuned" and source.results is not None and is_at_chance(source.results)


def _depths(facts: CardFacts) -> list[int]:
    """The depths to cut at where none are given: where the sweep of a fine-tuned model says, if it has learned."""
    results, source = facts.source.results, facts.source
    if results is None or source.kind != "finetuned" or _is_left_whole(source):
        return []
    if results.cut_depth == facts.model.num_hidden_layers:
        return []
    return [results.cut_depth]


def _write_cuts(folder: Path, model: Any, facts: CardFacts) -> Iterator[Target]:
    """Cut `model` at one depth after the other, deepest first, and note each in `facts`."""
    config, layers = facts.config, model.config.num_hidden_layers
    facts.model = AcnConfig.from_dict(model.config.to_dict())  # the whole model's: cutting changes its own
    depths = _depths(facts) if config.wanted_depths is None else config.wanted_depths
    for depth in depths:
        name = f"depth-{depth:0{max(2, len(str(layers)))}d}"
        sibling = config.cuts == "siblings"
        repo_id, revision = (f"{config.repo_id}-{name}", "main") if sibling else (config.repo_id, name)
        target = folder / (SIBLINGS if sibling else REVISIONS) / name
        model.truncate(depth)
        with quiet_transformers():
            model.save_pretrained(target)
        _copy_tokenizer(facts.source.folder, target)
        facts.cuts.append(CutModel(depth, _parameters(model), repo_id, revision))
        yield Target(target, repo_id, revision)


def _write_steps(folder: Path, config: PublishConfig, source: Source) -> Iterator[Target]:
    """The intermediate checkpoints that were asked for, whole."""
    if config.steps is None:
        return
    run, wanted = Path(config.model), config.wanted_steps
    for step in steps_of(run) if wanted == "all" else wanted:
        name = step_name(step)
        target = folder / REVISIONS / name
        with _exported(run, name, config.trust_checkpoint) as model:
            write_model(model, target)
        yield Target(target, config.repo_id, name)


@contextmanager
def _exported(run: Path, name: str, trusted: bool) -> Iterator[Path]:
    """RUN/models/step-N, or the checkpoint of that step exported for the time being."""
    if (run / "models" / name / "config.json").is_file():
        yield run / "models" / name
        return
    checkpoint = find_checkpoint(run / "checkpoints" / name, trusted)
    with tempfile.TemporaryDirectory(dir=run, prefix=".publish-") as scratch:
        yield export_checkpoint(checkpoint, Path(scratch) / name, find_tokenizer(checkpoint))
