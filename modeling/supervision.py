"""Depth supervision: which depths a step trains beside the whole model, and which layers it leaves out.

With L layers, a loss l_k at depth k and weights w_k (0 where nothing is said) a step's loss is the sum of w_k l_k.

deep       w_k = 2k / (L (L + 1)): every depth, with weights that grow in a straight line. "Deeply-Supervised Nets"
           (arXiv 1409.5185).
adaptive   w_L = 1; for one depth d < L, drawn for the step, `weight` / d, and `weight` times the divergence of its
           answer from that of depth L, which does not learn from it. `AdaptiveLayerLoss` of sentence-transformers.
layerskip  depth L and one other, the next one in the next step. With s_k = 1 + 2 + ... + k, w_k is proportional to
           `weight` s_k for k < L, to L - 1 + `weight` s_(L-1) for k = L, and both sum to 1. Layer k is left out with
           probability `drop` (2^((k - 1) / (L - 1)) - 1). "LayerSkip" (arXiv 2404.16710, sections 4.1.1 and 4.1.2, the
           schedule for models that are pretrained already).
layerdrop  w_L = 1, and each layer is left out with probability `drop`. "Reducing Transformer Depth on Demand with
           Structured Dropout" (arXiv 1909.11556).
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["none", "deep", "adaptive", "layerskip", "layerdrop"]


DEFAULTS: dict[str, dict[str, float]] = {
    "none": {}, "deep": {}, "adaptive": {"weight": 1.0}, "layerskip": {"weight": 0.2, "drop": 0.1},
    "layerdrop": {"drop": 0.2},
}  # fmt: skip
"""Of the fields that each kind has."""


@dataclass(frozen=True)
class DepthWeights:
    """What one step trains."""

    loss: dict[int, float]
    """Of the loss at each depth that has one."""
    divergence: dict[int, float]
    """Of the divergence of a depth's answer from the deepest one's."""
    left_out: frozenset[int]
    """Layers, from 0, that are not run."""


@dataclass
class DepthSupervision:
    """Which depths are trained beside the whole model, and which layers are left out meanwhile."""

    kind: Kind = "none"
    """none: the whole model alone. deep: every depth, weights grow with it. adaptive: a depth drawn for each step, it
    learns the whole model's answer, too (sentence-transformers' AdaptiveLayerLoss). layerskip: depths in turn, and deep
    layers left out at random (LayerSkip). layerdrop: layers left out at random (LayerDrop)."""
    weight: float | None = None
    """adaptive, layerskip: of the loss of the other depths; left out, 1 and 0.2."""
    drop: float | None = None
    """layerskip, layerdrop: how often a layer is left out (layerskip: the last one; those before it less often); left
    out, 0.1 and 0.2."""

    def mistakes(self) -> Iterator[tuple[str, Any, str]]:
        """(field, value, what is wrong) of what makes no sense for any model."""
        if self.kind not in DEFAULTS:
            yield "kind", self.kind, f"is unknown: use {', '.join(DEFAULTS)}"
            return
        takes = DEFAULTS[self.kind]
        for name in ("weight", "drop"):
            value = getattr(self, name)
            if value is not None and name not in takes:
                of = " and ".join(kind for kind, has in DEFAULTS.items() if name in has)
                yield name, value, f"is for {of}, not {self.kind}: leave it out"
        if self.weight is not None and not 0 < self.weight < math.inf:
            yield "weight", self.weight, "must be above 0"
        if self.drop is not None and not 0 <= self.drop < 1:
            yield "drop", self.drop, "must be at least 0 and below 1"

    def fits(self, layers: int) -> bool:
        """Whether a model of so many layers has other depths to train."""
        return self.kind == "none" or layers > 1

    @property
    def drops(self) -> bool:
        """Whether layers may be left out of a step."""
        return "drop" in DEFAULTS[self.kind] and self._value("drop") > 0

    def depths_per_step(self, layers: int) -> int:
        """How many of L depths are read out in a step: as often the head is computed."""
        return {"deep": layers, "adaptive": 2, "layerskip": 2}.get(self.kind, 1)

    def layers_per_step(self, layers: int) -> float:
        """How many of L layers are run in a step, in the mean."""
        return layers - math.fsum(self._chance(i, layers) for i in range(layers))

    def _chance(self, layer: int, layers: int) -> float:
        """How often a layer, from 0, is left out."""
        if not self.drops:
            return 0.0
        return self._value("drop") * (1 if self.kind == "layerdrop" else 2 ** (layer / (layers - 1)) - 1)

    def _value(self, name: str) -> float:
        given = getattr(self, name)
        return DEFAULTS[self.kind][name] if given is None else given

    def weights(self, layers: int, seed: int, step: int) -> DepthWeights:
        """Of `step`, counted from 0: a pure function, the same on every rank and after a restart.

        Args:
            layers: L, 2 or more.
        """
        draws = random.Random(f"{seed} {step}")
        if self.kind == "deep":
            return DepthWeights({k: 2 * k / (layers * (layers + 1)) for k in range(1, layers + 1)}, {}, frozenset())
        if self.kind == "adaptive":
            weight = self._value("weight")
            depth = draws.randrange(1, layers)
            return DepthWeights({depth: weight / depth, layers: 1.0}, {depth: weight}, frozenset())
        left_out = frozenset(i for i in range(layers) if draws.random() < self._chance(i, layers))
        trained = self._rotating(layers, step) if self.kind == "layerskip" else {layers: 1.0}
        return DepthWeights(trained, {}, left_out)

    def _rotating(self, layers: int, step: int) -> dict[int, float]:
        """LayerSkip's, with one early depth a step."""
        weight, depth = self._value("weight"), 1 + step % (layers - 1)
        share = {depth: weight * depth * (depth + 1) / 2, layers: layers - 1 + weight * layers * (layers - 1) / 2}
        total = math.fsum(share.values())
        return {depth: value / total for depth, value in share.items()}
