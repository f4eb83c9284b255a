"""Ranks of `acn pretrain` whose loss is not finite, or multiplied by a number, for chosen samples."""

from pathlib import Path
from typing import Any

import torch

from launch import cli
from launch.ranks import run_local_ranks
from pretrain import trainer
from pretrain.distil import lessons


def launch(which: range, scale: float, config: Path) -> int:
    """Start two of them; the loss of the samples in `which` is multiplied by `scale`."""
    return run_local_ranks(2, _sick_rank, (which, scale, config))


def _sick_rank(work: tuple[range, float, Path]) -> int:
    which, scale, config = work
    inputs_of = lessons.model_inputs

    def remember(batch: Any, device: torch.device) -> dict[str, torch.Tensor]:
        inputs_of.sick = any(int(sample) in which for sample in batch.samples)
        return inputs_of(batch, device)

    lessons.model_inputs = remember
    build = trainer.build_engine

    def build_sick(model: Any, config: Any) -> Any:
        def hook(module: Any, args: Any, output: Any) -> Any:
            if getattr(inputs_of, "sick", False) and module.training:
                output.loss = output.loss * scale
            return output

        model.register_forward_hook(hook)
        return build(model, config)

    trainer.build_engine = build_sick
    return cli.main(["pretrain", "--config", str(config)])
