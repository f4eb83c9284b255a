"""Handing a script to the program that runs it."""

import shutil
import signal
import subprocess

from ...errors import LaunchError


class SubmitError(RuntimeError):
    """The engine's program refused or failed; it has said why."""


_PASSED_ON = (signal.SIGTERM, signal.SIGUSR1)


def program(name: str, fix: str = "install it") -> str:
    """The path of a program.

    Raises:
        LaunchError: it is not installed here; the message has the `fix`.
    """
    found = shutil.which(name)
    if found is None:
        raise LaunchError(f"{name} is not on this machine: {fix}, or use dry_run to only write the script")
    return found


def said(command: list[str]) -> str:
    """Run a short command and return what it printed.

    Raises:
        SubmitError: it failed; the message is what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SubmitError(f"{' '.join(command)} failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def passed_on(command: list[str], end: str) -> str:
    """Run a command at the terminal to its end, and pass signals on to it; `end` when it succeeded.

    Raises:
        SubmitError: it failed; it has said why itself.
    """
    process = subprocess.Popen(command)
    before = {number: signal.signal(number, lambda number, _: process.send_signal(number)) for number in _PASSED_ON}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command too
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:
        raise SubmitError(f"{command[0]} ended with {code}: the reason is above")
    return end
