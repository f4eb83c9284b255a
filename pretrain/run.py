"""A run on one rank: what it consists of, where it goes on from, and what it leaves on disk."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import set_seed

from data_pipeline.stream import TokenStream
from modeling import AcnConfig, AcnForMaskedLM

from .budget import Branch
from .check import first_progress
from .checkpoints import (
    Checkpoint,
    Origin,
    Saver,
    checkpoint_folder,
    export_checkpoint,
    find_origin,
    load_checkpoint,
    load_resized,
    newest_complete,
    newest_sound,
    tokenizer_folder,
)
from .config import PretrainConfig
from .engine import attention, build_engine, checkpoint_activations, clips_outside, compile_layers, precision_warning
from .errors import UnhealthyError
from .files import write_text
from .lock import lock_run
from .observe import Console, Observer, SampleLog, Tracker, forget_after
from .optim import Ema
from .watchdog import Watchdog


class TrainingClock:
    """Seconds of training over all restarts: what the checkpoint knew, and the time since this process began."""

    def __init__(self, seconds_before: float) -> None:
        self._before = seconds_before
        self._start = time.monotonic()

    def seconds(self) -> float:
        """On this rank's clock."""
        return self._before + time.monotonic() - self._start

    def agreed(self, device: torch.device) -> float:
        """On rank 0's clock, for decisions that all ranks must take alike. A collective."""
        reading = torch.tensor(self.seconds(), dtype=torch.float64, device=device)
        dist.broadcast(reading, src=0)
        return float(reading)


class Run:
    """One process's part of a pretraining run, between two steps: `Training` adds the steps."""

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
        self.micro_batch = config.micro_batch(self.world_size)
        self.console = console
        self._lock = lock_run(self.folder, console.say) if self.is_main else None
        self.stream = TokenStream(
            config.data, config.stream, config.masking, rank=self.rank, world_size=self.world_size
        )
        self.progress = first_progress(config, self.stream, self.world_size)
        resumed = newest_sound(self.folder, self.say)
        origin = find_origin(config.branch_from, config.init_from) if resumed is None else None
        set_seed(config.seed)
        model = AcnForMaskedLM(AcnConfig(**self.progress.model, attn_implementation=attention(config)))
        if origin is not None:
            origin.give_weights(model, self.rank, self.world_size)
            self.say(f"starting from {origin.checkpoint.path}")
        if config.activation_checkpointing:
            checkpoint_activations(model)
        if config.compile:
            compile_layers(model)
        parameters = sum(p.numel() for p in model.parameters())
        self.engine = build_engine(model.to(self.device), config)
        self.clip_outside = config.optim.grad_clip if clips_outside(config) else None
        self.loss_sum = torch.zeros((), device=self.device)  # since the last logging step
        self.losses_summed = 0
        self.step_loss: float | None = None  # of all ranks; known only where spikes are looked for
        self.save_failed = False
        self.watchdog = Watchdog(self.rank, config.hang_seconds)
        self.observer = Observer(config, model, self.progress.precision, device, open_tracker, console)
        self.saver = Saver(self.engine, self.folder, config.checkpoint, self.say, self.observer.log)
        average = AcnForMaskedLM(AcnConfig(**self.progress.model)) if config.ema.decay else None
        self.ema = Ema(config.ema, average, self.device) if average is not None else None
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

        if (warning := precision_warning(self.progress.precision)) is not None:
            self.say(warning)

    def say(self, line: str) -> None:
        """Tell the user, once for all ranks."""
        if self.is_main:
            self.console.say(line)

    @contextmanager
    def phase(self, name: str, doing: str) -> Iterator[None]:
        """Time a part of a step, and let the watchdog say what this rank is `doing` when it takes too long."""
        with self.observer.meter.phase(name), self.watchdog.doing(f"{doing} (step {self.progress.step + 1})"):
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
            load_checkpoint(self.engine, checkpoint)
        else:
            self.say(
                f"{checkpoint.path} was written by {saved.world_size} rank(s), ZeRO stage {saved.zero_stage}, "
                f"{saved.precision}: converting"
            )
            load_resized(self.engine, checkpoint, checkpoint_folder(self.folder))
        self.progress = replace(saved, world_size=now.world_size, zero_stage=now.zero_stage, precision=now.precision)
        if self.ema is not None and not self.ema.load(checkpoint.path):
            self.say(f"{checkpoint.path} has no average of the weights: a new one begins")
            self.ema.start(self.engine)
        self.observer.meter.restart()

    def open_stream(self) -> None:
        """Read on from the run's next sample that has not been left out."""
        self.progress = replace(self.progress, samples=self.progress.health.past_left_out(self.progress.samples))
        self.micro_batches = self.stream.micro_batches(self.progress.samples, self.micro_batch)

    @property
    def finished(self) -> bool:
        """Whether the budget is used up."""
        return self.plan.finished(self.progress.step, self.progress.seconds)

    def due(self, every: int) -> bool:
        """Whether something that happens every `every` steps, and at the last one, is due."""
        return self.finished or (every > 0 and self.progress.step % every == 0)

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
            newest = newest_complete(self.folder)
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
        newest = newest_complete(self.folder)
        assert newest is not None, "it has just been written"
        output.parent.mkdir(exist_ok=True)
        export_checkpoint(newest, output, tokenizer_folder(self.stream.folder), ema=ema)

    def publish(self) -> None:
        """Leave the finished model and the run's picture in the run's folder; rank 0 only."""
        self.export(self.folder / "model")
        if self.ema is not None:
            self.export(self.folder / "model-ema", ema=True)
        self.observer.publish(self.folder / "model")
