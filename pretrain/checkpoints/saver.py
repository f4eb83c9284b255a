"""Every decision about saving: when a checkpoint is written, whether it counts, what is deleted, what is exported.

The disk may refuse at any time. A run then trains on with the checkpoints it has and tries again at the next logging
step; only at its end, when what would be lost cannot be trained again, is a refusal an error.
"""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from data_pipeline import file_sha256, write_text
from modeling import name_non_finite

from ..config import PretrainConfig
from ..engine import gather_objects, non_finite_parameters
from ..errors import PretrainError, UnhealthyError
from ..optim import Ema
from .config import CheckpointConfig
from .export import export_checkpoint, find_checkpoint
from .folder import (
    ENGINE_CONFIG,
    MARKER,
    Progress,
    checkpoint_folder,
    file_sizes,
    newest_complete,
    step_folders,
    step_name,
    step_of,
    write_marker,
)
from .run_tokenizer import keep_tokenizer, tokenizer_folder

# What DeepSpeed asks of a checkpoint that may be converted for another number of ranks (its universal checkpoints).
CLIENT_STATE = {"universal_checkpoint_info": {"universal_checkpoint_version": 0.4}}


@dataclass
class _Pending:
    """A checkpoint whose files are written, or being written, and whose marker is not."""

    path: Path
    progress: dict[str, Any]
    """A copy: training goes on counting."""
    began: float
    blocked: float
    """Seconds that training has waited for it."""


class Saver:
    """Saves and exports one run. Its methods are collectives unless they say otherwise.

    Args:
        engine: whose checkpoint files are written here from now on, hashed and, if wanted, in the background.
        data: folder of the prepared corpus, whose tokenizer goes into every export.
        phase: opens a block of code that is timed under a name and watched over, as `Training.phase`.
    """

    def __init__(
        self,
        engine: Any,
        config: PretrainConfig,
        data: Path,
        ema: Ema | None,
        say: Callable[[str], None],
        log: Callable[[dict[str, float], int], None],
        phase: Callable[[str, str], AbstractContextManager[None]],
    ):
        from .writer import HashingWriter  # imports DeepSpeed, which takes seconds that only ranks should spend

        self._engine, self._ema, self._data = engine, ema, data
        self._run, self._config, self._retry_every = Path(config.output), config.checkpoint, config.log_every
        self._trusted = config.trust_checkpoint  # of a run that only exports what it was continued from
        self._say, self._log, self._phase = say, log, phase
        self._writer = HashingWriter(config.checkpoint.asynchronous)
        engine.checkpoint_engine = self._writer
        # `acn export` does what this script of DeepSpeed's does; copying it could fail on rank 0 alone
        engine._copy_recovery_script = lambda *_: None
        self._pending: _Pending | None = None
        self._failed = False  # the last checkpoint; the same on all ranks
        self.saved_step = 0
        """Steps done in the newest state that is on disk, or on its way there."""

    def keep_beside(self) -> None:
        """Write what checkpoints cannot do without into the run, on rank 0: DeepSpeed's settings, the tokenizer."""
        if dist.get_rank() != 0:
            return
        write_text(self._run / ENGINE_CONFIG, json.dumps(self._engine.config, indent=1))
        keep_tokenizer(self._run, self._data)

    @property
    def written_step(self) -> int:
        """The step of a checkpoint that this rank has written in the background; 0 if none, or not yet. Asks nobody."""
        return 0 if self._pending is None or self._writer.busy else self._pending.progress["step"]

    def finish_if_written(self, step: int) -> None:
        """Make the checkpoint of `step`, which all ranks have written, count, unless it does already. A collective."""
        if self._pending is not None and self._pending.progress["step"] == step:
            self.finish_pending()

    def save_if_due(self, progress: Progress) -> None:
        """Between two steps: write a checkpoint, or begin to, where one is due, or due again after one that failed."""
        if self.due(progress):
            self.save(progress)

    def due(self, progress: Progress) -> bool:
        """Whether a checkpoint is due at this step, or due again. Asks no other rank."""
        every, step = self._config.every, progress.step
        return (every > 0 and step % every == 0) or (self._failed and step % self._retry_every == 0)

    def save(self, progress: Progress) -> None:
        """Write a checkpoint, or begin to, and export the model where that is wanted on the way."""
        with self._phase("checkpoint", "writing a checkpoint"):
            self._failed = not self._write(progress)
        if self._failed:
            return
        self.saved_step = progress.step
        every = self._config.export_every
        if every and progress.step % every == 0:
            self.finish_pending()  # only a checkpoint that counts is exported
            if self._failed:
                return
            if problem := self._export("models/" + step_name(progress.step)):
                self._say(f"WARNING: the model at step {progress.step} was not exported: {problem}")

    def save_last(self, progress: Progress) -> None:
        """At the end of training: write the checkpoint that a run cannot end without, unless it is there.

        Raises:
            UnhealthyError: the disk did not take it.
        """
        if progress.step <= self.saved_step:  # resumed past the last step of a shorter configuration
            return
        self.save(progress)
        self.finish_pending()
        if self._failed:
            newest = newest_complete(self._run)
            kept = f"{newest.path} stands" if newest else "there is none yet"
            raise UnhealthyError(
                f"the checkpoint at step {progress.step} could not be written (the reason is above); {kept}: fix "
                "that, and the same command goes on from it"
            )

    def finish_pending(self) -> None:
        """Wait for a checkpoint that is written in the background, if there is one, and make it count."""
        if self._pending is not None:
            self._failed = not self._finish(self._pending)

    def export_model(self) -> Path:
        """Leave the finished model in RUN/model, and its average in RUN/model-ema.

        Raises:
            UnhealthyError: the training has diverged, or the last checkpoint was damaged since.
        """
        if problem := self._export("model") or (self._ema is not None and self._export("model-ema", ema=True)):
            raise UnhealthyError(f"there is no model to leave: {problem}")
        return self._run / "model"

    def _export(self, name: str, ema: bool = False) -> str | None:
        """Make RUN/NAME, a Hugging Face folder, of the checkpoint at `saved_step`; why that cannot be, if it cannot."""
        problem = None
        if dist.get_rank() == 0:
            try:
                self._write_model(self._run / name, ema)
            except PretrainError as error:
                problem = str(error)
        return gather_objects(problem)[0]  # all go on alike, and none before it is there

    def _write_model(self, output: Path, ema: bool) -> None:
        # not the newest on disk: a run that went back, or passed over damaged checkpoints, has later ones
        checkpoint = find_checkpoint(checkpoint_folder(self._run) / step_name(self.saved_step), self._trusted)
        output.parent.mkdir(exist_ok=True)
        export_checkpoint(checkpoint, output, tokenizer_folder(self._data), ema=ema)

    def _write(self, progress: Progress) -> bool:
        """Write a checkpoint, or begin to; False when the disk did not take it and the older ones stand.

        Raises:
            UnhealthyError: there is nothing worth writing, for the weights are not finite.
        """
        self.finish_pending()
        self._refuse_non_finite(progress.step)
        path = checkpoint_folder(self._run) / step_name(progress.step)
        began = time.monotonic()
        problem = gather_objects(self._prepare(path) if dist.get_rank() == 0 else None)[0]
        if problem:
            self._say(f"WARNING: no checkpoint at step {progress.step}: {problem}")
            return False
        client_state = {**CLIENT_STATE, "optimizer_order": self._engine.optimizer_order}
        self._engine.save_checkpoint(str(path.parent), tag=path.name, client_state=client_state, save_latest=False)
        if dist.get_rank() == 0 and self._ema is not None:
            for name, state in self._ema.files().items():
                self._writer.save(state, str(path / name))
        self._pending = _Pending(path, asdict(progress), began, blocked=time.monotonic() - began)
        return True if self._config.asynchronous else self._finish(self._pending)

    def _refuse_non_finite(self, step: int) -> None:
        """Such weights never recover, and saving them would in time delete the checkpoints that are sound."""
        shares = gather_objects(non_finite_parameters(self._engine))
        if names := sorted({name for share in shares for name in share}):
            newest = newest_complete(self._run)
            raise UnhealthyError(
                f"after step {step} {name_non_finite(names)}: lower optim.lr. Nothing was "
                + (f"saved; {newest.path} stands" if newest else "saved, and there is no checkpoint from before")
            )

    def _finish(self, pending: _Pending) -> bool:
        """Wait for the files of the pending checkpoint and mark it complete; False when that failed."""
        self._pending = None
        path, step = pending.path, pending.progress["step"]
        waited = time.monotonic()
        written, error = self._writer.finish()
        outcomes = gather_objects((written, error))
        problem, size = next((error for _, error in outcomes if error), None), 0
        if dist.get_rank() == 0 and problem is None:
            files = [file for written, _ in outcomes for file in written]
            problem, size = self._mark(path, pending.progress, {Path(file.path).name: file for file in files})
        # only rank 0 knows whether the marker is there: all of them have to go on alike
        problem = gather_objects(problem)[0]
        if problem:
            if dist.get_rank() == 0:
                shutil.rmtree(path, ignore_errors=True)
            self._say(f"WARNING: the checkpoint at step {step} could not be written: {problem}")
            return False
        now = time.monotonic()
        blocked, seconds = pending.blocked + now - waited, now - pending.began
        sizes = {"checkpoint/seconds": seconds, "checkpoint/megabytes": size / 1e6}
        self._log(sizes | {"checkpoint/blocked_seconds": blocked}, step)
        self._say(
            f"step {step}  checkpoint {path} ({size / 1e6:,.1f} MB in {seconds:.1f} s"
            + (f", training waited {blocked:.1f} s)" if self._config.asynchronous else ")")
        )
        return True

    def _prepare(self, path: Path) -> str | None:
        """Make an empty folder with room for a checkpoint, or say why not. Rank 0 only."""
        try:
            shutil.rmtree(path, ignore_errors=True)  # what a crash left here
            path.mkdir(parents=True)
            newest = newest_complete(self._run)
            need = newest.bytes if newest else 0
            free = shutil.disk_usage(path).free
            if free < need:
                path.rmdir()
                return f"{path.parent} has {free / 1e9:.2f} GB free, {need / 1e9:.2f} GB are needed: make room there"
        except OSError as error:
            return str(error)
        return None

    def _mark(self, path: Path, progress: dict[str, Any], written: dict[str, Any]) -> tuple[str | None, int]:
        """Write the marker and delete what need not be kept, or say why not; and the bytes of all files. Rank 0 only.

        Args:
            written: the `WrittenFile` of every file that went through the writer, by its name.
        """
        try:
            files, sizes = {}, file_sizes(path)
            for name, size in sizes.items():
                known = written.get(Path(name).name)
                if known is not None and known.bytes != size:
                    return f"{path / name} has {size} bytes instead of {known.bytes}", 0
                files[name] = {"bytes": size, "sha256": known.sha256 if known else file_sha256(path / name)}
            write_marker(path, progress, files)
            _prune(path, self._config)
        except OSError as error:
            return str(error), 0
        return None, sum(sizes.values())


def _prune(newest: Path, config: CheckpointConfig) -> None:
    # a run that went back, or passed over damaged checkpoints, has later ones, which it will overwrite: they must not
    # count as newer than what it writes now
    folders = [path for path in step_folders(newest.parent) if path.name <= newest.name]
    marked = [path for path in folders if (path / MARKER).exists()]
    for path in marked[: -config.keep]:
        step = step_of(path.name)
        if config.keep_every and step % config.keep_every == 0:
            continue
        (path / MARKER).unlink()  # first, so that a crash in between leaves no half of a checkpoint that counts
        shutil.rmtree(path)
