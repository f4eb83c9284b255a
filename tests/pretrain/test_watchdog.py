"""A step that hangs says which rank waits for what."""

import socket
import time

from pretrain import watchdog
from pretrain.watchdog import Watchdog


def test_a_wait_that_is_too_long_is_reported_once_with_rank_and_host(monkeypatch, capsys):
    monkeypatch.setattr(watchdog, "LOOK_EVERY_SECONDS", 0.01)
    said = ""
    with Watchdog(rank=3, patience=0.05) as dog:
        with dog.doing("waiting for data (step 7)"):
            deadline = time.monotonic() + 20
            while not said and time.monotonic() < deadline:
                time.sleep(0.01)
                said = capsys.readouterr().err
            time.sleep(0.2)  # long enough for a second report, which must not come
        with dog.doing("in the forward pass (step 8)"):
            pass
    assert f"WARNING: rank 3 on {socket.gethostname()} has been waiting for data (step 7) for" in said
    assert capsys.readouterr().err == ""
