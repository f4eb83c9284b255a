"""The tokenizer of a run, which every model made of its checkpoints takes along."""

from pathlib import Path

from data_pipeline import (
    TOKENIZER_FOLDER,
    Manifest,
    Problem,
    copy_files,
    drop_local_fields,
    fingerprint_of_folder,
    new_folder,
    read_yaml,
)
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
    with new_folder(run / TOKENIZER_FOLDER, replace=True) as aside:  # a run that starts over may have another corpus
        copy_files(data / TOKENIZER_FOLDER, aside)
        drop_local_fields(aside)


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
    file, fix = run / "config.yaml", f"put the run's tokenizer into {run / TOKENIZER_FOLDER}"
    data = read_yaml(file, PretrainError, fix).get("data")
    if not isinstance(data, str):
        raise PretrainError(Problem(str(file), wrong="does not say where the corpus is (data)", fix=fix))
    return data
