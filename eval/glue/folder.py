"""OUTPUT/TASK on disk: the trials of a task, which of them are finished, and the best one's model in front."""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modeling import DepthSupervision

from ..errors import EvalError
from ..precision import UNSAID
from ..results import RESULTS_FILE, TrialResults, read_results, read_trial

_TRIAL = re.compile(r"seed-(\d+)")
_OURS = re.compile(r"\.?seed-\d+(\.partial-\w+)?|grid")
GRID_FOLDER = "grid"


@dataclass(frozen=True)
class TrialFolder:
    """One trial: it is finished when it is there, because it is written aside and renamed."""

    path: Path

    def is_done(self) -> bool:
        """Whether its results are there."""
        return (self.path / RESULTS_FILE).is_file()

    def weights(self) -> list[Path]:
        """The files of the model and tokenizer."""
        return [path for path in self.path.iterdir() if path.name != RESULTS_FILE] if self.path.is_dir() else []


@dataclass(frozen=True)
class TaskFolder:
    """OUTPUT/TASK: `seed-N/` for each trial, `grid/` for tried hyperparameters, and the best trial's model itself."""

    path: Path

    def trial(self, seed: int) -> TrialFolder:
        """The trial of one seed."""
        return TrialFolder(self.path / f"seed-{seed}")

    def grid_point(self, name: str) -> TrialFolder:
        """The trial of one point of the grid."""
        return TrialFolder(self.path / GRID_FOLDER / name)

    def _trials(self) -> list[TrialFolder]:
        if not self.path.is_dir():
            return []
        found = [(int(m[1]), path) for path in self.path.iterdir() if (m := _TRIAL.fullmatch(path.name))]
        return [trial for _, path in sorted(found) if (trial := TrialFolder(path)).is_done()]

    def finished_trials(self) -> list[TrialResults]:
        """The results of every finished seed, by seed."""
        return [read_trial(trial.path) for trial in self._trials()]

    def check_ours(self) -> None:
        """Refuse a folder that is not of an earlier run of the suite.

        Raises:
            EvalError: there is such a folder, file or link.
        """
        if not self.path.exists() and not self.path.is_symlink():
            return
        if not self.path.is_dir() or not any(_OURS.fullmatch(path.name) for path in self.path.iterdir()):
            raise EvalError(f"output: {self.path} exists already: choose another --output, or remove it")

    def check_settings(self, settings: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Refuse to mix results of different settings.

        Args:
            values: the hyperparameters, without those that a grid chooses.

        Raises:
            EvalError: a finished trial was made with others.
        """
        for path in sorted(self.path.glob(f"seed-*/{RESULTS_FILE}")) + sorted(
            self.path.glob(f"{GRID_FOLDER}/*/{RESULTS_FILE}")
        ):
            trial = read_trial(path.parent)
            unsaid = {"precision": UNSAID, "supervision": asdict(DepthSupervision()), "grid_held_out": 0.0}
            earlier = unsaid | (trial.settings or {}) | {name: trial.train.get(name) for name in values}
            wanted = {**settings, **values}
            changed = [name for name in wanted if not _is_same(name, earlier.get(name), wanted[name])]
            if changed:
                shown = "; ".join(f"{name} was {earlier.get(name)}, now {wanted[name]}" for name in changed)
                raise EvalError(
                    f"output: {path.parent} was made with other settings ({shown}): "
                    "choose another --output, or go on with the same settings"
                )

    def has_all(self, seeds: list[int]) -> bool:
        """Whether the task is complete: all of `seeds` are finished and stand together in results.json."""
        if not (self.path / RESULTS_FILE).is_file():
            return False
        return set(seeds) <= set(read_results(self.path).seeds or [])

    def _best(self) -> TrialFolder:
        return max(self._trials(), key=lambda trial: read_trial(trial.path).full_score)

    def drop_lesser_weights(self) -> None:
        """Free the weights of every finished trial but the best: several seeds of a large model fill a disk."""
        best = self._best()
        for trial in self._trials():
            if trial != best:
                _remove(trial.weights())

    def promote(self, keep_models: bool) -> None:
        """Put the best trial's model into the task's folder itself.

        Whoever is killed in between leaves no results.json here, and the same call goes on: what was moved is moved.
        """
        (self.path / RESULTS_FILE).unlink(missing_ok=True)
        best = self._best()
        for source in best.weights():
            target = self.path / source.name
            if keep_models:
                shutil.copy2(source, target)
            else:
                os.replace(source, target)
        if not keep_models:
            for trial in self._trials():
                _remove(trial.weights())


def _is_same(name: str, earlier: Any, wanted: Any) -> bool:
    """Whether a setting is as it was. Version 0.1 wrote places as they were typed, and fewer fields of a data set."""
    if name in ("model", "glue_dir") and isinstance(earlier, str):
        return os.path.abspath(earlier) == wanted
    if name == "dataset" and isinstance(earlier, dict) and isinstance(wanted, dict):
        path = earlier.get("path")
        here = {"path": os.path.abspath(path)} if isinstance(path, str) and os.path.exists(path) else {}
        return wanted | earlier | here == wanted
    return earlier == wanted


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()
