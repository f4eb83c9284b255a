"""A rank of `test_gradients.py`: two steps at a ZeRO stage, probed, with a validation between them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from modeling import AcnConfig, AcnForMaskedLM
from pretrain.distil import Lessons
from pretrain.engine import init_distributed
from pretrain.observe.gradients import GradientProbe
from pretrain.validate import validate_depths


def build_model() -> AcnForMaskedLM:
    torch.manual_seed(0)
    return AcnForMaskedLM(
        AcnConfig(
            vocab_size=64, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24,
            max_position_embeddings=16, initializer_range=0.3,
        )
    )  # fmt: skip


def micro_batch(number: int, rank: int) -> Any:
    generator = torch.Generator().manual_seed(2 * number + rank)
    return SimpleNamespace(
        input_ids=torch.randint(5, 64, (4, 16), generator=generator),
        masked_positions=torch.randint(1, 15, (4, 3), generator=generator),
        labels=torch.randint(5, 64, (4, 3), generator=generator),
    )


def observe(work: tuple[int, str, Path]) -> int:
    stage, precision, output = work
    device = init_distributed(60)
    from pretrain.lean_deepspeed import deepspeed

    model = build_model()
    settings = {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 2,
        # small as they are, stage 3 would keep all weights gathered otherwise
        "zero_optimization": {"stage": stage} | ({"stage3_param_persistence_threshold": 0} if stage == 3 else {}),
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16", "initial_scale_power": 8},
        "steps_per_print": 2**31,
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    probe = GradientProbe(engine.module)
    found = []
    for step in range(2):
        for number in range(2):
            batch = micro_batch(2 * step + number, dist.get_rank())
            if number == 0:
                with probe.listen():
                    loss = engine(**vars(batch)).loss
                    probe.watch(loss)
                    engine.backward(loss)
                found.append(probe.metrics())
            else:
                engine.backward(engine(**vars(batch)).loss)
            engine.step()
        if step == 0:
            found.append(
                validate_depths(engine.module, [micro_batch(n, dist.get_rank()) for n in (100, 101)], Lessons(device))
            )
    if dist.get_rank() == 0:
        output.write_text(json.dumps(found))
    dist.destroy_process_group()
    return 0
