"""The largest micro-batch that a real GPU has room for."""

from collections.abc import Callable
from dataclasses import asdict

import torch

from modeling import AcnConfig, AcnForMaskedLM
from pretrain import checkpoint_activations
from pretrain.observe import DTYPES

from .config import PlanConfig
from .plan import RunPlan


def largest(fits: Callable[[int], bool], limit: int) -> int:
    """The largest power of two up to `limit` that fits, or 0; what is larger than something that does not, does not."""
    found, size = 0, 1
    while size <= limit and fits(size):
        found, size = size, 2 * size
    return found


def fits_on(
    device: torch.device, config: AcnConfig, seq_length: int, targets: int, dtype: torch.dtype, checkpointing: bool
) -> Callable[[int], bool]:
    """Whether `device` has the memory for one forward and backward pass of a number of blocks."""
    model = AcnForMaskedLM(config).to(device, dtype).train()
    if checkpointing:
        checkpoint_activations(model)

    def fits(blocks: int) -> bool:
        tokens = torch.zeros(blocks, seq_length, dtype=torch.long, device=device)
        positions = torch.arange(targets, device=device).expand(blocks, -1)
        try:
            model(input_ids=tokens, masked_positions=positions, labels=tokens.gather(1, positions)).loss.backward()
        except torch.OutOfMemoryError:
            return False
        finally:
            model.zero_grad()
            if device.type == "cuda":
                torch.cuda.empty_cache()
        return True

    return fits


def search_micro_batch(config: PlanConfig, plan: RunPlan) -> int:
    """The largest micro-batch for the GPU of this process beside the optimizer states of the plan's layout."""
    device, dtype = torch.device("cuda"), getattr(torch, DTYPES[plan.precision])
    layout = plan.best or plan.layouts[-1]
    states = torch.empty(int(layout.optimizer + layout.buffers), dtype=torch.uint8, device=device)
    model = AcnConfig(**asdict(config.recipe.model), vocab_size=plan.vocab_size)
    targets = config.recipe.masking.targets(plan.seq_length)
    fits = fits_on(device, model, plan.seq_length, targets, dtype, layout.checkpointing)
    found = largest(fits, config.recipe.global_batch_size // config.ranks)
    del states
    return found
