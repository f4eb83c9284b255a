"""The command `acn`, and `python -m launch`: Ctrl-C is answered before the rest is imported."""

import os
import signal
import sys

from .interrupt import leave

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored: `nohup`, `&` of a script
    signal.signal(signal.SIGINT, leave)


def main() -> int:
    """Run `acn` with the words of the command line; returns its exit code."""
    os.environ["PYTHONSAFEPATH"] = "1"  # no process that is started from here looks for modules in the working folder
    from .cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
