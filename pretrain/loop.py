"""Pretraining, read from top to bottom: `pretrain` sets up, `Run.fit` trains, the helpers below do one thing each."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from transformers import set_seed

from data_pipeline import MaskedBatch, TokenStream, validation_batches
from modeling import AcnConfig, AcnForMaskedLM

from . import checkpoint as checkpoints
from .batch import model_inputs
from .budget import Branch, TrainingClock
from .check import check_run, first_progress
from .checkpoint import Checkpoint, Saver, gathered
from .config import PretrainConfig
from .ema import Ema
from .engine import build_engine, clips_outside, gradient_norm, init_distributed, set_global_batch, step
from .errors import UnhealthyError
from .export import export, tokenizer_folder
from .figures import draw_run
from .files import write_text
from .lock import lock
from .meter import Meter, progress_line
from .optim import set_learning_rate
from .origin import Origin, find_origin
from .resize import load_resized
from .sample_log import SampleLog, forget_after
from .stop import StopRequest, reason
from .validate import validate
from .watchdog import Watchdog


class Tracker(Protocol):
    """Where a run's numbers and pictures go; `launch` provides it."""

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Record `values` at `step`."""

    def log_figure(self, path: Path) -> None:
        """Record a picture."""


def pretrain(config: PretrainConfig, open_tracker: Callable[[], Tracker], say: Callable[[str], None]) -> bool:
    """Train until the budget is used up, or until asked to stop; every rank of the job calls this.

    Continues the run in `config.output` from its newest sound checkpoint, if there is one, whatever the number of ranks
    and the ZeRO stage it was written with. Ends with a checkpoint and, when finished, with the model in
    RUN/model and a picture in RUN/pretraining.png.

    Args:
        open_tracker: called once, on rank 0, when the run is known to be sound.
        say: prints a line for the user; called on rank 0 only.

    Returns:
        True when finished, False when stopped.

    Raises:
        PretrainError: everything wrong with the configuration, the data or the output folder, before any work.
        UnhealthyError: training cannot go on; the last complete checkpoint stands.
    """
    device = init_distributed(config.timeout_seconds)
    check_run(config, dist.get_world_size())
    run = Run(config, device, open_tracker, say)
    finished = run.fit()
    if finished and run.is_main:
        run.publish()
    dist.barrier()
    dist.destroy_process_group()  # not after an error: the other ranks may wait in a collective
    return finished


class Run:
    """One process's part of a pretraining run."""

    def __init__(
        self,
        config: PretrainConfig,
        device: torch.device,
        open_tracker: Callable[[], Tracker],
        say: Callable[[str], None],
    ):
        self.config = config
        self.device = device
        self.folder = Path(config.output)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.is_main = self.rank == 0
        self._say = say
        self._lock = lock(self.folder, say) if self.is_main else None
        self.stream = TokenStream(
            config.data, config.stream, config.masking, rank=self.rank, world_size=self.world_size
        )
        self.progress = first_progress(config, self.stream, self.world_size)
        resumed = checkpoints.newest_sound(self.folder, self.say)
        origin = find_origin(config.branch_from, config.init_from) if resumed is None else None
        set_seed(config.seed)
        model = AcnForMaskedLM(AcnConfig(**self.progress.model))
        if origin is not None:
            origin.give_weights(model, self.rank, self.world_size)
            self.say(f"starting from {origin.checkpoint.path}")
        parameters = sum(p.numel() for p in model.parameters())
        self.engine = build_engine(model.to(self.device), config)
        self.clip_outside = config.optim.grad_clip if clips_outside(config) else None
        self.loss_sum = torch.zeros((), device=self.device)  # since the last logging step
        self.losses_summed = 0
        self.step_loss: float | None = None  # of all ranks; known only where spikes are looked for
        self.save_failed = False
        self.saver = Saver(self.engine, self.folder, config.checkpoint, self.say)
        self.watchdog = Watchdog(self.rank, config.hang_seconds)
        self.meter = Meter(0)
        average = AcnForMaskedLM(AcnConfig(**self.progress.model)) if config.ema.decay else None
        self.ema = Ema(config.ema, average, self.device) if average is not None else None
        self.tracker = open_tracker() if self.is_main else None
        self.resume(resumed, origin)
        self.plan = config.plan(self.stream.blocks, self.stream.seq_length, self.progress.branch)
        self.clock = TrainingClock(self.progress.seconds)
        self.sample_log = SampleLog(self.folder, self.rank) if config.sample_log else None
        if self.is_main:
            write_text(self.folder / "deepspeed.json", json.dumps(self.engine.config, indent=1))
        self.say(
            f"{config.model.connectivity} model, {config.model.num_hidden_layers} layers x {config.model.hidden_size}, "
            f"{parameters / 1e6:.1f}M parameters; {self.stream.blocks:,} blocks of {self.stream.seq_length} tokens; "
            f"{self.world_size} rank(s), ZeRO stage {config.zero_stage}, {self.progress.precision}; run: {self.folder}"
        )

    def say(self, line: str) -> None:
        """Tell the user, once for all ranks."""
        if self.is_main:
            self._say(line)

    def log(self, metrics: dict[str, float]) -> None:
        """Record metrics at the current step, once for all ranks."""
        if self.tracker is not None:
            self.tracker.log_metrics(metrics, self.progress.step)

    @contextmanager
    def phase(self, name: str, doing: str) -> Iterator[None]:
        """Time a part of a step, and let the watchdog say what this rank is `doing` when it takes too long."""
        with self.meter.phase(name), self.watchdog.doing(f"{doing} (step {self.progress.step + 1})"):
            yield

    def resume(self, resumed: Checkpoint | None, origin: Origin | None) -> None:
        """Go on from the newest sound checkpoint, if there is one, or from where another run is left. A collective."""
        if resumed is not None:
            self.load(resumed)
            self.say(f"resuming from {resumed.path} at step {self.progress.step}")
        elif origin is not None and origin.branch:
            self.load(origin.checkpoint)
            branch = Branch(self.progress.step, self.progress.rate)
            self.progress = replace(self.progress, branch=branch, seconds=0.0)
        elif self.ema is not None:
            self.ema.start(self.engine)
        self.saved_step = self.progress.step
        self.open_stream()
        if self.is_main:
            forget_after(self.folder, self.progress.step)
        dist.barrier()

    def load(self, checkpoint: Checkpoint) -> None:
        """Take over weights, optimizer states and progress. A collective."""
        saved, now = checkpoint.progress, self.progress
        if saved.layout == now.layout:
            checkpoints.load(self.engine, checkpoint)
        else:
            self.say(
                f"{checkpoint.path} was written by {saved.world_size} rank(s), ZeRO stage {saved.zero_stage}, "
                f"{saved.precision}: converting"
            )
            load_resized(self.engine, checkpoint, checkpoints.checkpoints(self.folder))
        self.progress = replace(saved, world_size=now.world_size, zero_stage=now.zero_stage, precision=now.precision)
        if self.ema is not None and not self.ema.load(checkpoint.path):
            self.say(f"{checkpoint.path} has no average of the weights: a new one begins")
            self.ema.start(self.engine)
        self.meter.restart(self.progress.step)

    def open_stream(self) -> None:
        """Read on from the run's next sample that has not been left out."""
        self.progress = replace(self.progress, samples=self.progress.health.past_left_out(self.progress.samples))
        self.micro_batches = self.stream.micro_batches(self.progress.samples, self.config.micro_batch_size)

    def fit(self) -> bool:
        """Train until the budget is used up (True) or a stop is agreed on (False); a checkpoint ends it either way."""
        config = self.config
        stopped = 0
        with StopRequest(self.folder, config.stop_after_hours) as request, self.watchdog:
            while not self.finished and not stopped:
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
            if self.progress.step > self.saved_step:  # resumed past the last step of a shorter configuration otherwise
                self.save_or_fail()
            if stopped and self.is_main:
                request.clear_file()
        self.micro_batches.close()
        if stopped:
            self.say(f"stopped by {reason(stopped)} at step {self.progress.step}")
        return self.finished

    @property
    def finished(self) -> bool:
        """Whether the budget is used up."""
        return self.plan.finished(self.progress.step, self.progress.seconds)

    def due(self, every: int) -> bool:
        """Whether something that happens every `every` steps, and at the last one, is due."""
        return self.finished or (every > 0 and self.progress.step % every == 0)

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
            with self.phase("forward", "in the forward pass"):
                labels = batch.labels.to(self.device, non_blocking=True)
                loss = self.engine(**model_inputs(batch, self.device), labels=labels, num_items_in_batch=share).loss
            losses.append(loss.detach())
            if len(losses) == len(batches) and self.is_spike(losses):
                loss = loss * math.nan  # every rank then drops this step as it drops any gradient that is not finite
            with self.phase("backward", "in the backward pass or its gradient exchange"):
                self.engine.backward(loss)
            with self.phase("optimizer", "in the optimizer step or its parameter exchange"):
                applied = step(self.engine, self.clip_outside)
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
        self.meter.count(blocks * self.stream.seq_length)
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
        found = sorted(sample for rank in gathered(own) for micro_batch in rank for sample in micro_batch)
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
        good = checkpoints.newest_sound(self.folder, self.say, at_most=health.first_sick_step)
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
        sums = torch.stack(local)
        dist.all_reduce(sums)
        steps = self.plan.expected_steps(self.progress.step, self.progress.seconds)
        metrics = {
            "train/learning_rate": self.progress.rate,
            "train/samples": float(self.progress.samples),
            "train/tokens": float(self.progress.samples * self.stream.seq_length),
            "train/epoch": self.progress.samples / self.stream.blocks,
            "train/skipped_steps": float(self.progress.health.skipped_steps),
            **self.meter.lap(self.progress.step, steps),
        }
        if self.losses_summed:
            metrics["train/loss"] = sums[0].item() / self.world_size / self.losses_summed
        if self.config.stream.damaged == "skip":
            metrics["train/replaced_blocks"] = sums[1].item()
        norm = gradient_norm(self.engine)
        if norm is not None and math.isfinite(norm):
            metrics["train/gradient_norm"] = norm
        if self.progress.precision == "fp16":
            metrics["train/loss_scale"] = float(self.engine.loss_scale())
        self.loss_sum.zero_()
        self.losses_summed = 0
        self.log(metrics)
        self.say(progress_line(self.progress.step, steps, metrics))

    def validate(self) -> None:
        """Held-out loss, and masked accuracy at every depth; of the averaged weights too. A collective."""
        with self.phase("validation", "validating"):
            metrics = validate(self.engine.module, self.validation_batches(), self.device)
            if self.ema is not None:
                averaged = validate(self.ema.model, self.validation_batches(), self.device)
                metrics |= {name.replace("validation/", "validation_ema/"): value for name, value in averaged.items()}
        self.log(metrics)
        self.say(
            f"step {self.progress.step}  validation loss {metrics['validation/loss']:.4f}  "
            f"masked accuracy {metrics['validation/accuracy']:.4f}"
        )

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

    def save_if_due(self, stopping: bool) -> None:
        """Write a checkpoint where the configuration wants one, and again at the next log after one that failed."""
        every, step = self.config.checkpoint.every, self.progress.step
        retry = self.save_failed and self.due(self.config.log_every)
        if not stopping and not self.finished and ((every and step % every == 0) or retry):
            self.save()

    def save_or_fail(self) -> None:
        """Write the checkpoint that the end of training cannot do without. A collective.

        Raises:
            UnhealthyError: the disk did not take it.
        """
        self.save()
        self.finish_saving()
        if self.save_failed:
            newest = checkpoints.newest_complete(self.folder)
            kept = f"{newest.path} stands" if newest else "there is none yet"
            raise UnhealthyError(
                f"the checkpoint at step {self.progress.step} could not be written (the reason is above); {kept}: mend "
                "that, and the same command goes on from it"
            )

    def finish_saving(self) -> None:
        """Wait for a checkpoint that is written in the background, if there is one. A collective."""
        if self.saver.pending:
            self.save_failed = not self.saver.finish()

    def save(self) -> None:
        """Write a checkpoint, and the model in it where that is wanted. A collective."""
        with self.phase("checkpoint", "writing a checkpoint"):
            extra = self.ema.files() if self.ema is not None else None
            self.save_failed = not self.saver.save(self.progress, extra)
        if not self.save_failed:
            self.saved_step = self.progress.step
        wanted = self.config.checkpoint.export_every
        if wanted and self.progress.step % wanted == 0 and not self.save_failed:
            self.finish_saving()
            if self.is_main:
                self.export(self.folder / "models" / f"step-{self.progress.step:07d}")
            dist.barrier()

    def export(self, output: Path, ema: bool = False) -> None:
        """The newest checkpoint, or its average of the weights, as a Hugging Face folder; rank 0 only."""
        newest = checkpoints.newest_complete(self.folder)
        assert newest is not None, "it has just been written"
        output.parent.mkdir(exist_ok=True)
        export(newest, output, tokenizer_folder(self.stream.folder), ema=ema)

    def publish(self) -> None:
        """Leave the finished model and the run's picture in the run's folder; rank 0 only."""
        self.export(self.folder / "model")
        if self.ema is not None:
            self.export(self.folder / "model-ema", ema=True)
        if self.tracker is not None:
            model = self.config.model
            shape = f"{model.connectivity}, {model.num_hidden_layers} layers x {model.hidden_size}"
            self.tracker.log_figure(draw_run(self.folder, f"{self.folder.name} ({shape})"))
