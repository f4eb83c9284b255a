"""Pretraining, read from top to bottom: `pretrain` sets up, `_fit` trains, the helpers below do one thing each."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
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
from .check import check_run, first_progress
from .config import PretrainConfig
from .console import Console
from .engine import build_engine, gradient_norm, init_distributed, set_learning_rate
from .export import export, tokenizer_folder
from .figures import RunPicture
from .job import job_tags
from .meter import Meter, Peak
from .peak import peak_flops
from .probes import GradientProbe
from .profiler import StepProfiler
from .stop import StopFlag
from .validate import validate


class Tracker(Protocol):
    """Where a run's numbers and pictures go; `launch` provides it."""

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Record `values` at `step`."""

    def log_tags(self, tags: dict[str, str]) -> None:
        """Record free text by name."""

    def log_figure(self, path: Path) -> None:
        """Record a picture; it may be called again when the picture has changed."""

    def log_model(self, path: Path) -> None:
        """Record the folder of a model, if the tracker wants it."""


def pretrain(config: PretrainConfig, open_tracker: Callable[[], Tracker], console: Console) -> bool:
    """Train to `config.steps`, or until asked to stop; every rank of the job calls this.

    Continues the run in `config.output` from its newest complete checkpoint, if there is one. Ends with a checkpoint
    and, when all steps are done, with the model in RUN/model and a picture in RUN/pretraining.png.

    Args:
        open_tracker: called once, on rank 0, when the run is known to be sound.
        console: shows the user how it goes; called on rank 0 only.

    Returns:
        True when finished, False when stopped by a signal.

    Raises:
        PretrainError: everything wrong with the configuration, the data or the output folder, before any work.
    """
    device = init_distributed()
    try:
        check_run(config, dist.get_world_size())
        run = Run(config, device, open_tracker, console)
        finished = run.fit()
        if finished and run.is_main:
            run.publish()
        dist.barrier()
        return finished
    finally:
        dist.destroy_process_group()


class Run:
    """One process's part of a pretraining run."""

    def __init__(
        self,
        config: PretrainConfig,
        device: torch.device,
        open_tracker: Callable[[], Tracker],
        console: Console,
    ):
        self.config = config
        self.device = device
        self.folder = Path(config.output)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.is_main = self.rank == 0
        self.console = console
        self.stream = TokenStream(
            config.data, config.stream, config.masking, rank=self.rank, world_size=self.world_size
        )
        self.progress = first_progress(config, self.stream, self.world_size)
        set_seed(config.seed)
        model = AcnForMaskedLM(AcnConfig(**self.progress.model))
        self.engine = build_engine(model.to(self.device), config)
        self.tracker = open_tracker() if self.is_main else None
        resumed = checkpoints.newest_complete(self.folder)
        if resumed is not None:
            checkpoints.load(self.engine, resumed)
            self.progress = resumed.progress
            self.say(f"resuming from {resumed.path} at step {self.progress.step}")
        tags = job_tags(device)
        if self.tracker is not None:
            self.tracker.log_tags(tags)
        self.meter = Meter(model.config, Peak(peak_flops(device, config.precision), self.world_size), device)
        self.probe = GradientProbe(model)
        self.profiler = StepProfiler(config.profile, self.folder / "profile", self.rank, device)
        shape = f"{config.model.connectivity}, {config.model.num_hidden_layers} layers x {config.model.hidden_size}"
        self.picture = RunPicture(self.folder, f"{self.folder.name} ({shape})")
        self.hits = torch.zeros(2, device=device)  # masked positions predicted correctly, and all, of a logging step
        parameters = sum(p.numel() for p in model.parameters())
        self.say(
            f"{config.model.connectivity} model, {config.model.num_hidden_layers} layers x {config.model.hidden_size}, "
            f"{parameters / 1e6:.1f}M parameters; {self.stream.blocks:,} blocks of {self.stream.seq_length} tokens; "
            f"{self.world_size} rank(s), ZeRO stage {config.zero_stage}, {config.precision}; run: {self.folder}"
        )

    def say(self, line: str) -> None:
        """Tell the user, once for all ranks."""
        if self.is_main:
            self.console.say(line)

    def log(self, metrics: dict[str, float]) -> None:
        """Record metrics at the current step and show them, once for all ranks."""
        if self.tracker is not None:
            self.tracker.log_metrics(metrics, self.progress.step)
            self.console.progress(self.progress.step, self.config.steps, metrics)

    def fit(self) -> bool:
        """Train until all steps are done (True) or a stop is agreed on (False); a checkpoint is written either way."""
        config = self.config
        micro_batches = self.stream.micro_batches(self.progress.samples, config.micro_batch_size)
        losses = torch.zeros((), device=self.device)
        logged = self.progress.step
        saved = self.progress.step
        with StopFlag() as stop:
            while self.progress.step < config.steps:
                self.profiler.before_step(self.progress.step + 1)
                losses += self.train_step(micro_batches)
                step = self.progress.step
                self.say_where(self.profiler.after_step(step))
                if self.due(config.log_every):
                    self.log_training(losses / (step - logged), self.meter.lap(step, config.steps))
                    losses.zero_()
                    logged = step
                if self.due(config.validation.every):
                    self.validate()
                if stop.agreed(self.device):
                    break
                if config.checkpoint.every and step % config.checkpoint.every == 0:
                    self.save()
                    saved = step
        micro_batches.close()
        self.say_where(self.profiler.close())
        if saved != self.progress.step:
            self.save()
        return self.progress.step >= config.steps

    def say_where(self, trace: Path | None) -> None:
        """Say where a trace was written, if one was."""
        if trace is not None:
            self.say(f"step {self.progress.step}  profile {trace}")

    def due(self, every: int, ahead: int = 0) -> bool:
        """Whether something that happens every `every` steps, and at the last one, is due now, or `ahead` steps on."""
        step = self.progress.step + ahead
        return step == self.config.steps or (every > 0 and step % every == 0)

    def train_step(self, micro_batches: Iterator[MaskedBatch]) -> torch.Tensor:
        """One optimizer step over the global batch; returns this rank's mean loss (a scalar still on the device)."""
        config, step = self.config, self.progress.step
        set_learning_rate(self.engine, config.optim.lr * config.schedule.factor(step, config.steps))
        # dropout is a function of (seed, step, rank): resuming needs no random state
        torch.manual_seed((config.seed * 1_000_003 + step) * 65_537 + self.rank)
        loss_sum = torch.zeros((), device=self.device)
        accumulation = self.engine.gradient_accumulation_steps()
        logging = self.due(config.log_every, ahead=1)
        probing = config.probes.every > 0 and self.due(config.probes.every, ahead=1)
        for micro in range(accumulation):
            with self.meter.phase("data"):
                batch = next(micro_batches)
                labels = batch.labels.to(self.device, non_blocking=True)
            with self.probe.listen() if probing and micro == 0 else nullcontext():
                with self.meter.phase("forward"):
                    outputs = self.engine(**model_inputs(batch, self.device), labels=labels)
                if probing and micro == 0:
                    self.probe.watch(outputs.loss)
                with self.meter.phase("backward"):
                    self.engine.backward(outputs.loss)
            with self.meter.phase("optimizer"):
                self.engine.step()
            loss_sum += outputs.loss.detach()
            if logging:
                self.hits += hits(outputs.logits, labels)
        self.meter.count(config.global_batch_size, batch.input_ids.shape[1], batch.masked_positions.shape[1])
        samples = self.progress.samples + config.global_batch_size
        self.progress = replace(self.progress, step=step + 1, samples=samples)
        if probing:
            self.log(self.probe.metrics())
        return loss_sum / accumulation

    def log_training(self, loss: torch.Tensor, speed: dict[str, float]) -> None:
        """Average the loss over the ranks and report it. A collective."""
        sums = torch.cat([torch.stack([loss, loss.new_tensor(float(self.stream.replaced_blocks))]), self.hits])
        dist.all_reduce(sums)
        self.hits.zero_()
        metrics = {
            "train/loss": sums[0].item() / self.world_size,
            "train/accuracy": (sums[2] / sums[3]).item(),
            "train/learning_rate": self.engine.optimizer.param_groups[0]["lr"],
            "train/samples": float(self.progress.samples),
            "train/tokens": float(self.progress.samples * self.stream.seq_length),
            "train/epoch": self.progress.samples / self.stream.blocks,
            **speed,
        }
        if self.config.stream.damaged == "skip":
            metrics["train/replaced_blocks"] = sums[1].item()
        norm = gradient_norm(self.engine)
        if norm is not None:
            metrics["train/gradient_norm"] = norm
        self.log(metrics)

    def validate(self) -> None:
        """Held-out loss and masked accuracy at every depth, and the picture of them so far. A collective."""
        batches = validation_batches(
            self.config.data,
            self.config.masking,
            batch_size=self.config.micro_batch_size,
            max_blocks=self.config.validation.blocks,
            rank=self.rank,
            world_size=self.world_size,
            remote=self.config.stream.remote,
        )
        with self.meter.phase("validation"):
            self.log(validate(self.engine.module, batches, self.device))
            self.draw()

    def draw(self, whatever_it_takes: bool = False) -> None:
        """Bring RUN/pretraining.png up to date, on rank 0."""
        if self.tracker is None:
            return
        try:
            picture = self.picture.draw(whatever_it_takes)
        except OSError as error:  # a full disk is no reason to stop training
            self.say(f"step {self.progress.step}  no picture: {error}")
            return
        if picture is not None:
            self.tracker.log_figure(picture)

    def save(self) -> None:
        """Write a checkpoint. A collective."""
        began = time.monotonic()
        with self.meter.phase("checkpoint"):
            path = checkpoints.save(self.engine, self.folder, self.progress, self.config.checkpoint.keep)
        self.log({"checkpoint/seconds": time.monotonic() - began})
        self.say(f"step {self.progress.step}  checkpoint {path}")

    def publish(self) -> None:
        """Leave the finished model and the run's picture in the run's folder; rank 0 only."""
        newest = checkpoints.newest_complete(self.folder)
        assert newest is not None, "fit() has just written it"
        export(newest, self.folder / "model", tokenizer_folder(self.stream.folder))
        self.draw(whatever_it_takes=True)
        if self.tracker is not None:
            self.tracker.log_model(self.folder / "model")


def hits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many of the targets (B, M) have the best of the scores (B, M, V), and how many there are: (2,) floats."""
    correct = (logits.detach().argmax(-1) == labels).sum()  # -100, no target, is never the best
    return torch.stack([correct, (labels != -100).sum()]).float()
