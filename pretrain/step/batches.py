"""Micro-batches on their way from the stream to the model."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from data_pipeline import DataError, Problem
from data_pipeline.stream import IGNORED_LABEL, MaskedBatch, PackedBatch

from .late import on_device


def pinned(device: torch.device) -> Callable[[MaskedBatch], MaskedBatch] | None:
    """What puts a batch into memory that `device` copies from by itself; None where there is no such memory.

    To be called by the thread that reads ahead: pinning takes longer than copying.
    """
    if device.type != "cuda":
        return None

    def pin(batch: MaskedBatch) -> MaskedBatch:
        torch.cuda.set_device(device)  # of this thread; else each rank would take memory of the first GPU
        fields = vars(batch)
        for name, value in fields.items():
            if isinstance(value, torch.Tensor):
                fields[name] = value.pin_memory()
        return batch

    return pin


def model_inputs(batch: MaskedBatch, device: torch.device) -> dict[str, Any]:
    """What the model is given of a batch, on `device`: token ids (B, T) and masked positions (B, M); of a packed corpus
    also which document each token belongs to, and its position there (B, T), and the documents' lengths.

    Copies do not wait for the device.
    """
    inputs = {"input_ids": batch.input_ids, "masked_positions": batch.masked_positions}
    lengths: dict[str, Any] = {}
    if isinstance(batch, PackedBatch):  # attention stays inside a document, positions restart with it
        inputs |= {"seq_idx": batch.document_ids, "position_ids": batch.position_ids}
        inputs |= dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), batch.cu_seqlens)
        # a bound that is the same for every batch: compiled layers would be compiled anew for each exact one
        lengths = dict.fromkeys(("max_length_q", "max_length_k"), batch.input_ids.shape[1])
    return {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()} | lengths


def targets_per_micro_batch(
    batches: Sequence[MaskedBatch], device: torch.device, per_block: int | None
) -> torch.Tensor:
    """What a micro-batch's summed loss is divided by, so that the step's loss is the mean over all its targets.

    DeepSpeed averages over micro-batches and ranks; with the mean number of targets of a micro-batch the result is the
    global mean, also where documents leave some micro-batches with fewer targets. A collective if `per_block` is None.

    Args:
        batches: all of this rank's in one step.
        per_block: targets that each block is known to have; then nobody needs to be asked.

    Raises:
        DataError: this rank's blocks have other numbers of targets than was known.
    """
    own = sum(int(np.count_nonzero(batch.labels.numpy() != IGNORED_LABEL)) for batch in batches)
    if per_block is None:
        targets = on_device(torch.tensor(own), device)
        dist.all_reduce(targets)
        return targets.clamp(min=1) / (len(batches) * dist.get_world_size())
    if own != per_block * sum(len(batch.samples) for batch in batches):
        wrong = f"says that every block has {per_block} tokens to predict, but some blocks have fewer"
        raise DataError(Problem("data", wrong=wrong, fix="do not use its manifest: run `acn prepare` again"))
    return torch.full((), own / len(batches), device=device)


def tokens_per_micro_batch(batches: Sequence[MaskedBatch], device: torch.device) -> torch.Tensor | None:
    """What a micro-batch's sum over its tokens is divided by, so that the step's is the mean over all but padding.

    None where every micro-batch has as many. A collective for packed documents.

    Args:
        batches: all of this rank's in one step.
    """
    own = [int(batch.document_ids.count_nonzero()) for batch in batches if isinstance(batch, PackedBatch)]
    if not own:
        return None
    tokens = on_device(torch.tensor(sum(own)), device)
    dist.all_reduce(tokens)
    return tokens.clamp(min=1) / (len(batches) * dist.get_world_size())
