"""A local HTTP server for the files of a folder that fails now and then, and counts what it served whole."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FlakyServer(ThreadingHTTPServer):
    """Drops connections, truncates bodies and answers 503, each with probability `trouble`.

    What becomes of the n-th request for a file is drawn from `seed`, whichever files are asked for in between.
    """

    daemon_threads = True

    def __init__(self, folder: Path, trouble: float, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.trouble, self._seed = folder, trouble, seed
        self._lock, self._requests = threading.Lock(), Counter[str]()
        self.served: Counter[str] = Counter()
        """Whole answers by file name."""
        self.troubles: Counter[str] = Counter()
        """Failures by kind."""
        self.stalled = threading.Event()
        self.stalled.set()  # cleared: answers do not come before it is set again
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def draw(self, path: str) -> float:
        """A number in [0, 1) for the next request for `path`."""
        with self._lock:
            self._requests[path] += 1
            return random.Random(f"{self._seed} {path} {self._requests[path]}").random()

    def handle_error(self, request, client_address) -> None:
        """Clients that go away in the middle are none of our business."""


class _Handler(BaseHTTPRequestHandler):
    server: FlakyServer

    def do_GET(self) -> None:
        server, file = self.server, self.server.folder / self.path.lstrip("/")
        server.stalled.wait()
        if not file.is_file():
            self.send_error(404)
            return
        body = file.read_bytes()
        draw = server.draw(self.path) / server.trouble if server.trouble else 3.0
        if draw < 1:
            server.troubles["503"] += 1
            self.send_error(503)
            return
        if draw < 2:
            server.troubles["dropped"] += 1
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if draw < 3:
            server.troubles["truncated"] += 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        server.served[self.path.lstrip("/")] += 1
        self.wfile.write(body)

    def log_message(self, format: str, *args) -> None:
        """Quiet."""


@contextmanager
def flaky_server(folder: Path, trouble: float = 0.0, seed: int = 0) -> Iterator[FlakyServer]:
    """Serve `folder` while the context lasts."""
    server = FlakyServer(folder, trouble, seed)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stalled.set()
        server.shutdown()
        server.server_close()
        thread.join()
