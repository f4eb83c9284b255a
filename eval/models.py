"""Model folders in Hugging Face layout: loading them as classifiers with everything checked, and saving them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.utils import logging

from data_pipeline import file_sha256, name_problem, save_tokenizer
from modeling import AcnConfig, AcnForSequenceClassification, choose_attention, divergence

from .errors import EvalError
from .files import read_json
from .results import check_files, find_cut, find_results
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


def read_model_config(folder: str) -> AcnConfig:
    """The configuration of the ACN-family model in `folder`, whose files are those that its record speaks of.

    Raises:
        EvalError: `folder` is not a model folder, its model is of another family, or what fine-tuning or cutting wrote
            there was changed since.
    """
    path = Path(folder)
    _check_files(path)
    if not (path / "config.json").is_file():
        raise EvalError(
            f"model={folder} is not a model folder (no config.json in it): give RUN/model, or a fine-tuned one"
        )
    content = read_json(path / "config.json")
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind != AcnConfig.model_type:
        raise EvalError(
            f"model={folder} is of model_type {kind!r}, not {AcnConfig.model_type!r}: give one of this family"
        )
    if (record := find_cut(path) or find_results(path)) is not None:
        check_files(path, record)
    try:
        return AcnConfig.from_pretrained(folder)
    except Exception as error:  # strict validation raises its own classes
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


def load_tokenizer(folder: str, config: AcnConfig) -> Any:
    """The tokenizer saved beside a model.

    Raises:
        EvalError: there is none, or it has ids that the model's embeddings lack.
    """
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # a missing or broken file surfaces in many classes
        raise EvalError(f"model={folder} has no usable tokenizer ({error}): save it into this folder") from error
    if len(tokenizer) > config.vocab_size:
        raise EvalError(
            f"model={folder}: the tokenizer has {len(tokenizer)} ids, the model embeds {config.vocab_size}: "
            "put the tokenizer that the model was trained with into this folder"
        )
    return tokenizer


def _load(folder: str, precision: str, **kwargs: Any) -> tuple[AcnForSequenceClassification, dict[str, Any]]:
    attention = choose_attention(precision)
    try:
        with quiet_transformers():
            # a checkpoint may be stored in half precision; weights are float32 here, whatever products are computed in
            model, info = AcnForSequenceClassification.from_pretrained(
                folder, dtype=torch.float32, attn_implementation=attention, output_loading_info=True, **kwargs
            )
    except Exception as error:  # a missing, broken or foreign weights file surfaces in many classes
        raise EvalError(f"model={folder}: its weights cannot be loaded ({error}): export it again") from error
    if (found := divergence(model)) is not None:
        raise EvalError(f"model={folder}: {found}: its training diverged, take another model")
    return model, info


def _check_complete(folder: str, lacking: list[str]) -> None:
    if lacking:
        shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        raise EvalError(f"model={folder}: weights are missing or misshapen ({shown}): export it again")


def load_for_task(folder: str, task: Task, precision: str = "fp32") -> AcnForSequenceClassification:
    """A pretrained encoder with a new classifier for `task`, in float32; seed torch first.

    Args:
        precision: what it is going to compute in, which decides the attention.

    Raises:
        EvalError: the folder's weights are not those of its configuration.
    """
    names = task.labels or ("score",)
    model, info = _load(
        folder,
        precision,
        num_labels=task.num_labels,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        problem_type="regression" if task.is_regression else "single_label_classification",
        ignore_mismatched_sizes=True,
    )
    mismatched = [key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]]
    _check_complete(folder, sorted(k for k in {*info["missing_keys"], *mismatched} if not k.startswith(_NEW_WEIGHTS)))
    return model


def load_finetuned(folder: str, precision: str = "fp32") -> AcnForSequenceClassification:
    """A fine-tuned classifier, in float32 and evaluation mode.

    Args:
        precision: what it is going to compute in, which decides the attention.

    Raises:
        EvalError: the folder's weights are not those of its configuration.
    """
    model, info = _load(folder, precision)
    _check_complete(folder, sorted(info["missing_keys"]))
    return model.eval()


def class_names(config: AcnConfig) -> list[str]:
    """The names of a fine-tuned model's outputs, in their order."""
    return [str(config.id2label[number]) for number in range(config.num_labels)]


def best_device() -> torch.device:
    """A GPU if this machine has one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def save_model(folder: Path, model: AcnForSequenceClassification, tokenizer: Any) -> dict[str, str]:
    """Write weights, configuration and tokenizer into `folder`; returns the sha256 of weights and tokenizer by file.

    Raises:
        EvalError: the model has diverged.
    """
    if (found := divergence(model)) is not None:
        raise EvalError(f"the trained model has diverged, {found}: lower learning_rate")
    with quiet_transformers():
        model.save_pretrained(folder)
        written = save_tokenizer(tokenizer, folder)
    files = sorted({*folder.glob("*.safetensors*"), *written})
    return {path.name: file_sha256(path) for path in files}
