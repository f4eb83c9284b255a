import gc
import queue
import threading
from types import SimpleNamespace

import pytest

from data_pipeline.stream import prefetch
from data_pipeline.stream.prefetch import Prefetcher


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def _count(closed: list[bool] | None = None, fail_at: int = -1):
    number = 0
    try:
        while True:
            if number == fail_at:
                raise RuntimeError("broken")
            yield number
            number += 1
    finally:
        if closed is not None:
            closed.append(True)


def test_items_arrive_in_order_and_the_end_is_the_end():
    items = Prefetcher((number for number in range(100)), depth=3)
    assert list(items) == list(range(100))
    assert list(items) == []
    assert _threads() == []


def test_an_error_arrives_in_its_place():
    items = Prefetcher(_count(fail_at=2), depth=5)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(RuntimeError, match="broken"):
        next(items)
    with pytest.raises(StopIteration):
        next(items)


@pytest.mark.parametrize("end", ["close", "drop"])
def test_closing_or_dropping_ends_the_thread_and_closes_the_generator(end):
    closed: list[bool] = []
    items = Prefetcher(_count(closed), depth=2)
    next(items)
    if end == "close":
        items.close()
        items.close()
        assert list(items) == []
    del items
    gc.collect()
    assert closed == [True]
    assert _threads() == []


def test_no_more_than_depth_items_are_made_ahead(monkeypatch):
    waited = threading.Event()

    class Queue(queue.Queue):
        """Tells when the producer has waited in vain."""

        def put(self, *arguments, **options) -> None:
            try:
                super().put(*arguments, **options)
            except queue.Full:
                waited.set()
                raise

    monkeypatch.setattr(prefetch, "queue", SimpleNamespace(Queue=Queue, Full=queue.Full))
    made: list[int] = []

    def source():
        for number in range(1000):
            made.append(number)
            yield number

    items = Prefetcher(source(), depth=3)
    assert waited.wait(60), "for room"
    assert len(made) == 4, "three in the queue, one in hand"
    items.close()
