"""A rank of `acn pretrain` whose loss is not finite for chosen samples: python sick_rank.py FIRST END [arguments].

With $SICK_SCALE set the loss of those samples is multiplied by it instead.
"""

import math
import os
import sys
from typing import Any

import torch

from launch import cli
from pretrain import run
from pretrain import trainer as loop


def main() -> int:
    first, end = int(sys.argv[1]), int(sys.argv[2])
    inputs_of = loop.model_inputs

    def remember(batch: Any, device: torch.device) -> dict[str, torch.Tensor]:
        inputs_of.sick = bool(((batch.samples >= first) & (batch.samples < end)).any())
        return inputs_of(batch, device)

    loop.model_inputs = remember
    build = run.build_engine

    def build_sick(model: Any, config: Any) -> Any:
        scale = float(os.environ.get("SICK_SCALE", math.nan))

        def hook(module: Any, args: Any, output: Any) -> Any:
            if getattr(inputs_of, "sick", False) and module.training:
                output.loss = output.loss * scale
            return output

        model.register_forward_hook(hook)
        return build(model, config)

    run.build_engine = build_sick
    return cli.main(["pretrain", *sys.argv[3:]])


if __name__ == "__main__":
    sys.exit(main())
