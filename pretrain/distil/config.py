"""Annealed shortcuts and the teacher as a run's configuration has them."""

import math
from dataclasses import dataclass
from typing import Literal

from data_pipeline import Problem


@dataclass
class AnnealConfig:
    """Short residuals that are scaled down to nothing while an ACN trains: it begins wired like a BERT.

    Every layer adds `scale` times its input before each LayerNorm, as a residual layer adds the input itself; the
    read-out is the ACN's sum from the first step on. The scale is a pure function of the share of the budget that is
    used up, and the model that is left has none.
    """

    share: float = 0.0
    """Share of the budget in which the scale goes down; from there on it is 0. 0: no shortcuts at any time."""
    start: float = 1.0
    """Scale of the first step; 1 is a BERT's."""
    shape: Literal["linear", "cosine", "geometric"] = "geometric"
    """linear: a straight line to 0. cosine: half a cosine, flat at both ends. geometric: down by the same factor in
    every step to `floor`, then 0. A LayerNorm sees the ratio of shortcut and branch only, in which a straight line ends
    in a cliff; the two others take longer over the small scales."""
    floor: float | None = None
    """geometric: the scale that is 0 at once when it is reached; 0.01 if not given."""

    def problems(self, connectivity: str) -> list[Problem]:
        """Bad values, and a connectivity that has no shortcuts to lose."""
        found = []
        if not 0 <= self.share < 1:
            found.append(Problem("anneal.share", self.share, "must be at least 0 and below 1: the run ends as an acn"))
        if not self.start > 0:
            found.append(Problem("anneal.start", self.start, "must be above 0"))
        if self.shape not in ("linear", "cosine", "geometric"):
            found.append(Problem("anneal.shape", self.shape, "is unknown", "use linear, cosine or geometric"))
        if self.floor is not None and self.shape != "geometric":
            wrong = f"is for anneal.shape geometric, not {self.shape}"
            found.append(Problem("anneal.floor", self.floor, wrong, "leave it out"))
        if not 0 < self._floor < self.start:
            found.append(Problem("anneal.floor", self._floor, f"must be above 0 and below anneal.start={self.start}"))
        if not self.share and self != AnnealConfig():
            found.append(Problem("anneal.share", self.share, "anneals nothing", "set it, 0.3 for instance"))
        if self.share and connectivity != "acn":
            fix = "set model.connectivity acn, or leave anneal.share out"
            wrong = f"is for model.connectivity acn, which the shortcuts are taken from, not {connectivity}"
            found.append(Problem("anneal.share", self.share, wrong, fix))
        return found

    @property
    def _floor(self) -> float:
        return 0.01 if self.floor is None else self.floor

    def scale(self, fraction: float) -> float:
        """What the shortcuts are multiplied by when `fraction` (0..1) of the budget is used up."""
        if fraction >= self.share:
            return 0.0
        gone = fraction / self.share
        if self.shape == "linear":
            return self.start * (1 - gone)
        if self.shape == "cosine":
            return self.start * (1 + math.cos(math.pi * gone)) / 2
        return self.start * (self._floor / self.start) ** gone


@dataclass
class TeacherConfig:
    """A frozen model whose last hidden states the read-out learns to match, through a projection that is thrown away.

    The projection is a linear map and a LayerNorm, begun with the teacher's last LayerNorm and fitted to it. The match
    is the squared error over the tokens that are no padding, divided by the variance of the teacher's states: 0 is a
    perfect match, 1 what a constant would reach.
    """

    weight: float = 0.0
    """What the match is multiplied by in the loss. 0: no teacher."""
    model: str | None = None
    """The teacher: whatever init_from takes. Not given: the model of init_from."""
    mlm_weight: float = 1.0
    """What the masked-language-model loss beside it is multiplied by; teacher and student then read the masked tokens.
    0: the match alone, on tokens as they are; the head for masked tokens is not trained then."""

    @property
    def taught(self) -> bool:
        """Whether there is a teacher."""
        return self.weight > 0

    @property
    def masked(self) -> bool:
        """Whether the masked-language-model loss is part of the loss."""
        return not self.taught or self.mlm_weight > 0

    def source(self, init_from: str | None) -> str | None:
        """Where the teacher is; None where there is none, or nobody said."""
        return (self.model or init_from) if self.taught else None

    def problems(self, init_from: str | None) -> list[Problem]:
        """Bad values; `init_from` is the run's."""
        found = [
            Problem(f"teacher.{name}", getattr(self, name), "must not be negative")
            for name in ("weight", "mlm_weight")
            if getattr(self, name) < 0
        ]
        if self.taught and self.source(init_from) is None:
            fix = "name it in teacher.model, or start from it with init_from"
            found.append(Problem("teacher.weight", self.weight, "needs a teacher", fix))
        if not self.taught and (self.model is not None or self.mlm_weight != 1.0):
            name, value = ("model", self.model) if self.model is not None else ("mlm_weight", self.mlm_weight)
            found.append(Problem(f"teacher.{name}", value, "needs teacher.weight above 0", "set it, 1 for instance"))
        return found
