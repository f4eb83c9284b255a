"""One thread that works ahead of its consumer."""

import queue
import threading
import weakref
from collections.abc import Generator, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_PUT_SECONDS = 0.1  # how often a producer with a full queue looks whether it should stop


class Prefetcher(Iterator[T], Generic[T]):
    """Iterates over a generator that runs in a thread, at most `depth` finished items ahead.

    An exception of the generator is raised again in the consumer, in its place in the sequence. The thread ends,
    and the generator is closed, when the iteration ends, on `close()`, and when the prefetcher is dropped.
    """

    def __init__(self, source: Generator[T, None, None], depth: int) -> None:
        self._queue: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._ended = False
        # the thread must not hold a reference to self, or a dropped prefetcher would live as long as the thread
        thread = threading.Thread(target=_produce, args=(source, self._queue, self._stop), name="prefetch", daemon=True)
        self._shut_down = weakref.finalize(self, _shut_down, self._queue, self._stop, thread)
        thread.start()

    def __iter__(self) -> "Prefetcher[T]":
        return self

    def __next__(self) -> T:
        if self._ended:
            raise StopIteration
        item, error = self._queue.get()
        if error is not None:
            self.close()
            raise error
        return item

    def close(self) -> None:
        """End the thread; further items are not given out. Closing twice is fine."""
        self._ended = True
        self._shut_down()


def _produce(
    source: Generator[T, None, None],
    results: "queue.Queue[tuple[Any, BaseException | None]]",
    stop: threading.Event,
) -> None:
    end: BaseException = StopIteration()
    try:
        for item in source:
            if not _put(results, (item, None), stop):
                break
    except BaseException as error:  # whatever it is, it belongs to the consumer
        end = error
    finally:
        source.close()
    _put(results, (None, end), stop)


def _put(
    results: "queue.Queue[tuple[Any, BaseException | None]]",
    result: tuple[Any, BaseException | None],
    stop: threading.Event,
) -> bool:
    """Hand over a result; False when nobody wants it any more."""
    while not stop.is_set():
        try:
            results.put(result, timeout=_PUT_SECONDS)
        except queue.Full:
            continue
        return True
    return False


def _shut_down(
    results: "queue.Queue[tuple[Any, BaseException | None]]", stop: threading.Event, thread: threading.Thread
) -> None:
    stop.set()
    while not results.empty():  # wakes a producer that waits for room
        results.get_nowait()
    if thread is not threading.current_thread():  # garbage may be collected in any thread
        thread.join()
