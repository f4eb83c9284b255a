"""What is measured of a running pretraining, and where it goes: the tracker, the console, RUN/profile, the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.distributed as dist

from data_pipeline.stream import MaskedBatch, TokenStream
from modeling import AcnConfig, AcnForMaskedLM, precision_warning

from ..config import PretrainConfig
from .console import Console
from .gradients import GradientProbe
from .job import job_tags
from .meter import Meter, Peak
from .peak import peak_flops
from .profiler import StepProfiler

if TYPE_CHECKING:
    from ..checkpoints import Progress
    from .figures import RunPicture


class Tracker(Protocol):
    """Where a run's numbers and pictures go; `launch` provides it."""

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        """Record `values` at `step`."""

    def log_tags(self, tags: dict[str, str]) -> None:
        """Record free text by name."""

    def log_figure(self, path: Path) -> None:
        """Record a picture; called again when it has changed."""

    def log_model(self, path: Path) -> None:
        """Record the folder of a model, if the tracker wants it."""


class Observer:
    """One rank's measurements of the training loop:

        observer.begin_step(step, steps)
        for batch in batches:
            with observer.micro_batch():
                with observer.meter.phase("forward"):
                    outputs = engine(...)
                observer.saw(outputs, labels)
                with observer.meter.phase("backward"):
                    engine.backward(outputs.loss)
        observer.end_step(batches, global_batch_size)
        observer.count_losses(losses)  # if the step was applied
        observer.log(observer.take_means(...) | ..., step)  # on logging steps

    What a step costs beyond the phases' clocks: on logging steps an argmax over the logits, on probing steps the norms
    of `AcnGradientProbe` in one micro-batch. Rank 0 alone records and shows.

    Args:
        model: before `torch.compile`, as the engine's module.
        precision: fp32, bf16 or fp16, resolved.
        open_tracker: called once, on rank 0. Building an observer is a collective.
        teacher: the architecture of the one that the run has.
    """

    def __init__(
        self,
        config: PretrainConfig,
        model: AcnForMaskedLM,
        precision: str,
        device: torch.device,
        open_tracker: Callable[[], Tracker],
        console: Console,
        teacher: AcnConfig | None = None,
    ):
        self.config = config
        self.console = console
        self.precision = precision
        rank, ranks = dist.get_rank(), dist.get_world_size()
        folder = Path(config.output)
        peak = Peak(peak_flops(device, precision), ranks)
        self.meter = Meter(model.config, peak, device, teacher, config.teacher.masked, config.supervision)
        self.tracker = open_tracker() if rank == 0 else None
        tags = job_tags(device)
        if self.tracker is not None:
            self.tracker.log_tags(tags)
        self._probe = GradientProbe(model)
        self._profiler = StepProfiler(config.profile, folder / "profile", rank, device)
        self._hits = torch.zeros(2, device=device)
        self._parts = torch.zeros(3, device=device)  # of a loss made of several: match, mlm_loss, micro-batches
        # summed on the device: reading the loss at every step would wait for every step
        self._loss = torch.zeros((), device=device)
        self._losses = 0
        self._step = self._steps = 0
        self._logging = self._probing = self._listening = False

    @cached_property
    def _picture(self) -> RunPicture:
        from .figures import RunPicture  # matplotlib takes half a second, which the first step need not wait for

        model, folder = self.config.model, Path(self.config.output)
        shape = f"{model.connectivity}, {model.num_hidden_layers} layers x {model.hidden_size}"
        return RunPicture(folder, f"{folder.name} ({shape})")

    def say(self, line: str) -> None:
        """Tell the user, once for all ranks."""
        if self.tracker is not None:
            self.console.say(line)

    def introduce(self, parameters: int, stream: TokenStream) -> None:
        """Tell the user what is going to be trained, on what, and how."""
        model = self.config.model
        self.say(
            f"{model.connectivity} model, {model.num_hidden_layers} layers x {model.hidden_size}, "
            f"{parameters / 1e6:.1f}M parameters; {stream.blocks:,} blocks of {stream.seq_length} tokens; "
            f"{stream.world_size} rank(s), ZeRO stage {self.config.zero_stage}, {self.precision}; "
            f"run: {Path(self.config.output)}"
        )
        if (warning := precision_warning(self.precision)) is not None:
            self.say(warning)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Record and show metrics, once for all ranks."""
        if self.tracker is not None:
            self.console.progress(step, self._steps, metrics)
            self.tracker.log_metrics(metrics, step)  # second: the first time it may have to import MLflow

    def log_training(self, progress: Progress, stream: TokenStream, steps: int, of_the_step: dict[str, float]) -> None:
        """Record and show how training went since the last call. A collective.

        Args:
            steps: expected in all.
            of_the_step: metrics of the last step itself.
        """
        metrics = {
            "train/learning_rate": progress.rate,
            "train/samples": float(progress.samples),
            "train/tokens": float(progress.samples * stream.seq_length),
            "train/epoch": progress.samples / stream.blocks,
            "train/skipped_steps": float(progress.health.skipped_steps),
            **self.meter.lap(progress.step, steps),
            **self.take_means(stream.replaced_blocks),
        }
        if self.config.anneal.share:
            metrics["train/shortcut_scale"] = progress.shortcut_scale
        self.log(metrics | of_the_step, progress.step)

    def begin_step(self, step: int, steps: int) -> None:
        """Get ready for optimizer step `step` (1 is the first) of `steps`."""
        self._step, self._steps = step, steps
        self._logging = step == steps or step % self.config.log_every == 0
        every = self.config.probes.every
        self._probing = every > 0 and (step == steps or step % every == 0)
        self._profiler.before_step(step)

    @contextmanager
    def micro_batch(self) -> Iterator[None]:
        """Forward and backward pass of one micro-batch; the first one of a probing step is probed."""
        if not self._probing or self._listening:
            yield
            return
        self._listening = True
        with self._probe.listen():
            yield

    def saw(self, outputs: Any, labels: torch.Tensor | None) -> None:
        """Look at the model's outputs, before their backward pass, on logging steps only: masked accuracy, and of what
        a loss with a teacher or of several depths is made.

        Args:
            labels: (B, M); None where no masked tokens are predicted.
        """
        if self._listening and not self._probe.watching:
            self._probe.watch(outputs.loss)
        parts = [getattr(outputs, name, None) for name in ("match", "mlm_loss")]
        if self._logging and any(part is not None for part in parts):
            one = self._parts.new_ones(())
            self._parts += torch.stack([*(0 * one if part is None else part.to(one) for part in parts), one])
        if self._logging and labels is not None:
            correct = (outputs.logits.detach().argmax(-1) == labels).sum()  # -100, no target, is never the best
            self._hits += torch.stack([correct, (labels != -100).sum()])

    def end_step(self, batches: list[MaskedBatch], samples: int) -> None:
        """Count the work of `samples` blocks, over all ranks, of the shape of `batches`. A collective when probing."""
        self.meter.count(samples, batches[0].input_ids.shape[1], batches[0].masked_positions.shape[1])
        if self._listening:
            self._listening = False
            self.log(self._probe.metrics(), self._step)
        self._say_where(self._profiler.after_step(self._step))

    def count_losses(self, losses: Sequence[torch.Tensor]) -> None:
        """Take the micro-batches' losses of an applied step into the mean."""
        self._loss += torch.stack(list(losses)).mean()
        self._losses += 1

    def take_means(self, replaced_blocks: int) -> dict[str, float]:
        """`train/loss` and `train/accuracy` since the last call, over all ranks, and `train/replaced_blocks`; with a
        teacher or depth supervision also of what the loss is made for the whole model, `train/match` and
        `train/mlm_loss`.

        What there is none of is left out, so that a curve has a gap there and not a wrong point: the loss where no step
        was applied, the blocks where damaged ones are an error. A collective, one exchange for all of it.

        Args:
            replaced_blocks: this rank's.
        """
        counts = torch.stack([self._loss, self._loss.new_tensor(float(replaced_blocks))])
        sums = torch.cat([counts, self.take_hits(), self._parts])
        dist.all_reduce(sums)
        self._parts.zero_()
        metrics = {}
        if self._losses:
            metrics["train/loss"] = sums[0].item() / dist.get_world_size() / self._losses
        if sums[3] > 0:
            metrics["train/accuracy"] = (sums[2] / sums[3]).item()
        if sums[6] > 0:
            if self.config.teacher.taught:
                metrics["train/match"] = (sums[4] / sums[6]).item()
            if self.config.teacher.masked:
                metrics["train/mlm_loss"] = (sums[5] / sums[6]).item()
        if self.config.stream.damaged == "skip":
            metrics["train/replaced_blocks"] = sums[1].item()
        self._loss.zero_()
        self._losses = 0
        return metrics

    def take_hits(self) -> torch.Tensor:
        """(2,) masked positions of this rank predicted correctly, and all of them, on the logging step just made."""
        hits, self._hits = self._hits, torch.zeros_like(self._hits)
        return hits

    def draw(self, whatever_it_takes: bool = False) -> None:
        """Bring RUN/pretraining.png up to date, on rank 0."""
        if self.tracker is None:
            return
        picture = self._picture.draw(whatever_it_takes)
        if picture is not None:
            self.tracker.log_figure(picture)

    def publish(self, model: Path) -> None:
        """Record the finished model and the last picture, on rank 0."""
        self.draw(whatever_it_takes=True)
        if self.tracker is not None:
            self.tracker.log_model(model)

    def close(self) -> None:
        """Write the trace of a profile that the end of the run cut short."""
        self._say_where(self._profiler.close())

    def _say_where(self, trace: Path | None) -> None:
        if trace is not None:
            self.say(f"step {self._step}  profile {trace}")
