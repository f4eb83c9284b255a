"""The precision that a run computes in: chosen or refused before any work, said once, recorded with its results.

Options are read without torch: what needs it is imported where it is used.
"""

from collections.abc import Callable
from typing import Literal, cast

from data_pipeline import Problem

Resolved = Literal["fp32", "bf16", "fp16"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

UNSAID: Resolved = "fp32"
"""What results were computed in that do not say: those from before there was a choice."""


def precision_problems(precision: str, trains: bool = False) -> list[Problem]:
    """Why this machine cannot compute in `precision`, which may be auto.

    Args:
        trains: whether models are trained in it, by transformers' Trainer.
    """
    import torch

    from modeling import precision_refusal

    if (refusal := precision_refusal(precision)) is not None:
        return [Problem("precision", precision, f": {refusal}", "use bf16, fp32 or auto")]
    if trains and precision == "fp16" and not torch.cuda.is_available():  # accelerate would train in fp32 and not tell
        return [Problem("precision", "fp16", ": training in it needs a GPU", "use bf16, fp32 or auto")]
    return []


def resolved(precision: str) -> Resolved:
    """What `precision` comes to on this machine."""
    from modeling import resolve_precision

    return cast(Resolved, resolve_precision(precision))


def own_precision(asked: Precision, recorded: Resolved) -> Resolved:
    """What this machine is to compute in, resolved; auto is what scores are `recorded` in, or fp32 where it lacks that.

    Lacks: it cannot, or without instructions for it, far slower than in fp32.
    """
    from modeling import precision_refusal, precision_warning

    if asked != "auto":
        return asked
    has = precision_refusal(recorded) is None and precision_warning(recorded) is None
    return recorded if has else "fp32"


def say_precision(asked: str, precision: str, say: Callable[[str], None] = print) -> None:
    """Say at the start of a run what it computes in, with what, on what.

    Args:
        asked: as the options have it.
        precision: what that came to.
    """
    from modeling import choose_attention, precision_warning

    from .models import best_device

    how = " (auto)" if asked == "auto" else ""
    say(f"computing in {precision}{how}, attention {choose_attention(precision)}, on {best_device()}")
    if (warning := precision_warning(precision)) is not None:
        say(warning)
