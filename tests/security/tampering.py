"""Checkpoints as somebody would give them away who wants code of theirs to run, with markers that vouch for them."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from data_pipeline import file_sha256
from pretrain.checkpoints import MARKER


class Bomb:
    """Makes the folder `sentinel` when it is unpickled: whoever loads it freely runs foreign code."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.sentinel),)


class Script(Bomb):
    """The same by a function that no list of dangerous modules names."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return exec, (f"import pathlib; pathlib.Path({str(self.sentinel)!r}).mkdir()",)


def change(checkpoint: Path, name: str, edit: Callable[[Any], Any]) -> None:
    """Have a file of the checkpoint hold what `edit` makes of its content, and the marker vouch for it."""
    content = torch.load(checkpoint / name, map_location="cpu", weights_only=False)
    torch.save(edit(content), checkpoint / name)
    vouch(checkpoint, name)


def vouch(checkpoint: Path, name: str) -> None:
    """Make the marker say of a file what it is now."""
    file = checkpoint / name
    marker = json.loads((checkpoint / MARKER).read_text())
    marker["files"][name] = {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
    (checkpoint / MARKER).write_text(json.dumps(marker))


def plant(checkpoint: Path, name: str, bomb: Any) -> None:
    """Add a bomb to a file that is otherwise sound."""
    change(checkpoint, name, lambda content: {**content, "more": bomb})


def plant_bare(checkpoint: Path, name: str, bomb: Any) -> None:
    """Put a pickle as Python writes it in the place of a file."""
    (checkpoint / name).write_bytes(pickle.dumps(bomb))
    vouch(checkpoint, name)


def states_files(checkpoint: Path) -> list[str]:
    """DeepSpeed's files of a checkpoint."""
    return sorted(path.name for path in checkpoint.glob("*states.pt"))
