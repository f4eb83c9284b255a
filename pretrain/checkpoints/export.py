"""A ZeRO checkpoint becomes a plain Hugging Face folder."""

import contextlib
import io
import tempfile
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from data_pipeline import Manifest, copy_files, new_folder
from modeling import AcnConfig, AcnForMaskedLM

from ..errors import PretrainError
from ..optim import EMA_FILE
from .folder import Checkpoint, newest_complete, read_checkpoint
from .states import UNSHARDED_FILE, convert, master_weights, universal_states


def find_checkpoint(source: Path) -> Checkpoint:
    """The checkpoint `source` is, or the newest complete one of the run `source` is.

    Raises:
        PretrainError: there is none.
    """
    checkpoint = read_checkpoint(source) or newest_complete(source)
    if checkpoint is None:
        raise PretrainError(f"{source} is neither a run nor a checkpoint with a COMPLETE marker")
    return checkpoint


def export_checkpoint(
    checkpoint: Checkpoint, output: Path, tokenizer: Path, depth: int | None = None, ema: bool = False
) -> Path:
    """Write weights, configuration and tokenizer of `checkpoint` to `output`, cut at `depth` if given.

    The weights are the optimizer's fp32 ones, or with `ema` their running average. Replaces `output` only by rename,
    once everything is written.

    Args:
        tokenizer: the folder of the tokenizer to copy.

    Raises:
        ValueError: `depth` is outside 0..num_hidden_layers.
        PretrainError: `ema` of a run that kept none.
    """
    model = AcnForMaskedLM(AcnConfig(**checkpoint.progress.model))
    model.load_state_dict(averaged_state_dict(checkpoint) if ema else full_state_dict(checkpoint))
    if depth is not None:
        model.truncate(depth)
    disable_progress_bar()
    with new_folder(output, replace=True) as aside:
        copy_files(tokenizer, aside)
        model.save_pretrained(aside)
    return output


def averaged_state_dict(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The running average of the weights.

    Raises:
        PretrainError: the checkpoint has none.
    """
    if EMA_FILE not in checkpoint.files:
        raise PretrainError(f"{checkpoint.path} has no running average of the weights (ema.decay was 0)")
    return torch.load(checkpoint.path / EMA_FILE, map_location="cpu", weights_only=True)


def full_state_dict(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Every weight in fp32, gathered from the ranks' files."""
    if checkpoint.progress.zero_stage == 0:
        states = torch.load(checkpoint.path / UNSHARDED_FILE, map_location="cpu", weights_only=False)
        return _with_tied({**states["module"], **master_weights(states)})
    if (checkpoint.progress.zero_stage, checkpoint.progress.precision) == (1, "bf16"):
        # the files of DeepSpeed's BF16_Optimizer, which its function below does not know
        with tempfile.TemporaryDirectory(dir=checkpoint.path.parent, prefix=".universal-") as folder:
            convert(checkpoint, Path(folder))
            return _with_tied({name: state["fp32"] for name, state in universal_states(Path(folder))})
    from .. import lean_deepspeed  # noqa: F401

    # isort: split
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    # it reports its progress for people who call it by hand
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return get_fp32_state_dict_from_zero_checkpoint(str(checkpoint.path.parent), tag=checkpoint.path.name)


def _with_tied(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return weights | {tied: weights[name] for tied, name in AcnForMaskedLM._tied_weights_keys.items()}


def tokenizer_folder(data: Path) -> Path:
    """The tokenizer of a prepared corpus, which must be the one its shards were made with.

    Raises:
        DataError: `data` is not a prepared corpus or its tokenizer was changed.
    """
    Manifest.load(data)
    return data / "tokenizer"
