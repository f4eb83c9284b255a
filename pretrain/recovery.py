"""What becomes of a step that is not finite or a spike: dropped, counted and reported; a row of them is gone back from.

All ranks judge alike, because what they judge by is a sum over all of them: the loss, or whether the engine applied the
step, which hangs on the norm of the global gradient.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist

from data_pipeline.stream import MaskedBatch

from .checkpoints import Checkpoint, Progress, newest_sound
from .engine import gather_objects
from .errors import UnhealthyError
from .health import Health, HealthConfig
from .step import Reading


@dataclass(frozen=True)
class MadeStep:
    """An optimizer step that the device was given; its outcome may not be known yet."""

    before: Progress
    """Of the run when the step began."""
    end: int
    """The sample after the step's last one."""
    batches: Sequence[MaskedBatch]
    """This rank's micro-batches."""
    losses: Sequence[torch.Tensor]
    """Theirs."""
    applied: Reading
    """1 if the weights moved, the same on all ranks."""

    def after(self, now: Progress) -> Progress:
        """The progress at its end, with what is counted by `now`."""
        return replace(now, step=self.before.step + 1, samples=self.end)


def poison(loss: torch.Tensor) -> torch.Tensor:
    """A loss whose gradient is NaN throughout, which makes every rank drop the optimizer step it belongs to.

    A spike is known only after the last forward pass, when the gradients of the micro-batches before it are summed, at
    ZeRO 2 and 3 already exchanged and sharded, and DeepSpeed has no call that takes them back. What it does have, at
    every stage and precision, is that a gradient that is not finite is dropped, with weights, optimizer states and
    counters left as they are. So a spike takes the way of an overflow.
    """
    return loss * math.nan


class Recovery:
    """Judges the steps of one run. Its methods are collectives unless they say otherwise."""

    def __init__(self, config: HealthConfig, run: Path, say: Callable[[str], None], trusted: bool):
        """`trusted`: the user vouches for what is in the run's checkpoints (`trust_checkpoint`)."""
        self._config, self._run, self._say, self._trusted = config, run, say, trusted
        self._step_loss: float | None = None  # of all ranks; known only where spikes are looked for

    def find_spike(self, losses: Sequence[torch.Tensor], health: Health) -> bool:
        """Whether a step whose micro-batches had these `losses` sticks out (`health.spike`, off by default).

        Waits for the device, which is why nothing is read back where nobody asked for it.
        """
        if self._config.spike is None:
            return False
        loss = torch.stack(list(losses)).mean()
        dist.all_reduce(loss, op=dist.ReduceOp.SUM)
        self._step_loss = loss.item() / dist.get_world_size()
        return health.is_spike(self._step_loss, self._config)

    def judge(self, step: MadeStep, applied: bool) -> None:
        """Note in the run's health how a step went, and report it if it was dropped."""
        health = step.before.health
        if applied:
            health.healthy(step.before.samples, self._step_loss, self._config.spike_memory)
        elif step.before.precision == "fp16" and _all_finite(step.losses):
            # the loss scale was too high for this gradient and has been lowered: part of fp16's routine, not of a row
            health.skipped_steps += 1
        else:
            health.sick(step.before.step, step.before.samples)
            self._report(step)

    def _report(self, step: MadeStep) -> None:
        """Say which samples a dropped step was made of."""
        pairs = zip(step.batches, step.losses, strict=True)
        own = [batch.samples.tolist() for batch, loss in pairs if not loss.isfinite()]
        found = sorted(sample for rank in gather_objects(own) for micro_batch in rank for sample in micro_batch)
        cause = f"a loss that is not finite came from samples {found}" if found else "no single loss was the cause"
        self._say(
            f"WARNING: step {step.before.step + 1} (samples {step.before.samples}..{step.end - 1}) left out: its loss "
            f"or gradient is not finite or a spike; {cause}"
        )

    def out_of_patience(self, health: Health) -> bool:
        """Whether so many steps in a row were dropped that the run must go back. Asks no other rank."""
        return health.sick_in_a_row >= self._config.patience

    def go_back(self, sick: Progress, load: Callable[[Checkpoint], Progress]) -> Progress:
        """Load the last sound checkpoint from before the present row of sick steps.

        Args:
            sick: the progress of the run at the end of the row.
            load: takes over a checkpoint and returns its progress.

        Returns:
            That progress, with the samples of the row left out for good: the same data would do the same again.

        Raises:
            UnhealthyError: there is none, or going back has not helped.
        """
        health = sick.health
        row = (
            f"{health.sick_in_a_row} steps in a row, from step {health.first_sick_step + 1}, were not finite or spikes"
        )
        if health.rollbacks >= self._config.rollbacks:
            raise UnhealthyError(f"{row}; going back {health.rollbacks} times did not help: lower optim.lr")
        good = newest_sound(self._run, self._say, at_most=health.first_sick_step, trusted=self._trusted)
        if good is None:
            raise UnhealthyError(f"{row}, and there is no checkpoint from before them to go back to")
        then = load(good)
        now = health.rolled_back_to(then.health, end=sick.samples)
        first, end = now.left_out[-1]
        self._say(f"WARNING: {row}: back to {good.path}; samples {first}..{end - 1} are left out for good")
        return replace(then, health=now)


def _all_finite(losses: Sequence[torch.Tensor]) -> bool:
    """Whether no rank had a loss that is not finite. A collective."""
    finite = torch.stack(list(losses)).isfinite().all().int()
    dist.all_reduce(finite, op=dist.ReduceOp.MIN)
    return bool(finite.item())
