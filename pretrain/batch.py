"""What the model is given of a batch."""

import torch

from data_pipeline.stream import MaskedBatch, PackedBatch


def model_inputs(batch: MaskedBatch, device: torch.device) -> dict[str, torch.Tensor]:
    """Token ids and masked positions on `device`; of a packed corpus also which document each token belongs to.

    Copies do not wait for the device.
    """
    inputs = {"input_ids": batch.input_ids, "masked_positions": batch.masked_positions}
    if isinstance(batch, PackedBatch):  # attention stays inside a document, positions restart with it
        inputs |= {"seq_idx": batch.document_ids, "position_ids": batch.position_ids}
    return {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}
