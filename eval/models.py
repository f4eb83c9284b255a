"""Models in Hugging Face layout, in folders or on the Hub: loaded as classifiers with everything checked, and saved.

A model of the BERT line needs no conversion: it is the connectivity `residual` with its own weights, and is saved as
one of this family.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.utils import logging

from data_pipeline import DataError, Problem, file_sha256, find_model, name_problem, new_folder, save_tokenizer
from modeling import (
    AcnConfig,
    AcnForSequenceClassification,
    AcnModel,
    AcnPreTrainedModel,
    choose_attention,
    divergence,
    head_of,
    load_model,
    model_type_of,
    read_config,
)

from .errors import Diverged, EvalError
from .files import read_json
from .results import ModelOrigin, check_files, find_cut, find_results
from .tasks import Task

# what pretraining does not train and fine-tuning starts afresh
_NEW_WEIGHTS = ("pooler.", "classifier.")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars, and no warnings that a new head is new: what matters in them is checked here instead."""
    if not torch.cuda.is_available():  # accelerate imports DeepSpeed, which warns when it has to guess that
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def name_model(model: str) -> str:
    """What finds the same model again from anywhere: the absolute path of a folder, or NAME@COMMIT of the Hub."""
    found = find_model(model)
    return os.path.abspath(model) if found.hub_name is None else found.name


def pin_model(model: str) -> str:
    """`model` with its commit where it is on the Hub: all that is done with it then is done with the same files.

    Raises:
        DataError: `model` is neither a folder nor a model of the Hub that can be had.
    """
    found = find_model(model)
    return model if found.hub_name is None else found.name


def model_origin(model: str) -> ModelOrigin:
    """What a record says of the model that was taken."""
    found = find_model(model)
    return ModelOrigin(model_type_of(found.path), found.hub_name, found.revision)


def weights_of(model: str) -> list[str]:
    """The sha256 of a model's files of weights, safetensors where there are any."""
    folder = find_model(model).path
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    return [file_sha256(path) for path in files]


def read_model_config(model: str) -> AcnConfig:
    """The configuration of a model of this family or of the BERT line, whose files are those its record speaks of.

    Args:
        model: a folder, or NAME[@REVISION] of the Hub.

    Raises:
        EvalError: `model` is no model folder, its model is of another line, or what fine-tuning or cutting wrote there
            was changed since.
        DataError: it is not there, or the Hub does not give it.
    """
    path = find_model(model).path
    _check_files(path)
    if not (path / "config.json").is_file():
        raise EvalError(
            f"model={model} is not a model folder (no config.json in it): give RUN/model, a fine-tuned one, or a name "
            "on the Hub"
        )
    read_json(path / "config.json")  # says so where it is damaged
    try:
        kind = model_type_of(path)
    except ValueError as error:
        raise EvalError(Problem("model", model, str(error), "give one of these")) from error
    if kind == AcnConfig.model_type and (record := find_cut(path) or find_results(path)) is not None:
        check_files(path, record)
    try:
        return read_config(path)
    except Exception as error:  # strict validation raises its own classes
        if kind != AcnConfig.model_type:
            raise EvalError(Problem("model", model, f"cannot be taken: {error}", "give another one")) from error
        raise EvalError(f"{path / 'config.json'} is not valid: {error}") from error


def _check_files(folder: Path) -> None:
    """Raise `EvalError` for what is no file to read, a pipe for instance, and for weights of other folders."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise EvalError(f"model={folder}: {path.name} is neither a regular file nor a folder: remove it")
        if path.name.endswith(".index.json") and path.is_file():
            parts = read_json(path)
            names = parts.get("weight_map", {}) if isinstance(parts, dict) else {}
            for name in names.values() if isinstance(names, dict) else [names]:
                if (wrong := name_problem(name, plain=True)) is not None:
                    raise EvalError(f"{path} names the weights {str(name)[:200]!r}, which {wrong}: export it again")


def most_tokens(config: AcnConfig) -> int | None:
    """The longest text that a model reads; None where positions are rotations, which have no end."""
    return config.max_position_embeddings if config.position_embedding_type == "absolute" else None


def load_tokenizer(model: str, config: AcnConfig) -> Any:
    """The tokenizer saved beside a model, which pads on the right: positions count from the left.

    Raises:
        EvalError: there is none, or it has ids that the model's embeddings lack.
    """
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(find_model(model).path, trust_remote_code=False)
    except DataError:
        raise
    except Exception as error:  # a missing or broken file surfaces in many classes
        raise EvalError(f"model={model} has no usable tokenizer ({error}): save it into this folder") from error
    if len(tokenizer) > config.vocab_size:
        raise EvalError(
            f"model={model}: the tokenizer has {len(tokenizer)} ids, the model embeds {config.vocab_size}: "
            "put the tokenizer that the model was trained with into this folder"
        )
    tokenizer.padding_side = "right"
    if config.type_vocab_size < 2:  # DistilBERT shares BERT's tokenizer, which tells sentences apart
        names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer


def _load(model: str, precision: str, **fields: Any) -> tuple[AcnForSequenceClassification, list[str]]:
    """A classifier with weights in float32, whatever they are stored or products computed in, and which are new."""
    folder, attention = find_model(model).path, choose_attention(precision)
    try:
        with quiet_transformers():
            classifier, new = load_model(AcnForSequenceClassification, folder, attn_implementation=attention, **fields)
    except Exception as error:  # a missing, broken or foreign weights file surfaces in many classes
        raise EvalError(f"model={model}: its weights cannot be loaded ({error}): export it again") from error
    if (found := divergence(classifier)) is not None:
        raise EvalError(f"model={model}: {found}: its training diverged, take another model")
    return classifier, new


def _check_complete(model: str, lacking: list[str]) -> None:
    if lacking:
        shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        raise EvalError(f"model={model}: weights are missing or misshapen ({shown}): export it again")


def load_for_task(model: str, task: Task, precision: str = "fp32") -> AcnForSequenceClassification:
    """A pretrained encoder with a new classifier for `task`, in float32; seed torch first.

    Args:
        model: see `read_model_config`.
        precision: what it is going to compute in, which decides the attention.

    Raises:
        EvalError: the weights are not those of the configuration.
    """
    names = task.labels or ("score",)
    classifier, new = _load(
        model,
        precision,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        problem_type="regression" if task.is_regression else "single_label_classification",
    )
    _check_complete(model, [name for name in new if not name.startswith(_NEW_WEIGHTS)])
    return classifier


def load_finetuned(model: str, precision: str = "fp32") -> AcnForSequenceClassification:
    """A fine-tuned classifier, in float32 and evaluation mode.

    Args:
        model: see `read_model_config`.
        precision: what it is going to compute in, which decides the attention.

    Raises:
        EvalError: the weights are not those of the configuration.
    """
    classifier, new = _load(model, precision)
    _check_complete(model, new)
    return classifier.eval()


def write_model(model: str, output: Path, depth: int | None = None) -> int:
    """Write a model as one of this family, with its head if it has one of ours, into the new folder `output`.

    Args:
        model: see `read_model_config`.
        depth: keep the first `depth` layers; None for all.

    Returns:
        How many layers `model` has.

    Raises:
        EvalError: `depth` is outside of them, or files of the model are damaged or missing.
    """
    config = read_model_config(model)
    layers, folder = config.num_hidden_layers, find_model(model).path
    if depth is not None and not 0 <= depth <= layers:
        raise EvalError(f"depth={depth} is outside 0..{layers}, the depths of this model")
    tokenizer = load_tokenizer(model, config)
    try:
        with quiet_transformers():
            loaded, new = load_model(head_of(folder), folder)
    except Exception as error:  # a missing, broken or foreign weights file surfaces in many classes
        raise EvalError(f"model={model}: its weights cannot be loaded ({error}): get it again") from error
    if new and all(name.startswith("pooler.") for name in new) and isinstance(loaded, AcnModel):
        loaded.pooler, new = None, []  # better none than a random one
    _check_complete(model, new)
    if depth is not None:
        loaded.truncate(depth)
    with new_folder(output) as aside:
        save_model(aside, loaded, tokenizer)
    return layers


def class_names(config: AcnConfig) -> list[str]:
    """The names of a fine-tuned model's outputs, in their order."""
    return [str(config.id2label[number]) for number in range(config.num_labels)]


def best_device() -> torch.device:
    """A GPU if this machine has one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def save_model(folder: Path, model: AcnPreTrainedModel, tokenizer: Any) -> dict[str, str]:
    """Write weights, configuration and tokenizer into `folder`; returns the sha256 of weights and tokenizer by file.

    Raises:
        Diverged: the model has.
    """
    if (found := divergence(model)) is not None:
        raise Diverged(f"the trained model has diverged, {found}: lower learning_rate")
    with quiet_transformers():
        model.save_pretrained(folder)
        written = save_tokenizer(tokenizer, folder)
    files = sorted({*folder.glob("*.safetensors*"), *written})
    return {path.name: file_sha256(path) for path in files}
