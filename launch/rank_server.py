"""What the server of the ranks does before it forks the first one; `launch.ranks` starts it.

Importing this module is the work: multiprocessing's forkserver takes names of modules, and nothing else.
"""

import gc
import importlib
import os
import signal
from contextlib import suppress

from .streams import guard_streams

MODULES = "ACN_RANK_MODULES"
"""Environment variable with the modules to import, separated by spaces."""

# Signals to a whole process group are for the launcher and the ranks. Blocked, not ignored: one that reaches a rank
# before it can answer waits there until it can.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def import_modules(names: list[str]) -> None:
    """Import what ranks need, except what would touch a GPU: CUDA does not survive a fork."""
    guard_streams()  # here, for the libraries that keep the streams they find when they are imported
    gc.disable()  # a tenth of the time is looking for garbage that there is none of
    import torch

    on_gpu = torch.cuda.is_available()  # asks NVML, see `launch.ranks.SERVER_ENVIRONMENT`
    if not on_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    for name in names:
        if on_gpu and name == "pretrain.lean_deepspeed":  # its operators look at the device when they are imported
            continue
        with suppress(Exception):  # the rank imports it again, and there it can be reported
            importlib.import_module(name)
    gc.freeze()  # nothing of this will ever be garbage, and memory that is not looked at stays shared
    gc.enable()


if MODULES in os.environ:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    import_modules(os.environ.pop(MODULES).split())
