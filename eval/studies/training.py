"""The short trainings that studies do: transformers' Trainer with a study's own loss and callbacks."""

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence

import datasets
import torch
from transformers import Trainer, TrainerCallback, set_seed

from modeling import AcnForSequenceClassification

from ..glue import run_trainer, trainer_arguments
from ..models import quiet_transformers
from ..progress import ProgressCallback
from .base import Context

# inputs with labels -> a scalar
Loss = Callable[[AcnForSequenceClassification, dict[str, torch.Tensor]], torch.Tensor]


class StudyTrainer(Trainer):
    """A Trainer whose loss is a function of the model and its inputs; None: the model's own."""

    def __init__(self, *args: object, loss: Loss | None = None, **kwargs: object):
        super().__init__(*args, **kwargs)
        self.loss = loss

    def compute_loss(  # type: ignore[no-untyped-def]  # the Trainer's signature
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        if self.loss is None or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with self.accelerator.autocast():  # by itself it is around the model's forward only
            return self.loss(model, inputs)


def is_dropped(weights: Iterable[torch.Tensor]) -> bool:
    """Whether the step at hand will be left out: a gradient is not finite, as fp16's loss scale makes it at times."""
    return not all(bool(weight.grad.isfinite().all()) for weight in weights if weight.grad is not None)


def fit(
    context: Context,
    model: AcnForSequenceClassification,
    data: datasets.Dataset,
    seed: int,
    name: str,
    callbacks: Sequence[TrainerCallback] = (),
    loss: Loss | None = None,
    min_steps: int = 1,
    epochs: float | None = None,
) -> None:
    """Train `model` in place as the study's options say: AdamW, no decay, the rate falling linearly to 0.

    Args:
        name: what the tracker calls the training: NAME/loss, NAME/learning_rate.
        epochs: instead of the options'.
        min_steps: train longer than `epochs` where those are fewer steps.

    Raises:
        EvalError: the loss became NaN or infinite.
    """
    options = context.options
    steps = max(min_steps, math.ceil(math.ceil(len(data) / options.batch_size) * (epochs or options.epochs)))
    set_seed(seed)
    with quiet_transformers(), tempfile.TemporaryDirectory() as scratch:
        arguments = trainer_arguments(
            context.precision,
            output_dir=scratch,
            max_steps=steps,
            learning_rate=context.learning_rate,
            per_device_train_batch_size=options.batch_size,
            seed=seed,
            logging_steps=max(1, steps // 20),
        )
        watchers = [ProgressCallback(name, context.tracker), *callbacks]
        trainer = StudyTrainer(
            model, arguments, data_collator=context.collate, train_dataset=data, callbacks=watchers, loss=loss
        )
        run_trainer(trainer)
    model.eval()
