"""The errors of this room."""

import socket

from data_pipeline import UserError


class PretrainError(UserError):
    """A user's mistake: the message names the field or file and the fix."""


class UnhealthyError(RuntimeError):
    """Training cannot go on: it stays sick, or its checkpoints cannot be written. The message says what to look at."""


class LostRankError(RuntimeError):
    """Another rank, its node or the link to it is gone. Every rank that notices has a message of its own."""


def lost_rank(error: RuntimeError, run: str) -> LostRankError | None:
    """What to tell the user when `error` comes from a collective that another rank did not take part in, else None."""
    import torch.distributed as dist  # here, because the launcher too knows these errors, before there is torch

    text = str(error)
    if not isinstance(error, dist.DistError) and "gloo/transport" not in text:  # gloo has no class of its own
        return None
    first = text.splitlines()[0]
    cause = first.partition("] ")[2].partition(". ")[0] if first.startswith("[") else first  # after file and line
    return LostRankError(
        f"rank {dist.get_rank()} on {socket.gethostname()} lost another rank ({cause}). What ended that one is in its "
        f"own log. The last complete checkpoint of {run} stands: the same command goes on from it"
    )
