"""Fine-tuning with depth supervision: for a while, the loss of a classifier is that of several depths."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.modeling_outputs import SequenceClassifierOutput

from modeling import AcnForSequenceClassification, DepthSupervision, supervised_loss
from modeling.modeling_acn import first_tokens, pick_first_tokens


class StepCounter(TrainerCallback):
    """Knows which step, from 0, a Trainer is in."""

    step = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step = state.global_step


@contextmanager
def supervised(
    model: AcnForSequenceClassification, supervision: DepthSupervision, seed: int
) -> Iterator[list[TrainerCallback]]:
    """Within the block, the forward pass in training gives the supervised loss; its logits are the whole model's.

    Yields:
        the callbacks that the Trainer needs for it.
    """
    if supervision.kind == "none":
        yield []
        return
    counter, plain = StepCounter(), model.forward

    @wraps(plain)
    def forward(labels: torch.Tensor | None = None, **inputs: Any) -> Any:
        if not model.training or labels is None:
            return plain(labels=labels, **inputs)
        of_the_loss = {name: inputs.pop(name) for name in ("num_items_in_batch",) if name in inputs}
        weights = supervision.weights(model.config.num_hidden_layers, seed, counter.step)
        starts = first_tokens(inputs)

        def answer(read_out: torch.Tensor) -> SequenceClassifierOutput:
            logits = model.head_logits(pick_first_tokens(read_out, starts))
            loss = model.loss_function(labels=labels, pooled_logits=logits, config=model.config, **of_the_loss)
            return SequenceClassifierOutput(loss=loss, logits=logits)

        return supervised_loss(weights, model.acn.read_outs(left_out=weights.left_out, **inputs), answer)

    model.forward = forward
    try:
        yield [counter]
    finally:
        model.__dict__.pop("forward", None)
