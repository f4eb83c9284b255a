"""Pretraining, read from top to bottom: `pretrain` sets up, `_fit` trains, the helpers below do one thing each."""

from collections.abc import Callable, Iterator
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
from .engine import build_engine, gradient_norm, init_distributed, set_learning_rate
from .export import export, tokenizer_folder
from .figures import draw_run
from .meter import Meter, progress_line
from .stop import StopFlag
from .validate import validate


class Tracker(Protocol):
    """Where a run's numbers and pictures go; `launch` provides it."""

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Record `values` at `step`."""

    def log_figure(self, path: Path) -> None:
        """Record a picture."""


def pretrain(config: PretrainConfig, open_tracker: Callable[[], Tracker], say: Callable[[str], None]) -> bool:
    """Train to `config.steps`, or until asked to stop; every rank of the job calls this.

    Continues the run in `config.output` from its newest complete checkpoint, if there is one. Ends with a checkpoint
    and, when all steps are done, with the model in RUN/model and a picture in RUN/pretraining.png.

    Args:
        open_tracker: called once, on rank 0, when the run is known to be sound.
        say: prints a line for the user; called on rank 0 only.

    Returns:
        True when finished, False when stopped by a signal.

    Raises:
        PretrainError: everything wrong with the configuration, the data or the output folder, before any work.
    """
    device = init_distributed()
    try:
        check_run(config, dist.get_world_size())
        run = Run(config, device, open_tracker, say)
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
        say: Callable[[str], None],
    ):
        self.config = config
        self.device = device
        self.folder = Path(config.output)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.is_main = self.rank == 0
        self._say = say
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
        parameters = sum(p.numel() for p in model.parameters())
        self.say(
            f"{config.model.connectivity} model, {config.model.num_hidden_layers} layers x {config.model.hidden_size}, "
            f"{parameters / 1e6:.1f}M parameters; {self.stream.blocks:,} blocks of {self.stream.seq_length} tokens; "
            f"{self.world_size} rank(s), ZeRO stage {config.zero_stage}, {config.precision}; run: {self.folder}"
        )

    def say(self, line: str) -> None:
        """Tell the user, once for all ranks."""
        if self.is_main:
            self._say(line)

    def log(self, metrics: dict[str, float]) -> None:
        """Record metrics at the current step, once for all ranks."""
        if self.tracker is not None:
            self.tracker.log_metrics(metrics, self.progress.step)

    def fit(self) -> bool:
        """Train until all steps are done (True) or a stop is agreed on (False); a checkpoint is written either way."""
        config = self.config
        micro_batches = self.stream.micro_batches(self.progress.samples, config.micro_batch_size)
        tokens = config.global_batch_size * self.stream.seq_length
        meter = Meter(self.progress.step, config.steps, tokens)
        losses = torch.zeros((), device=self.device)
        logged = self.progress.step
        saved = self.progress.step
        with StopFlag() as stop:
            while self.progress.step < config.steps:
                losses += self.train_step(micro_batches)
                step = self.progress.step
                if self.due(config.log_every):
                    self.log_training(losses / (step - logged), meter.lap(step))
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
        if saved != self.progress.step:
            self.save()
        return self.progress.step >= config.steps

    def due(self, every: int) -> bool:
        """Whether something that happens every `every` steps, and at the last one, is due."""
        step = self.progress.step
        return step == self.config.steps or (every > 0 and step % every == 0)

    def train_step(self, micro_batches: Iterator[MaskedBatch]) -> torch.Tensor:
        """One optimizer step over the global batch; returns this rank's mean loss (a scalar still on the device)."""
        config, step = self.config, self.progress.step
        set_learning_rate(self.engine, config.optim.lr * config.schedule.factor(step, config.steps))
        # dropout is a function of (seed, step, rank): resuming needs no random state
        torch.manual_seed((config.seed * 1_000_003 + step) * 65_537 + self.rank)
        loss_sum = torch.zeros((), device=self.device)
        accumulation = self.engine.gradient_accumulation_steps()
        for _ in range(accumulation):
            batch = next(micro_batches)
            labels = batch.labels.to(self.device, non_blocking=True)
            loss = self.engine(**model_inputs(batch, self.device), labels=labels).loss
            self.engine.backward(loss)
            self.engine.step()
            loss_sum += loss.detach()
        samples = self.progress.samples + config.global_batch_size
        self.progress = replace(self.progress, step=step + 1, samples=samples)
        return loss_sum / accumulation

    def log_training(self, loss: torch.Tensor, speed: dict[str, float]) -> None:
        """Average the loss over the ranks and report it. A collective."""
        sums = torch.stack([loss, loss.new_tensor(float(self.stream.replaced_blocks))])
        dist.all_reduce(sums)
        metrics = {
            "train/loss": sums[0].item() / self.world_size,
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
        self.say(progress_line(self.progress.step, self.config.steps, metrics))

    def validate(self) -> None:
        """Held-out loss, and masked accuracy at every depth. A collective."""
        batches = validation_batches(
            self.config.data,
            self.config.masking,
            batch_size=self.config.micro_batch_size,
            max_blocks=self.config.validation.blocks,
            rank=self.rank,
            world_size=self.world_size,
            remote=self.config.stream.remote,
        )
        metrics = validate(self.engine.module, batches, self.device)
        self.log(metrics)
        self.say(
            f"step {self.progress.step}  validation loss {metrics['validation/loss']:.4f}  "
            f"masked accuracy {metrics['validation/accuracy']:.4f}"
        )

    def save(self) -> None:
        """Write a checkpoint. A collective."""
        path = checkpoints.save(self.engine, self.folder, self.progress, self.config.checkpoint.keep)
        self.say(f"step {self.progress.step}  checkpoint {path}")

    def publish(self) -> None:
        """Leave the finished model and the run's picture in the run's folder; rank 0 only."""
        newest = checkpoints.newest_complete(self.folder)
        assert newest is not None, "fit() has just written it"
        export(newest, self.folder / "model", tokenizer_folder(self.stream.folder))
        if self.tracker is not None:
            model = self.config.model
            shape = f"{model.connectivity}, {model.num_hidden_layers} layers x {model.hidden_size}"
            self.tracker.log_figure(draw_run(self.folder, f"{self.folder.name} ({shape})"))
