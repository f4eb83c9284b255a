"""What keeps an encoder's weights near where earlier tasks left them: Synaptic Intelligence and Elastic Weight
Consolidation, as callbacks of the Trainer.

Both add a quadratic penalty to the loss of the tasks that follow. Its gradient is added to the weights' gradients just
before the optimizer's step (after clipping, which bounds the task's own gradient), so that the task's gradient can be
told from the penalty's.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modeling import AcnForSequenceClassification, autocast

from .training import is_dropped


class Consolidation(TrainerCallback):
    """A quadratic penalty on weights, sum_k 1/2 stiffness_k theta_k^2 - pull_k theta_k up to a constant."""

    def __init__(self, weights: Sequence[nn.Parameter]):
        self.weights = list(weights)
        self.stiffness = [torch.zeros_like(weight) for weight in self.weights]
        self.pull = [torch.zeros_like(weight) for weight in self.weights]

    @torch.no_grad()
    def before_step(self) -> None:
        """Add the penalty's gradient to the weights' gradients."""
        for weight, stiffness, pull in zip(self.weights, self.stiffness, self.pull, strict=True):
            if weight.grad is not None:
                weight.grad.add_(stiffness * weight - pull)

    @abstractmethod
    def after_step(self) -> None:
        """The weights have moved."""

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.before_step()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.after_step()


class SynapticIntelligence(Consolidation):
    """Zenke, Poole and Ganguli 2017, "Continual learning through synaptic intelligence" (arXiv 1703.04200).

    While a task is learned, omega_k = -sum_t g_k(t) (theta_k(t+1) - theta_k(t)) is what weight k contributed to the
    fall of the loss (g: the task's gradient). After it, Omega_k += max(omega_k, 0) / (Delta_k^2 + xi) with Delta_k the
    weight's way during the task, and the penalty of the tasks to come is c sum_k Omega_k (theta_k - theta~_k)^2, theta~
    the weights now.

    Args:
        strength: c.
        damping: xi.
    """

    def __init__(self, weights: Sequence[nn.Parameter], strength: float, damping: float):
        super().__init__(weights)
        self.strength, self.damping = strength, damping
        self.importance = [torch.zeros_like(weight) for weight in self.weights]
        self._begin()

    def _begin(self) -> None:
        """A task starts here."""
        self.path = [torch.zeros_like(weight) for weight in self.weights]
        self.start = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def before_step(self) -> None:
        """Keep the task's gradient and the weights, then add the penalty's gradient."""
        dropped = is_dropped(self.weights)
        self._gradients = [None if dropped or weight.grad is None else weight.grad.clone() for weight in self.weights]
        self._before = [weight.clone() for weight in self.weights]
        super().before_step()

    @torch.no_grad()
    def after_step(self) -> None:
        """Add this step to the path integral."""
        for path, weight, gradient, before in zip(self.path, self.weights, self._gradients, self._before, strict=True):
            if gradient is not None:
                path.sub_(gradient * (weight - before))

    @torch.no_grad()
    def consolidate(self) -> None:
        """The task is learned: add its importances, and hold the weights where they are now."""
        for i, weight in enumerate(self.weights):
            way = weight - self.start[i]
            self.importance[i] += self.path[i].clamp(min=0) / (way.square() + self.damping)
            self.stiffness[i] = 2 * self.strength * self.importance[i]
            self.pull[i] = self.stiffness[i] * weight
        self._begin()


class ElasticWeights(Consolidation):
    """Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks" (arXiv 1612.00796).

    The penalty is lambda/2 sum over the tasks learned of sum_k F_k (theta_k - theta*_k)^2, with theta* the weights
    after the task and F the diagonal of its Fisher information, E[(d log p(y|x) / d theta_k)^2] over y drawn from the
    model.

    Args:
        strength: lambda.
    """

    def __init__(self, weights: Sequence[nn.Parameter], strength: float):
        super().__init__(weights)
        self.strength = strength

    def after_step(self) -> None:
        """Nothing depends on the path."""

    def consolidate(
        self,
        model: AcnForSequenceClassification,
        examples: list[dict[str, torch.Tensor]],
        seed: int,
        precision: str = "fp32",
    ) -> None:
        """A task is learned: estimate its Fisher information on batches of one example, and hold the weights.

        Labels are drawn from the model; for regression the model is the Gaussian around its output, of variance 1.
        """
        generator = torch.Generator().manual_seed(seed)
        for inputs in examples:
            with autocast(precision, self.weights[0].device):
                logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits[0].float()
            gradients = torch.autograd.grad(_log_likelihood(logits, generator), self.weights, allow_unused=True)
            for i, (weight, gradient) in enumerate(zip(self.weights, gradients, strict=True)):
                if gradient is not None:
                    fisher = self.strength * gradient.square() / len(examples)
                    self.stiffness[i] += fisher
                    self.pull[i] += fisher * weight.detach()


def _log_likelihood(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """log p(y) of one y drawn from the prediction (C,); one output is the mean of a Gaussian."""
    if len(logits) == 1:
        noise = torch.randn(1, generator=generator).to(logits)
        return -0.5 * (logits.detach() + noise - logits).square().sum()
    log_p = logits.log_softmax(-1)
    drawn = torch.multinomial(log_p.detach().exp().cpu(), 1, generator=generator)
    return log_p[drawn.to(logits.device)].sum()
