"""A ZeRO checkpoint becomes a plain Hugging Face folder."""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from data_pipeline import copy_files, drop_local_fields, new_folder
from modeling import AcnConfig, AcnForMaskedLM, divergence, non_finite_weights

from ..distil import is_projection
from ..errors import PretrainError
from ..optim import EMA_FILE
from .folder import MARKER, Checkpoint, marked_folders, open_checkpoint
from .soundness import check_sound, diverged, loading
from .states import convert, load_unsharded, master_weights, silence, universal_states


def find_checkpoint(source: Path, trusted: bool = False) -> Checkpoint:
    """The checkpoint `source` is, or the newest one of the run `source` is.

    Its files are there with the right sizes; `check_sound` reads them.

    Args:
        trusted: the user vouches for what is in its files (`trust_checkpoint`).

    Raises:
        PretrainError: there is none, or the newest one is damaged: an older one is taken only if it is named.
    """
    marked = [source] if (source / MARKER).is_file() else marked_folders(source)
    if not marked:
        raise PretrainError(f"{source} is neither a run nor a checkpoint with a {MARKER} marker")
    return replace(open_checkpoint(marked[-1]), trusted=trusted)


def export_checkpoint(
    checkpoint: Checkpoint, output: Path, tokenizer: Path, depth: int | None = None, ema: bool = False
) -> Path:
    """Write weights, configuration and tokenizer of `checkpoint` to `output`, cut at `depth` if given.

    The weights are the optimizer's fp32 ones, or with `ema` their running average. As long as a run's shortcuts are
    annealed the model is a hybrid, which computes what was trained. Replaces `output` only by rename, once everything
    is written.

    Args:
        tokenizer: the folder of the tokenizer to copy.

    Raises:
        ValueError: `depth` is outside 0..num_hidden_layers.
        PretrainError: files of the checkpoint are damaged or hold more than data, its weights are not those of its
            model, or compute no numbers; or `ema` of a run that kept none.
    """
    check_sound(checkpoint)
    model = _build(checkpoint)
    load_weights(model, checkpoint, ema)
    if (found := divergence(model)) is not None:
        raise diverged(checkpoint.path, found)
    if depth is not None:
        model.truncate(depth)
    disable_progress_bar()
    with new_folder(output, replace=True) as aside:
        copy_files(tokenizer, aside)
        drop_local_fields(aside)
        model.save_pretrained(aside)
    return output


def _build(checkpoint: Checkpoint) -> AcnForMaskedLM:
    try:
        return AcnForMaskedLM(AcnConfig(**checkpoint.progress.trained_model))
    except Exception as error:  # strict validation raises its own classes
        raise PretrainError(
            f"{checkpoint.path / MARKER} describes no model of this family ({error}): take another checkpoint"
        ) from error


def load_weights(model: AcnForMaskedLM, checkpoint: Checkpoint, ema: bool = False) -> None:
    """Give `model` the weights of `checkpoint`, or with `ema` their running average; never those of a projection.

    Raises:
        PretrainError: they are not those of this model or not finite, there is no average, or a file holds more than
            data.
    """
    try:
        weights = _averaged_state_dict(checkpoint) if ema else full_state_dict(checkpoint)
        weights = {name: weight for name, weight in weights.items() if not is_projection(name)}
        model.load_state_dict(weights | _untrained(model, checkpoint))
    except PretrainError:
        raise
    except Exception as error:  # what a file that is not ours lacks shows in many classes
        lines = str(error).splitlines() or [repr(error)]
        raise PretrainError(
            f"{checkpoint.path} does not hold the weights of its model ({lines[0]}): take another checkpoint"
        ) from error
    if (found := non_finite_weights(model)) is not None:
        raise diverged(checkpoint.path, found)


def _untrained(model: AcnForMaskedLM, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """What `model` has that is no weight of a checkpoint: a projection of its own, and a scale that was annealed."""
    own = model.state_dict()
    annealed = checkpoint.progress.shortcut_scale > 0
    return {
        name: value
        for name, value in own.items()
        if is_projection(name) or (annealed and name.endswith("shortcut.scale"))
    }


def _averaged_state_dict(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The running average of the weights."""
    if EMA_FILE not in checkpoint.files:
        raise PretrainError(f"{checkpoint.path} has no running average of the weights (ema.decay was 0)")
    with loading(checkpoint):
        return torch.load(checkpoint.path / EMA_FILE, map_location="cpu")


def full_state_dict(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Every weight in fp32, gathered from the ranks' files.

    Raises:
        PretrainError: a file holds more than data.
    """
    if checkpoint.progress.zero_stage == 0:
        states = load_unsharded(checkpoint)
        return _with_tied({**states["module"], **master_weights(states)})
    if (checkpoint.progress.zero_stage, checkpoint.progress.precision) == (1, "bf16"):
        # the files of DeepSpeed's BF16_Optimizer, which its function below does not know
        with tempfile.TemporaryDirectory(dir=checkpoint.path.parent, prefix=".universal-") as folder:
            convert(checkpoint, Path(folder))
            return _with_tied({name: state["fp32"] for name, state in universal_states(Path(folder))})
    from .. import lean_deepspeed  # noqa: F401

    # isort: split
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with loading(checkpoint), silence():
        return get_fp32_state_dict_from_zero_checkpoint(str(checkpoint.path.parent), tag=checkpoint.path.name)


def _with_tied(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return weights | {tied: weights[name] for tied, name in AcnForMaskedLM._tied_weights_keys.items()}
