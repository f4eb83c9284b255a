"""Pretraining, read from top to bottom: `pretrain` sets up, `Training.fit` trains, the rest does one thing each."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.distributed as dist

from data_pipeline.stream import MaskedBatch, validation_batches

from .batch import model_inputs
from .check import check_run
from .checkpoints import gather_objects, newest_sound
from .config import PretrainConfig
from .engine import gradient_norm, init_distributed, set_global_batch, step
from .errors import UnhealthyError, lost_rank
from .observe import Console, SampleLog, Tracker, forget_after
from .optim import set_learning_rate
from .run import Run
from .stop import StopRequest, reason
from .validate import validate_depths


def pretrain(config: PretrainConfig, open_tracker: Callable[[], Tracker], console: Console) -> bool:
    """Train until the budget is used up, or until asked to stop; every rank of the job calls this.

    Continues the run in `config.output` from its newest sound checkpoint, if there is one, whatever the number of ranks
    and the ZeRO stage it was written with. Ends with a checkpoint and, when finished, with the model in
    RUN/model and a picture in RUN/pretraining.png.

    Args:
        open_tracker: called once, on rank 0, when the run is known to be sound.
        console: shows the user how it goes; called on rank 0 only.

    Returns:
        True when finished, False when stopped.

    Raises:
        PretrainError: everything wrong with the configuration, the data or the output folder, before any work.
        UnhealthyError: training cannot go on; the last complete checkpoint stands.
    """
    device = init_distributed(config.timeout_seconds)
    check_run(config, dist.get_world_size())
    run = Training(config, device, open_tracker, console)
    try:
        finished = run.fit()
    except RuntimeError as error:
        if (lost := lost_rank(error, config.output)) is not None:
            raise lost from error
        raise
    if finished and run.is_main:
        run.publish()
    dist.barrier()
    dist.destroy_process_group()  # not after an error: the other ranks may wait in a collective
    return finished


class Training(Run):
    """The loop over the optimizer steps of a run."""

    def fit(self) -> bool:
        """Train until the budget is used up (True) or a stop is agreed on (False); a checkpoint ends it either way."""
        config = self.config
        stopped = 0
        with StopRequest(self.folder, config.stop_after_hours) as request, self.watchdog:
            while not self.finished and not stopped:
                stopped = self.advance(request)
            if self.progress.step > self.saved_step:  # resumed past the last step of a shorter configuration otherwise
                self.save_or_fail()
            if stopped and self.is_main:
                request.clear_file()
        self.micro_batches.close()
        self.observer.close()
        if stopped:
            self.say(f"stopped by {reason(stopped)} at step {self.progress.step}")
        return self.finished

    def advance(self, request: StopRequest) -> int:
        """One optimizer step and whatever is due after it; returns the code of a stop agreed on, or 0."""
        config = self.config
        self.train_step()
        if self.ema is not None:
            self.ema.update(self.engine, self.progress.step)
        if self.progress.health.sick_in_a_row >= config.health.patience:
            self.roll_back()
        if self.due(config.log_every):
            self.log_training()
        if self.due(config.validation.every):
            self.validate()
        stopped = self.agree(request)
        self.save_if_due(stopping=bool(stopped))
        return stopped

    def agree(self, request: StopRequest) -> int:
        """The code of the stop that any rank asks for, or 0; and finish a checkpoint that all have written.

        A collective, the only one of a step that is not about losses and gradients.
        """
        flags = torch.tensor([request.code(), int(self.saver.busy)], device=self.device)
        with self.watchdog.doing("waiting for the other ranks at the end of a step"):
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        code, writing = flags.tolist()
        if not writing:
            self.finish_saving()
        return code

    def train_step(self) -> None:
        """One optimizer step over the global batch."""
        config, done = self.config, self.progress.step
        self.observer.begin_step(done + 1, self.plan.expected_steps(done, self.progress.seconds))
        set_global_batch(self.engine, self.plan.batch(done))
        with self.phase("data", "waiting for data"):
            batches = [next(self.micro_batches) for _ in range(self.engine.gradient_accumulation_steps())]
        self.progress = replace(self.progress, rate=self.plan.rate(done, self.progress.seconds))
        set_learning_rate(self.engine, self.progress.rate)
        # dropout is a function of (seed, step, rank): resuming needs no random state
        torch.manual_seed((config.seed * 1_000_003 + done) * 65_537 + self.rank)
        share = self.targets_per_micro_batch(batches)
        losses: list[torch.Tensor] = []
        applied = None
        for batch in batches:
            with self.observer.micro_batch():
                with self.phase("forward", "in the forward pass"):
                    labels = batch.labels.to(self.device, non_blocking=True)
                    outputs = self.engine(**model_inputs(batch, self.device), labels=labels, num_items_in_batch=share)
                self.observer.saw(outputs, labels)
                loss = outputs.loss
                losses.append(loss.detach())
                if len(losses) == len(batches) and self.is_spike(losses):
                    loss = loss * math.nan  # every rank then drops this step as any gradient that is not finite
                with self.phase("backward", "in the backward pass or its gradient exchange"):
                    self.engine.backward(loss)
            with self.phase("optimizer", "in the optimizer step or its parameter exchange"):
                applied = step(self.engine, self.clip_outside)
        self.observer.end_step(batches, self.plan.batch(done))
        self.account(batches, losses, bool(applied))

    def targets_per_micro_batch(self, batches: list[MaskedBatch]) -> torch.Tensor:
        """What a micro-batch's summed loss is divided by, so that the step's loss is the mean over all its targets.

        DeepSpeed averages over micro-batches and ranks; with the mean number of targets of a micro-batch the result is
        the global mean, also where documents leave some micro-batches with fewer targets. A collective.
        """
        targets = torch.tensor(sum(int((batch.labels != -100).sum()) for batch in batches), device=self.device)
        dist.all_reduce(targets)
        return targets.clamp(min=1) / (len(batches) * self.world_size)

    def is_spike(self, losses: list[torch.Tensor]) -> bool:
        """Whether the step's loss sticks out (`health.spike`, off by default). A collective when on."""
        health, config = self.progress.health, self.config.health
        if config.spike is None:
            return False
        loss = torch.stack(losses).mean()
        dist.all_reduce(loss, op=dist.ReduceOp.SUM)
        self.step_loss = loss.item() / self.world_size
        return health.is_spike(self.step_loss, config)

    def account(self, batches: list[MaskedBatch], losses: list[torch.Tensor], applied: bool) -> None:
        """Count the step that has just been made, or left out."""
        progress, health = self.progress, self.progress.health
        if applied:
            self.loss_sum += torch.stack(losses).mean()
            self.losses_summed += 1
            health.healthy(progress.samples, self.step_loss, self.config.health.spike_memory)
        elif self.is_overflow(losses):
            health.skipped_steps += 1
        else:
            health.sick(progress.step, progress.samples)
            self.report_sick(batches, losses)
        if self.sample_log is not None:
            self.sample_log.add(progress.step + 1, [batch.samples for batch in batches])
        blocks = self.plan.batch(progress.step)
        samples = progress.samples + blocks
        seconds = self.clock.seconds() if self.plan.seconds is None else self.clock.agreed(self.device)
        self.progress = replace(
            progress,
            step=progress.step + 1,
            samples=samples,
            applied=progress.applied + int(applied),
            seconds=seconds,
        )
        if health.past_left_out(samples) != samples:
            self.open_stream()

    def is_overflow(self, losses: list[torch.Tensor]) -> bool:
        """Whether fp16's loss scale was too high for the gradient, which merely lowers it. A collective."""
        if self.progress.precision != "fp16":
            return False
        finite = torch.stack(losses).isfinite().all().int()
        dist.all_reduce(finite, op=dist.ReduceOp.MIN)
        return bool(finite.item())

    def report_sick(self, batches: list[MaskedBatch], losses: list[torch.Tensor]) -> None:
        """Say which samples a left-out step was made of. A collective."""
        own = [batch.samples.tolist() for batch, loss in zip(batches, losses, strict=True) if not loss.isfinite()]
        found = sorted(sample for rank in gather_objects(own) for micro_batch in rank for sample in micro_batch)
        first, end = self.progress.samples, self.progress.samples + self.plan.batch(self.progress.step)
        which = f"a loss that is not finite came from samples {found}" if found else "no single loss was the cause"
        self.say(
            f"WARNING: step {self.progress.step + 1} (samples {first}..{end - 1}) left out: its loss or gradient is "
            f"not finite or a spike; {which}"
        )

    def roll_back(self) -> None:
        """Go back to the last checkpoint from before the present sick steps, and then past their samples. A collective.

        Raises:
            UnhealthyError: there is none, or going back has not helped.
        """
        progress, health = self.progress, self.progress.health
        row = (
            f"{health.sick_in_a_row} steps in a row, from step {health.first_sick_step + 1}, were not finite or spikes"
        )
        if health.rollbacks >= self.config.health.rollbacks:
            raise UnhealthyError(f"{row}; going back {health.rollbacks} times did not help: lower optim.lr")
        self.finish_saving()
        good = newest_sound(self.folder, self.say, at_most=health.first_sick_step)
        if good is None:
            raise UnhealthyError(f"{row}, and there is no checkpoint from before them to go back to")
        self.load(good)
        now = health.rolled_back_to(self.progress.health, end=progress.samples)
        self.progress = replace(self.progress, health=now)
        self.micro_batches.close()
        self.open_stream()
        if self.sample_log is not None:
            self.sample_log.close()
            dist.barrier()
            if self.is_main:
                forget_after(self.folder, self.progress.step)
            dist.barrier()
            self.sample_log = SampleLog(self.folder, self.rank)
        first, end = now.left_out[-1]
        self.say(f"WARNING: {row}: back to {good.path}; samples {first}..{end - 1} are left out for good")

    def log_training(self) -> None:
        """Report the mean loss since the last call, and the speed. A collective."""
        local = [self.loss_sum, self.loss_sum.new_tensor(float(self.stream.replaced_blocks))]
        sums = torch.cat([torch.stack(local), self.observer.take_hits()])
        dist.all_reduce(sums)
        steps = self.plan.expected_steps(self.progress.step, self.progress.seconds)
        metrics = {
            "train/learning_rate": self.progress.rate,
            "train/samples": float(self.progress.samples),
            "train/tokens": float(self.progress.samples * self.stream.seq_length),
            "train/epoch": self.progress.samples / self.stream.blocks,
            "train/skipped_steps": float(self.progress.health.skipped_steps),
            **self.observer.meter.lap(self.progress.step, steps),
        }
        if self.losses_summed:
            metrics["train/loss"] = sums[0].item() / self.world_size / self.losses_summed
        if sums[3] > 0:
            metrics["train/accuracy"] = (sums[2] / sums[3]).item()
        if self.config.stream.damaged == "skip":
            metrics["train/replaced_blocks"] = sums[1].item()
        norm = gradient_norm(self.engine)
        if norm is not None and math.isfinite(norm):
            metrics["train/gradient_norm"] = norm
        if self.progress.precision == "fp16":
            metrics["train/loss_scale"] = float(self.engine.loss_scale())
        self.loss_sum.zero_()
        self.losses_summed = 0
        self.observer.log(metrics, self.progress.step)

    def validate(self) -> None:
        """Held-out loss, and masked accuracy at every depth; of the averaged weights too. A collective."""
        with self.phase("validation", "validating"):
            metrics = validate_depths(self.engine.module, self.validation_batches(), self.device)
            if self.ema is not None:
                averaged = validate_depths(self.ema.model, self.validation_batches(), self.device)
                metrics |= {name.replace("validation/", "validation_ema/"): value for name, value in averaged.items()}
            self.observer.log(metrics, self.progress.step)
            self.observer.draw()

    def validation_batches(self) -> Iterator[MaskedBatch]:
        """This rank's held-out batches."""
        return validation_batches(
            self.config.data,
            self.config.masking,
            batch_size=self.config.micro_batch_size,
            max_blocks=self.config.validation.blocks,
            rank=self.rank,
            world_size=self.world_size,
            remote=self.config.stream.remote,
        )
