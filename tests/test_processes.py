"""What the other tests rely on in their processes."""

import importlib.util
import socket
import sys

import pytest

from tests.processes import MODULES, reserved_port, run


def print_missing() -> int:
    print([name for name in MODULES if name not in sys.modules])
    return 0


def test_processes_start_with_everything_imported():
    """Also when another part of the session was the first to fork from its server."""
    assert all(importlib.util.find_spec(name) for name in MODULES)
    assert run(print_missing).stdout == "[]\n"


def test_a_reserved_port_is_nobodys_but_for_a_server_that_is_told():
    with reserved_port() as port:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)):  # sets SO_REUSEADDR
            socket.create_connection(("127.0.0.1", port)).close()
