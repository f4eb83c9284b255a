"""The fp32 weights and optimizer states in a checkpoint's files, parameter by parameter. Needs no process group."""

import contextlib
import io
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from data_pipeline import Problem

from ..errors import PretrainError
from .folder import Checkpoint
from .soundness import loading

UNSHARDED_FILE = "mp_rank_00_model_states.pt"
"""Where DeepSpeed writes what it does not shard; at stage 0 that is everything."""

State = dict[str, torch.Tensor]
"""Of one parameter: `fp32` and what the optimizer keeps of the parameter's shape, by the optimizer's names."""

_UNIVERSAL = "universal"  # DeepSpeed also writes a file beside the folder that it is given


def convert(checkpoint: Checkpoint, folder: Path) -> None:
    """Write DeepSpeed's universal checkpoint of a sharded one into `folder`, replacing what is there.

    Raises:
        PretrainError: DeepSpeed could not, or the checkpoint holds more than data.
        OSError: there can be no such folder.
    """
    from .. import lean_deepspeed  # noqa: F401

    # isort: split
    from deepspeed.checkpoint import ds_to_universal

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)  # a run that branches off has no folder of checkpoints yet
    try:
        with loading(checkpoint), silence(), _plain_names(checkpoint.path, folder) as (source, target):
            _check_names(checkpoint)
            settings = Namespace(
                input_folder=str(source),
                output_folder=str(target / _UNIVERSAL),
                num_extract_workers=1,  # more would be processes of their own
                num_merge_workers=1,
                keep_temp_folder=False,
                strict=True,
                inject_missing_state=False,
            )
            ds_to_universal.main(settings)
    except PretrainError:
        raise
    except Exception as error:
        if "inline_container" in str(error):  # torch's writer, which does not say why it could not go on writing
            raise PretrainError(f"{checkpoint.path} cannot be converted in {folder.parent}: make room there") from error
        raise PretrainError(f"DeepSpeed cannot convert {checkpoint.path}: {error!r}") from error


@contextlib.contextmanager
def _plain_names(*folders: Path) -> Iterator[list[Path]]:
    """The folders by other paths: DeepSpeed takes the signs in the name of a folder for those of a pattern."""
    with tempfile.TemporaryDirectory() as links:
        plain = [Path(links) / str(number) for number in range(len(folders))]
        for link, folder in zip(plain, folders, strict=True):
            link.symlink_to(folder.absolute(), target_is_directory=True)
        yield plain


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep what DeepSpeed's converters report for people who call them by hand off the screen."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _check_names(checkpoint: Checkpoint) -> None:
    """Raise `PretrainError` where a name in the files, of which DeepSpeed makes names of files, leaves its folder."""
    for name in sorted(checkpoint.files):
        content = torch.load(checkpoint.path / name, map_location="cpu", mmap=True)
        for key in _names(content):
            if "/" in key or key in ("", ".", ".."):
                raise PretrainError(
                    Problem(
                        str(checkpoint.path / name),
                        wrong=f"has a parameter named {key!r}, which is a path",
                        fix="take another checkpoint",
                    )
                )


def _names(content: Any) -> Iterator[str]:
    """Every key of dictionaries that is text, at any depth."""
    below = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    if isinstance(content, dict):
        yield from (key for key in content if isinstance(key, str))
    for value in below:
        yield from _names(value)


def universal_states(folder: Path) -> Iterator[tuple[str, State]]:
    """What `convert` wrote, by parameter name; a tied weight comes under both of its names."""
    for parameter in sorted((folder / _UNIVERSAL / "zero").iterdir()):
        if parameter.is_dir():
            yield parameter.name, {file.stem: _tensor(file) for file in parameter.glob("*.pt") if file.stem != "step"}


def _tensor(file: Path) -> torch.Tensor:
    value = torch.load(file, map_location="cpu", weights_only=True)  # `convert` wrote tensors, whatever it read
    return value["param"] if isinstance(value, dict) else value


def load_unsharded(checkpoint: Checkpoint) -> dict[str, Any]:
    """The content of a stage-0 checkpoint.

    Raises:
        PretrainError: it holds more than data.
    """
    with loading(checkpoint):
        return torch.load(checkpoint.path / UNSHARDED_FILE, map_location="cpu")


def unsharded_states(checkpoint: Checkpoint) -> Iterator[tuple[str, State]]:
    """The states of a stage-0 checkpoint: one file, with the optimizer's own state_dict by parameter number."""
    saved = load_unsharded(checkpoint)
    inner = saved["optimizer"].get("optimizer_state_dict", saved["optimizer"])["state"]
    for number, (name, weight) in enumerate(master_weights(saved).items()):
        yield name, {"fp32": weight} | {k: v for k, v in inner[number].items() if _same_shape(v, weight)}


def master_weights(saved: dict[str, Any]) -> State:
    """The fp32 weights in a stage-0 model file (`UNSHARDED_FILE`), by parameter name in the optimizer's order."""
    groups = saved["optimizer"].get("fp32_groups")  # absent in fp32, where the model's weights are the masters
    if groups is None:
        return {name: saved["module"][name] for name in saved["optimizer_order"]}
    return dict(zip(saved["optimizer_order"], (weight for group in groups for weight in group), strict=True))


def _same_shape(value: Any, weight: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == weight.shape
