"""Where a fine-tuned model is cut."""

import math
from dataclasses import dataclass, field

from data_pipeline import Problem, number_problems

from ..precision import Precision
from ..tasks import DataPlace

# the limits that a depth can be picked by, and their units
TARGETS = {"max_params": "parameters", "max_mb": "MB", "max_gflops": "GFLOPs", "max_latency_ms": "ms"}


@dataclass
class CompressConfig:
    """Cutting a fine-tuned model at the smallest depth that still meets the tolerance, or by another rule.

    The rules exclude each other: `depth`, `one_standard_error`, the `max_...` limits (together), else `tolerance`.
    """

    model: str
    """The fine-tuned model with its results (OUTPUT/TASK of `acn glue`, or what `acn publish` made of it): a folder, or
    NAME[@REVISION] of the Hub."""
    output: str
    """Folder to write the small model into; must not exist yet."""
    tolerance: float = 0.005
    """Score that may be lost: cut at the smallest depth with score >= full score - tolerance."""
    depth: int | None = None
    """Cut at this depth instead, 0..L."""
    one_standard_error: bool = False
    """Cut at the smallest depth within one standard error of the full score instead (over examples and seeds)."""
    max_params: float | None = None
    """Cut at the best depth with at most this many parameters instead."""
    max_mb: float | None = None
    """Cut at the best depth of at most this many MB (2**20 bytes) in float32 instead."""
    max_gflops: float | None = None
    """Cut at the best depth with at most this many forward GFLOPs for one sequence instead."""
    max_latency_ms: float | None = None
    """Cut at the best depth that answers one sequence in this many ms on this machine instead (measured)."""
    check: bool = True
    """Score the written model on the validation split again and refuse it if it differs from the sweep."""
    precision: Precision = "auto"
    """Of the measured speed; auto: that of the scores in results.json, or fp32 where this machine lacks it. The check
    always computes in that of the scores, ONNX files in float32."""
    force: bool = False
    """Cut a model that is at chance all the same: one that scores no more than a constant answer."""
    glue_dir: str | None = None
    """Where the task's data is for the check; left out, where `acn glue` found it."""
    dataset: DataPlace = field(default_factory=DataPlace)
    """The same for a model that was fine-tuned with `--dataset`."""
    onnx: bool = False
    """Also write model.onnx (needs the extra: pip install 'acn-lm[onnx]') and score it."""
    int8: bool = False
    """Also write model_int8.onnx: dynamic quantisation of the weights to 8 bits, and score it. Implies `onnx`."""

    @property
    def targets(self) -> dict[str, float]:
        """The limits that were given."""
        return {name: getattr(self, name) for name in TARGETS if getattr(self, name) is not None}

    @property
    def by_tolerance(self) -> bool:
        """Whether the tolerance picks the depth: no other rule was given."""
        return self.depth is None and not self.one_standard_error and not self.targets

    def problems(self) -> list[Problem]:
        problems = number_problems(self)
        if not self.tolerance >= 0:
            problems.append(Problem("tolerance", self.tolerance, fix="give 0 or more, the score that may be lost"))
        if self.depth is not None and self.depth < 0:
            problems.append(Problem("depth", self.depth, fix="give 0 or more, or leave it out to cut by tolerance"))
        problems += [
            Problem(name, value, fix="give more than 0")
            for name, value in self.targets.items()
            if not 0 < value < math.inf
        ]
        rules = [name for name, given in (("depth", self.depth is not None),
                 ("one_standard_error", self.one_standard_error), (" and ".join(self.targets), self.targets))
                 if given]  # fmt: skip
        if len(rules) > 1:
            problems.append(
                Problem("", wrong=f"{', '.join(rules)} exclude each other", fix="give one way to pick the depth")
            )
        return problems
