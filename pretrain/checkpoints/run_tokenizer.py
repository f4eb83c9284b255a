"""The tokenizer of a run, which every model made of its checkpoints takes along."""

import shutil
from pathlib import Path

import yaml

from data_pipeline import TOKENIZER_FOLDER, Manifest, fingerprint_of_folder, new_folder
from data_pipeline.stream import PreparedFolder, RemoteConfig

from ..errors import PretrainError
from .folder import Checkpoint


def tokenizer_folder(data: Path) -> Path:
    """The tokenizer of a prepared corpus, which must be the one its shards were made with.

    Raises:
        DataError: `data` is not a prepared corpus or its tokenizer was changed.
    """
    Manifest.load(data)
    return data / TOKENIZER_FOLDER


def keep_tokenizer(run: Path, data: Path) -> None:
    """Copy the corpus's tokenizer into RUN/tokenizer: the corpus may move, or be on another machine."""
    if not (run / TOKENIZER_FOLDER).is_dir():
        with new_folder(run / TOKENIZER_FOLDER) as aside:
            shutil.copytree(data / TOKENIZER_FOLDER, aside, dirs_exist_ok=True)


def find_tokenizer(checkpoint: Checkpoint) -> Path:
    """The tokenizer that `checkpoint` was trained with: its run's copy, or that of the corpus, which may be a URL.

    Raises:
        PretrainError: it is another one by now, or the run does not say where its corpus is.
        DataError: the corpus is gone, cannot be reached, or is damaged.
    """
    run = checkpoint.path.parent.parent
    folder = run / TOKENIZER_FOLDER
    if not folder.is_dir():
        folder = tokenizer_folder(PreparedFolder(_data_of(run), RemoteConfig()).path)
    if fingerprint_of_folder(folder) != checkpoint.progress.order.get("tokenizer"):
        raise PretrainError(
            f"{folder} is not the tokenizer that {checkpoint.path} was trained with: put that one into {run}/tokenizer"
        )
    return folder


def _data_of(run: Path) -> str:
    """Where RUN/config.yaml says that the corpus is: a folder or a URL."""
    file = run / "config.yaml"
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise PretrainError(
            f"{file} does not say where the corpus is ({error!r}): put the run's tokenizer into {run}/tokenizer"
        ) from error
    if not isinstance(data, str):
        raise PretrainError(
            f"{file}: data={data} must be a folder or URL: put the run's tokenizer into {run}/tokenizer"
        )
    return data
