"""A rank of `acn pretrain` under torchrun that is killed: rank 0 in the job's first life, rank 1 in its second."""

import itertools
import os
import signal

from launch import cli
from pretrain.stop import StopRequest

STEPS = 4
"""Steps that it makes in such a life: it dies before they end in a checkpoint."""


def main() -> int:
    """Do what `acn` does with these arguments."""
    life, steps, code = os.environ["TORCHELASTIC_RESTART_COUNT"], itertools.count(1), StopRequest.code

    def die(request: StopRequest) -> int:
        """Stands where the ranks agree on whether to stop, at the end of every step."""
        if next(steps) == STEPS and os.environ["RANK"] == life:
            os.kill(os.getpid(), signal.SIGKILL)
        return code(request)

    StopRequest.code = die  # type: ignore[method-assign]
    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
