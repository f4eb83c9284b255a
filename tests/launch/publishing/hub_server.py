"""The Hub of `hub_app` as a process of its own, and what a program needs to talk to it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from data_pipeline import hub

WRITER, READER, NARROW = (f"hf_{who}Secret0123456789" for who in ("writer", "reader", "narrow"))
WRONG = "hf_wrongSecret0123456789"


class HubServer:
    """A running Hub; `stop` ends it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "hub.log"
        script = Path(__file__).parent / "hub_app.py"
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(self.port)], stdout=self.log.open("w"), stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            self.ask("_log")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def ask(self, path: str, body: Any = None, seconds: float = 10) -> Any:
        """The JSON answer of the tests' own part of the server."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/{path}", data, headers), timeout=seconds
        ) as answer:
            return json.loads(answer.read())

    def state(self) -> dict[str, Any]:
        """Every repository: whether it is private, its commits, the files of every branch."""
        return self.ask("_state")

    def requests(self) -> list[str]:
        """What was asked since the last call."""
        return self.ask("_log")

    def environment(self, home: Path, token: str | None = WRITER) -> dict[str, str]:
        """For a process that takes this for the Hub."""
        names = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        hub = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
        return names | hub | ({"HF_TOKEN": token} if token else {})

    def become_the_hub(self, patch: pytest.MonkeyPatch, folder: Path, token: str = WRITER) -> None:
        """Have this process take this for the Hub, on which nothing is yet, with its cache in `folder`."""
        self.ask("_reset", {})
        for name, value in {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
            "HF_HUB_CACHE": str(folder / "cache"),
            "HF_TOKEN_PATH": str(folder / "stored-token"),
        }.items():
            patch.setattr(constants, name, value)
        patch.setenv("HF_TOKEN", token)
        patch.setattr(hub, "_FOUND", {})

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
