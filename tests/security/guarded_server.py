"""A local HTTP server for the files of a folder that answers 401 without a password or a signed query."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class GuardedServer(ThreadingHTTPServer):
    """Wants `user` and `password`, or a query that has `signature`."""

    daemon_threads = True

    def __init__(self, folder: Path, user: str, password: str, signature: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.signature = folder, signature
        self.basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.place = f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: GuardedServer

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        parts = urlsplit(self.path)
        signed = self.server.signature in unquote(parts.query)
        if not signed and self.headers.get("Authorization") != self.server.basic:
            self.send_error(401)
            return
        file = self.server.folder / parts.path.lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        body = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path, user: str, password: str, signature: str) -> Iterator[GuardedServer]:
    """The server, in a thread."""
    server = GuardedServer(folder, user, password, signature)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
