"""What the ranks of `test_optimizers.py` do: a few steps with gradients that are known exactly, in any precision."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from pretrain.engine import init_distributed, set_global_batch
from pretrain.optim.ema import Ema, EmaConfig, full_fp32_weights
from pretrain.optim.optimizers import OptimConfig, adapt_to_engine, build_optimizer, set_learning_rate

RATES = (0.02, 0.01, 0.04, 0.02)
ACCUMULATIONS = (1, 2, 4, 2)
"""Micro-batches of each step: the global batch changes while the engine stands."""
WORLD = 2
EMA_DECAY, EMA_EVERY = 0.3, 2
SHAPES = {"table.weight": (11, 6), "up.weight": (10, 6), "up.bias": (10,), "down.weight": (6, 10), "down.bias": (6,)}


class Slope(nn.Module):
    """A weight and a bias whose gradients are what `forward` is given."""

    def __init__(self, rows: int, columns: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, columns))
        self.bias = nn.Parameter(torch.randn(rows))

    def forward(self, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return (self.weight * weight.to(self.weight.dtype)).sum() + (self.bias * bias.to(self.bias.dtype)).sum()


class SlopedTable(nn.Embedding):
    """The same for an embedding table."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return (self.weight * weight.to(self.weight.dtype)).sum()


class Probe(nn.Module):
    """A loss that is linear in every weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.up, self.down = SlopedTable(11, 6), Slope(10, 6), Slope(6, 10)

    def forward(self, slopes: dict[str, torch.Tensor]) -> torch.Tensor:
        loss = self.table(slopes["table.weight"])
        for name, layer in (("up", self.up), ("down", self.down)):
            loss = loss + layer(slopes[f"{name}.weight"], slopes[f"{name}.bias"])
        return loss


def slopes(step: int, micro_batch: int) -> dict[str, torch.Tensor]:
    """Small integers: exact in bf16, and so are their means over micro-batches and ranks."""
    generator = torch.Generator().manual_seed(100 * step + micro_batch)
    return {name: torch.randint(-8, 9, shape, generator=generator).float() for name, shape in SHAPES.items()}


def cases() -> Iterator[tuple[str, int]]:
    """Every optimizer and the ZeRO stages it is allowed at."""
    for name, stage in itertools.product(("adamw", "lamb", "muon"), range(4)):
        config = OptimConfig(name=name, grad_clip=0.0)  # type: ignore[arg-type]
        if not config.sharding_problems(stage, offloaded=False, precision="bf16"):
            yield name, stage


def train_all(work: tuple[Path, str]) -> int:
    """Run every case in (folder, precision), and again from a checkpoint of its middle.

    Rank 0 writes the fp32 weights at both ends to folder/results.pt.
    """
    folder, precision = work
    init_distributed(600.0)
    from deepspeed.runtime.zero.muon import original_muon

    # the iteration itself in fp32, so that it can be compared closely
    original_muon.ns_compute_dtype = lambda method="gram": torch.float32
    results = {}
    for case in cases():
        tag = "-".join(map(str, case))
        undisturbed = Ranks(*case, precision)
        undisturbed.average.start(undisturbed.engine)
        undisturbed.advance(0, 2)
        undisturbed.engine.save_checkpoint(str(folder), tag=tag)
        if dist.get_rank() == 0:
            for name, state in undisturbed.average.files().items():
                torch.save(state, folder / tag / name)
        undisturbed.advance(2, 4)
        undisturbed.engine.destroy()
        resumed = Ranks(*case, precision)
        resumed.engine.load_checkpoint(str(folder), tag=tag)
        assert resumed.average.load(folder / tag)
        resumed.advance(2, 4)
        resumed.engine.destroy()
        results[case] = undisturbed.outcome(), resumed.outcome()
    if dist.get_rank() == 0:
        torch.save(results, folder / "results.pt")
    dist.barrier()
    dist.destroy_process_group()
    return 0


def build(name: Any, stage: int, precision: str) -> Any:
    import deepspeed

    model = Probe()
    config = OptimConfig(name=name, weight_decay=0.1, betas=(0.9, 0.98), eps=1e-6, grad_clip=0.0)
    needed = config.deepspeed_settings(stage)
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": max(ACCUMULATIONS),
        "gradient_clipping": config.grad_clip,
        "bf16": {"enabled": precision == "bf16"},
        "steps_per_print": 2**31,
        **needed,
        "zero_optimization": {"stage": stage, **needed.get("zero_optimization", {})},
    }
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=build_optimizer(model, config), config=settings)
    adapt_to_engine(engine)
    return engine


class Ranks:
    """One rank's engine, with an average of its weights, and the fp32 weights after every step."""

    def __init__(self, name: str, stage: int, precision: str):
        self.engine = build(name, stage, precision)
        self.average = Ema(EmaConfig(decay=EMA_DECAY, every=EMA_EVERY), Probe(), torch.device("cpu"))
        self.history = [self.weights()]

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: weight.clone() for name, weight in full_fp32_weights(self.engine)}

    def advance(self, first: int, end: int) -> None:
        for step in range(first, end):
            set_learning_rate(self.engine, RATES[step])
            set_global_batch(self.engine, ACCUMULATIONS[step] * WORLD)
            for micro_step in range(ACCUMULATIONS[step]):
                loss = self.engine(slopes(step, micro_step * WORLD + dist.get_rank()))
                self.engine.backward(loss)
                self.engine.step()
            self.history.append(self.weights())
            self.average.update(self.engine, step + 1)

    def outcome(self) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
        return self.history, self.average.model.state_dict()
