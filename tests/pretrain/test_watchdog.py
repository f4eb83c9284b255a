"""A step that hangs says which rank waits for what."""

import socket
import threading
from types import SimpleNamespace

import pytest

from pretrain import watchdog
from pretrain.watchdog import Watchdog


class Looks(threading.Event):
    """The watchdog's pause between two looks, which a test can count."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self._begun.release()
        return super().wait(0.001)

    def happen(self, times: int) -> None:
        """Return after the watchdog has looked so many times from now on."""
        while self._begun.acquire(blocking=False):
            pass
        for _ in range(times + 1):  # the first pause may have begun before
            assert self._begun.acquire(timeout=60)


@pytest.fixture
def looks(monkeypatch):
    looks = Looks()
    monkeypatch.setattr(watchdog, "threading", SimpleNamespace(Thread=threading.Thread, Event=lambda: looks))
    return looks


@pytest.fixture
def clock(monkeypatch):
    """The watchdog's clock, which stands still until a test sets `now`."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_wait_that_is_too_long_is_reported_once_with_rank_and_host(looks, clock, capsys):
    with Watchdog(rank=3, patience=60.0) as dog:
        with dog.doing("waiting for data (step 7)"):
            clock.now += 60.0
            looks.happen(2)
            assert capsys.readouterr().err == "", "not longer than it may"
            clock.now += 1.0
            looks.happen(5)
        with dog.doing("in the forward pass (step 8)"):
            looks.happen(2)
    where = f"rank 3 on {socket.gethostname()}"
    assert capsys.readouterr().err == f"WARNING: {where} has been waiting for data (step 7) for 61 s\n"
