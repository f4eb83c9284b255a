"""Keeps a run's record in MLflow up to date from a thread of its own, so that MLflow never fails or stalls the run."""

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from .mlflow_mirror import MlflowMirror
from .record import METRICS, RunStatus

logger = logging.getLogger(__name__)

# Seconds between two pushes: long enough for a few big requests instead of many small ones.
_FLUSH_SECONDS = 5.0
# After a failed push the pause doubles, from the first of these up to the second, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
# A failure is reported again at the end of the run when the first report is longer ago than this.
_REMIND_SECONDS = 60.0


class MlflowSink:
    """Mirrors `RUN/metrics.jsonl` and `RUN/record.json` in the background.

    The files are the queue: nothing waits in memory, a server that was away for a day gets what it missed when it is
    back, and what a killed process had not sent is sent by the next one, or by `acn track sync RUN`.

    Args:
        close_seconds: the longest that `close` waits for MLflow to take what is left.
    """

    def __init__(self, mirror: MlflowMirror, run_dir: Path, close_seconds: float) -> None:
        self._mirror = mirror
        self._run_dir = run_dir
        self._close_seconds = close_seconds
        self._closing = threading.Event()
        self._tried = threading.Event()
        self._complete = False
        self._warned_at: float | None = None
        # a daemon: a server that hangs must not keep the finished process alive
        self._thread = threading.Thread(target=self._work, name=f"mlflow {run_dir.name}", daemon=True)
        self._thread.start()

    def run_id(self) -> str | None:
        """Id of the MLflow run; waits for the first answer of the server, and is None if there was none."""
        self._tried.wait(self._close_seconds)
        return self._mirror.run_id

    def log_metrics(self, values: Mapping[str, float], step: int, when: float) -> None:
        """Nothing to do: the thread reads metrics.jsonl."""

    def log_params(self, params: Mapping[str, str]) -> None:
        """Nothing to do: the thread reads record.json."""

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Nothing to do: the thread reads record.json."""

    def log_file(self, path: Path, artifact_path: str) -> None:
        """Nothing to do: the thread reads record.json, and uploads what it names."""

    def close(self, status: RunStatus) -> None:
        """Have the thread make a last push and wait for it, `close_seconds` at most; `status` is in the record."""
        self._closing.set()
        self._thread.join(self._close_seconds)
        reported = self._warned_at is not None and time.monotonic() - self._warned_at < _REMIND_SECONDS
        if (self._thread.is_alive() or not self._complete) and not reported:
            logger.warning(
                "MLflow at %s does not have all of this run yet; send the rest with: acn track sync %s",
                self._mirror.store,
                self._run_dir,
            )

    def _work(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            last = self._closing.is_set()
            self._complete = self._push()
            self._tried.set()
            if last:
                return
            self._closing.wait(_FLUSH_SECONDS if self._complete else pause)
            pause = _FIRST_PAUSE if self._complete else min(2 * pause, _LONGEST_PAUSE)

    def _push(self) -> bool:
        """Push once; a failure is reported the first time only."""
        try:
            self._mirror.push()
        except Exception as error:  # whatever MLflow, its database or the network come up with
            if self._warned_at is None:
                self._warned_at = time.monotonic()
                reason = (str(error).strip().splitlines() or [""])[0][:300]
                logger.warning(
                    "MLflow at %s failed (%s: %s). The run goes on and records everything in %s; MLflow is tried again "
                    "from time to time, and `acn track sync %s` sends what it misses in the end.",
                    self._mirror.store,
                    type(error).__name__,
                    self._mirror.hide_password(reason),
                    self._run_dir / METRICS,
                    self._run_dir,
                )
            return False
        return True
