"""A run that starts from a model: of this family or of the BERT line, in a folder or on the Hub.

Its sizes come with its weights, and so do properties that no option of pretraining names. A model that goes on under
another connectivity begins with the same weights.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from data_pipeline import DataError, ModelFolder, Problem, find_model, load_tokenizer, vocabulary_of
from modeling import (
    AcnConfig,
    AcnForMaskedLM,
    load_model,
    model_type_of,
    non_finite_weights,
    read_config,
    wiring_problem,
)

from ..config import ModelConfig, PretrainConfig
from ..errors import PretrainError
from .export import find_checkpoint
from .folder import MARKER, Progress, marked_folders, newest_complete

Config = TypeVar("Config", bound=PretrainConfig)

FREE = frozenset(
    ("connectivity", "hybrid_init", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
)
"""What a run may choose, whatever model it starts from."""
INHERITED = (
    "vocab_size", "type_vocab_size", "layer_norm_eps", "classifier_dropout", "classifier_activation", "head_dim",
)  # fmt: skip
"""What comes from the model and has no option."""
_OPTIONS = tuple(option.name for option in fields(ModelConfig))


@dataclass(frozen=True)
class StartingModel:
    """The model that `init_from` names. A run takes its weights and nothing else, as from a checkpoint of another."""

    folder: ModelFolder

    branch = False

    @cached_property
    def config(self) -> AcnConfig:
        """Its configuration; one of the BERT line as this family's."""
        return read_config(self.folder.path)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the configuration that a run takes over."""
        return {name: getattr(self.config, name) for name in (*_OPTIONS, *INHERITED) if name not in FREE}

    def problems(self, progress: Progress) -> list[Problem]:
        """Why a run that would begin with `progress` cannot start from here, each with its fix."""
        name, found = self.folder.name, []
        connectivity = progress.model["connectivity"]
        if (wrong := wiring_problem(connectivity, self.config)) is not None:
            found.append(Problem("model.connectivity", connectivity, wrong, f"use another, or another than {name}"))
        if not self.config.tie_word_embeddings:
            found.append(Problem("init_from", name, "has a decoder of its own, which pretraining ties to the words"))
        try:
            tokenizer = load_tokenizer(str(self.folder.path))
        except DataError as error:
            return [*found, Problem("init_from", name, f"has no tokenizer of use ({error})", "put it into the folder")]
        vocabulary = vocabulary_of(tokenizer)
        if vocabulary.vocab_size > self.config.vocab_size:
            wrong = f"embeds {self.config.vocab_size} ids, its tokenizer has {vocabulary.vocab_size}"
            found.append(Problem("init_from", name, wrong, "put its own tokenizer into the folder"))
        if vocabulary.fingerprint != progress.order["tokenizer"]:
            fix = f"prepare the corpus with `acn prepare --tokenizer {name}`"
            found.append(Problem("init_from", name, "was trained with another tokenizer than that of `data`", fix))
        elif (pad := progress.model["pad_token_id"]) != self.config.pad_token_id:
            wrong = f"pads with token {self.config.pad_token_id}, its tokenizer with {pad}"
            found.append(Problem("init_from", name, wrong, "put its own tokenizer into the folder"))
        return found

    def give_weights(self, model: AcnForMaskedLM) -> str:
        """Begin `model`, which has these sizes, with the weights here; says where they are from and which are new.

        Raises:
            PretrainError: the weights are damaged, missing or not finite.
        """
        name = self.folder.name
        try:
            source, new = load_model(AcnForMaskedLM, self.folder.path, model.config.connectivity)
        except Exception as error:  # a missing, broken or foreign file surfaces in many classes
            wrong = f": its weights cannot be loaded ({error})"
            raise PretrainError(Problem("init_from", name, wrong, "get it again")) from error
        if lacking := [weight for weight in new if weight.startswith("acn.")]:
            wrong = f": weights are missing or misshapen ({', '.join(lacking[:3])})"
            raise PretrainError(Problem("init_from", name, wrong, "get it again"))
        own = model.state_dict()
        kept = {weight for weight in own if weight in new or weight.endswith("shortcut.scale")}
        model.load_state_dict(own | {key: value for key, value in source.state_dict().items() if key not in kept})
        if (found := non_finite_weights(model)) is not None:
            raise PretrainError(Problem("init_from", name, f": {found}", "start from another model"))
        said = f"{name} ({model_type_of(self.folder.path)}, {self.config.connectivity})"
        return f"{said}, which has no masked-language-model head: a new one begins at random" if new else said


def starts_from_model(init_from: str | None) -> bool:
    """Whether `init_from` names a model, and not a run or a checkpoint of one."""
    return init_from is not None and not ((Path(init_from) / MARKER).is_file() or marked_folders(Path(init_from)))


def find_starting_model(init_from: str) -> StartingModel:
    """The model that `init_from` names.

    Raises:
        PretrainError: it is no model, or one that this family cannot go on with.
        DataError: it is on the Hub, and cannot be had.
    """
    folder = find_model(init_from, "init_from")
    if not (folder.path / "config.json").is_file():
        wrong = f"is neither a run or checkpoint (no {MARKER} marker) nor a model folder (no config.json)"
        raise PretrainError(Problem("init_from", init_from, wrong, "give a run, RUN/model, or NAME of the Hub"))
    found = StartingModel(folder)
    try:
        _ = found.config
    except Exception as error:  # strict validation raises its own classes
        what = error if str(error).startswith("is of") else f": {error}"
        raise PretrainError(Problem("init_from", folder.name, str(what), "start from another model")) from error
    return found


def _source_fields(config: PretrainConfig) -> dict[str, Any]:
    """The model fields of where a run's weights come from: its own checkpoint, else a model, else another run."""
    resumed = newest_complete(Path(config.output))
    if resumed is not None:  # whatever has become of the model since
        return resumed.progress.model
    if starts_from_model(config.init_from):
        return find_starting_model(config.init_from or "").fields
    try:
        run = config.branch_from or config.init_from
        return {} if run is None else find_checkpoint(Path(run)).progress.model
    except PretrainError:  # `find_origin` says so
        return {}


def _taken_fields(config: PretrainConfig) -> dict[str, Any] | None:
    """What comes with the weights; None for a run that does not start from a model."""
    if not starts_from_model(config.init_from):
        return None
    return {name: value for name, value in _source_fields(config).items() if name not in FREE}


def size_problems(config: PretrainConfig) -> list[Problem]:
    """Options of the model that say otherwise than the model that the run starts from; or why there is none.

    An option that has its default counts as left out.
    """
    try:
        taken = _taken_fields(config)
    except (PretrainError, DataError) as error:
        return error.problems
    return [
        Problem(f"model.{name}", given, f"is not {config.init_from}'s, which has {taken[name]}", "leave it out")
        for name, given in _given(config.model).items()
        if taken is not None and name in taken and taken[name] != given
    ]


def _given(model: ModelConfig) -> dict[str, Any]:
    default = ModelConfig()
    return {name: value for name in _OPTIONS if (value := getattr(model, name)) != getattr(default, name)}


def with_sizes(config: Config) -> Config:
    """`config` with the sizes and the commit of the model that it starts from, and the commit of a teacher; as it is
    where those are wrong, or none.

    The same for a configuration that has them already.
    """
    config = _with_teacher(config)
    if size_problems(config) or (taken := _taken_fields(config)) is None:
        return config
    sizes = {name: taken[name] for name in _OPTIONS if name in taken}
    config = replace(config, model=replace(config.model, **sizes))
    try:
        return replace(config, init_from=find_model(config.init_from or "", "init_from").name)
    except DataError:  # a run that is resumed needs it no more
        return config


def _with_teacher(config: Config) -> Config:
    """`config` with the commit of the model that teaches, so that a run that is resumed has the same teacher."""
    if (name := config.teacher.model) is None or not starts_from_model(name):
        return config
    try:
        pinned = find_model(name, "teacher.model").name
    except DataError:  # `find_teacher` says so
        return config
    return replace(config, teacher=replace(config.teacher, model=pinned))


def inherited_fields(config: PretrainConfig) -> dict[str, Any]:
    """What the `AcnConfig` of a run has that no option names, besides what the corpus says.

    Raises:
        PretrainError, DataError: see `find_starting_model`.
    """
    source = _source_fields(config)
    is_from_model = "layer_norm_eps" in source  # other runs have what the options and the corpus say
    return {name: source[name] for name in INHERITED if name in source} if is_from_model else {}
