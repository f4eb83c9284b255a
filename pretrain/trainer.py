"""Pretraining, read from top to bottom: `pretrain` runs a job; `Training` sets up, fits, makes a step, logs, validates.

What is not the loop has a place of its own: `recovery` (steps that are not finite, and going back), `checkpoints`
(saving, loading, exporting), `observe` (measuring and showing), `engine` (DeepSpeed), `budget` (batches and rates).
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from data_pipeline.stream import TokenStream
from modeling import AcnConfig, AcnForMaskedLM

from .budget import Branch, TrainingClock
from .check import check_run, first_progress, hold_folder
from .checkpoints import Checkpoint, Origin, Progress, Saver, StartingModel, find_start, load_checkpoint
from .config import PretrainConfig
from .distil import Annealing, open_lessons, prepare_start
from .engine import build_engine, build_model, init_distributed, set_global_batch
from .errors import lost_rank
from .observe import Console, Observer, SampleLog, Tracker
from .optim import Ema, set_learning_rate
from .recovery import MadeStep, Recovery, poison
from .step import Agreement, Reading, engine_steps, pinned, runs_ahead
from .stop import StopRequest, reason
from .validate import validate
from .watchdog import Watchdog


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
        DataError: the output folder is in use by another job for longer than its last checkpoint can take, or cannot be
            written.
        UnhealthyError: training cannot go on; the last complete checkpoint stands.
        LostRankError: another rank, its node or the link to it is gone.
    """
    device = init_distributed(config.timeout_seconds)
    config = check_run(config, dist.get_world_size())
    training = Training(config, device, open_tracker, console)
    try:
        finished = training.fit()
    except RuntimeError as error:
        if (lost := lost_rank(error, config.output)) is not None:
            raise lost from error
        raise
    if finished:
        model = training.saver.export_model()
        if training.is_main:
            training.observer.publish(model)
    dist.barrier()  # until rank 0 has exported: a scheduler may end a job soon after its first rank has left
    dist.destroy_process_group()  # not after an error: the other ranks may wait in a collective
    return finished


class Training:
    """One rank's part of a pretraining run: everything it consists of, and the loop over its optimizer steps."""

    def __init__(
        self, config: PretrainConfig, device: torch.device, open_tracker: Callable[[], Tracker], console: Console
    ):
        self.config, self.device, self.console = config, device, console
        self.folder = Path(config.output)
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.is_main = self.rank == 0
        # before checkpoints are looked for: the job before this one may still be writing its last
        self._lock = hold_folder(self.folder, console.say)
        self.stream = TokenStream(config.data, config.stream, config.masking, self.rank, self.world_size)
        self.progress = first = first_progress(config, self.stream, self.world_size)
        self.watchdog = Watchdog(self.rank, config.hang_seconds)
        self.recovery = Recovery(config.health, self.folder, self.say, config.trust_checkpoint)
        resumed, origin = find_start(config, self.say)
        self.lessons, make_model = open_lessons(config, self.stream, device)
        model = build_model(config, first.model, self.stream.packed, make_model)
        if origin is not None:
            self.say(f"starting from {origin.give_weights(model)}")
        parameters = sum(p.numel() for p in model.parameters())  # now: ZeRO 3 leaves a rank its part of them
        self.ema = Ema(config.ema, AcnForMaskedLM(AcnConfig(**first.model)), device) if config.ema.decay else None
        models = [model, self.ema.model] if self.ema else [model]
        self.annealing = Annealing(config.anneal, models, device, self.say)
        if resumed is None:
            prepare_start(config, self.lessons, model.to(device), self.annealing, self.say)
        self.engine = build_engine(model.to(device), config)
        self.ahead = runs_ahead(config)
        self.step = engine_steps(self.engine, config, self.ahead)
        self.made: deque[MadeStep] = deque()
        """Steps that the device was given and whose outcome is not known yet, oldest first."""
        self.observer = Observer(config, model, first.precision, device, open_tracker, console, self.lessons.taught_by)
        self.saver = Saver(self.engine, config, self.stream.folder, self.ema, self.say, self.observer.log, self.phase)
        self.sample_log = SampleLog(self.folder, config.sample_log)
        self.resume(resumed, origin)
        self.plan = config.plan(self.stream.blocks, self.stream.seq_length, self.progress.branch)
        self.clock = TrainingClock(self.progress.seconds)
        self.agree_on_seconds = Agreement(device, self.ahead, [self.progress.seconds])
        self.agree_on_flags = Agreement(device, self.ahead, [0, 0])
        self.saver.keep_beside()
        self.observer.introduce(parameters, self.stream)

    def resume(self, resumed: Checkpoint | None, origin: Origin | StartingModel | None) -> None:
        """Go on from the newest sound checkpoint, if there is one, or from where another run is left. A collective."""
        if resumed is not None:
            self.progress = self.load(resumed)
            self.say(f"resuming from {resumed.path} at step {self.progress.step}")
        elif isinstance(origin, Origin) and origin.branch:
            saved = self.load(origin.checkpoint)
            self.progress = replace(saved, branch=Branch(saved.step, saved.rate), seconds=0.0)
        elif self.ema is not None:
            self.ema.start(self.engine)
        self.saver.saved_step = self.progress.step
        self.open_stream()
        self.sample_log.go_on_after(self.progress.step)

    def load(self, checkpoint: Checkpoint) -> Progress:
        """Take over weights, optimizer states and average; returns the progress that they belong to. A collective."""
        progress = load_checkpoint(self.engine, self.ema, checkpoint, self.progress, self.folder, self.say)
        self.annealing.go_on_at(progress.shortcut_scale)
        self.observer.meter.restart()  # loading is no part of a step
        return progress

    def open_stream(self) -> None:
        """Read on from the run's next sample that has not been left out."""
        self.progress = replace(self.progress, samples=self.progress.health.past_left_out(self.progress.samples))
        self.micro_batches = self.stream.micro_batches(
            self.progress.samples, self.config.micro_batch(self.world_size), pinned(self.device) if self.ahead else None
        )

    def say(self, line: str) -> None:
        """Tell the user, once for all ranks."""
        if self.is_main:
            self.console.say(line)

    @contextmanager
    def phase(self, name: str, doing: str) -> Iterator[None]:
        """Time a part of a step, and let the watchdog say what this rank is `doing` when it takes too long."""
        with self.observer.meter.phase(name), self.watchdog.doing(f"{doing} (step {self.progress.step + 1})"):
            yield

    @property
    def finished(self) -> bool:
        """Whether the budget is used up."""
        return self.plan.finished(self.progress.step, self.progress.seconds)

    def due(self, every: int) -> bool:
        """Whether something that happens every `every` steps, and at the last one, is due."""
        return self.finished or (every > 0 and self.progress.step % every == 0)

    def fit(self) -> bool:
        """Train until the budget is used up (True) or a stop is agreed on (False); a checkpoint ends it either way.

        Raises:
            UnhealthyError: too many steps were not finite, or the last checkpoint could not be written.
        """
        stopped = 0
        with StopRequest(self.folder, self.config.stop_after_hours) as request, self.watchdog:
            while not self.finished and not stopped:
                stopped = self.advance(request)
            self.saver.save_last(self.progress)
            if stopped and self.is_main:
                request.clear_file()  # last: a checkpoint that could not be written leaves the wish to stop
        self.micro_batches.close()
        self.observer.close()
        if stopped:
            self.say(f"stopped by {reason(stopped)} at step {self.progress.step}")
        return self.finished

    def advance(self, request: StopRequest) -> int:
        """One optimizer step and whatever is due after it; returns the code of a stop agreed on, or 0."""
        self.train_step()
        if self.ema is not None:
            self.ema.update(self.engine, self.progress.step)
        # before the rest, so that what is logged, validated and saved is the state that training goes on from
        looked_at = self.due(self.config.log_every) or self.due(self.config.validation.every)
        self.settle(unsettled=int(self.ahead and not looked_at and not self.saver.due(self.progress)))
        if self.due(self.config.log_every):
            self.log()
        if self.due(self.config.validation.every):
            self.validate()
        stopped = self.agree_on_stop(request)
        if stopped:
            self.settle()
        elif not self.finished:  # `fit` saves at the end, where a full disk is an error
            self.saver.save_if_due(self.progress)
        return stopped

    def agree_on_stop(self, request: StopRequest) -> int:
        """The code of the stop that any rank asks for, or 0; and finish a checkpoint that all have written.

        A collective. A rank that stopped, or marked a checkpoint, by what it alone knows would leave the others waiting
        in their next collective. One exchange answers both questions, a step later where the host runs ahead.
        """
        with self.watchdog.doing("waiting for the other ranks at the end of a step"):
            code, least = self.agree_on_flags(request.code(), -self.saver.written_step)
        self.saver.finish_if_written(-int(least))
        return int(code)

    def train_step(self) -> None:
        """One optimizer step over the global batch, made by all ranks or left out by all. A collective."""
        done, blocks = self.progress.step, self.plan.batch(self.progress.step)
        self.observer.begin_step(done + 1, self.plan.expected_steps(done, self.progress.seconds))
        set_global_batch(self.engine, blocks)
        with self.phase("data", "waiting for data"):
            batches = [next(self.micro_batches) for _ in range(self.engine.gradient_accumulation_steps())]
        rate, scale = (course(done, self.progress.seconds) for course in (self.plan.rate, self.plan.shortcut_scale))
        self.progress = replace(self.progress, rate=rate, shortcut_scale=scale)
        set_learning_rate(self.engine, rate)
        self.annealing.set(scale)
        # dropout is a function of (seed, step, rank): resuming needs no random state, and no two ranks drop alike
        torch.manual_seed((self.config.seed * 1_000_003 + done) * 65_537 + self.rank)
        told = self.lessons.of_step(done, batches)
        losses: list[torch.Tensor] = []
        applied: Reading | None = None
        for batch in batches:
            if self.config.compile == "graphs":  # what the graphs of the one before have left may be overwritten
                torch.compiler.cudagraph_mark_step_begin()
            with self.observer.micro_batch():
                with self.phase("forward", "in the forward pass"):
                    lesson = self.lessons.read(batch)
                    outputs = self.engine(**lesson.arguments(), **told)
                self.observer.saw(outputs, lesson.labels)
                loss = outputs.loss
                losses.append(loss.detach())
                # only now is the step's loss known, and its last backward pass is the last chance to leave it out
                if len(losses) == len(batches) and self.recovery.find_spike(losses, self.progress.health):
                    loss = poison(loss)
                with self.phase("backward", "in the backward pass or its gradient exchange"):
                    self.engine.backward(loss)
            with self.phase("optimizer", "in the optimizer step or its parameter exchange"):
                applied = self.step()
        self.observer.end_step(batches, blocks)
        assert applied is not None, "the last micro-batch of a step ends it"
        self.made.append(MadeStep(self.progress, self.progress.samples + blocks, batches, losses, applied))
        self.count_step(self.progress.samples + blocks)

    def count_step(self, end: int) -> None:
        """Go on after the step whose samples end before `end`. A collective where the schedule follows the clock."""
        # A step that was left out counts like any other: its samples are used up and the schedule moves on. The order
        # of the data and the rates then do not depend on what went wrong, nor on when that is known.
        seconds = self.clock.seconds()
        if self.plan.seconds is not None:  # all ranks need the same reading
            (seconds,) = self.agree_on_seconds(seconds)
        self.progress = replace(self.progress, step=self.progress.step + 1, samples=end, seconds=seconds)
        if self.progress.health.past_left_out(end) != end:
            self.open_stream()

    def settle(self, unsettled: int = 0) -> None:
        """Account for the steps made, all but the `unsettled` newest, and go back when they were too bad. A collective.

        The newer ones that the device was given meanwhile are then forgotten, as if they had never been.
        """
        while len(self.made) > unsettled:
            step = self.made.popleft()
            with self.watchdog.doing("waiting for the device to end a step"):
                applied = bool(step.applied.values())
            self.recovery.judge(step, applied)
            if applied:
                self.observer.count_losses(step.losses)
            self.sample_log.add(step.before.step + 1, [batch.samples for batch in step.batches])
            self.progress = replace(self.progress, applied=self.progress.applied + int(applied))
            if self.recovery.out_of_patience(step.before.health):
                self.made.clear()
                self.roll_back(step.after(self.progress))

    def roll_back(self, sick: Progress) -> None:
        """Go on from before the row of sick steps that `sick` is at the end of, without their samples. A collective."""
        self.saver.finish_pending()
        self.progress = self.recovery.go_back(sick, self.load)
        self.micro_batches.close()
        self.open_stream()
        self.sample_log.go_on_after(self.progress.step)

    def log(self) -> None:
        """Report the mean loss since the last call, and the speed. A collective."""
        steps = self.plan.expected_steps(self.progress.step, self.progress.seconds)
        self.observer.log_training(self.progress, self.stream, steps, self.step.metrics())

    def validate(self) -> None:
        """Held-out loss, and masked accuracy at every depth; of the averaged weights too. A collective."""
        with self.phase("validation", "validating"):
            blocks = self.stream.manifest.split("validation").blocks
            metrics = validate(self.config, self.engine.module, self.ema, self.lessons, blocks, self.observer.say)
            self.observer.log(metrics, self.progress.step)
            self.observer.draw()
