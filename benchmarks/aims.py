"""What pretraining aims at, whether or not it has been measured: docs/performance.md lists what is missing."""

from dataclasses import dataclass

from .timing import Goal

CPU_SIZES = ("tiny", "mini", "base")
PRECISIONS = ("fp32", "bf16")
GPU_CASES = tuple(f"{size}/{length}" for size in ("base", "large") for length in (128, 512))


@dataclass(frozen=True)
class Aim:
    """A goal without its figure."""

    what: str
    bound: float
    at_least: bool = True

    def measured(self, value: float) -> Goal:
        """The goal with its figure."""
        return Goal(self.what, value, self.bound, self.at_least)


def over_trainer(size: str, precision: str, connectivity: str) -> Aim:
    """Tokens per second on CPU against transformers' Trainer."""
    bound = 1.25 if size == "base" else 1.5
    return Aim(f"{size}, {precision}, 2 ranks: {connectivity} over Hugging Face Trainer, tokens/s", bound)


def same_losses(precision: str) -> Aim:
    """The residual twin's loss curve against Trainer's, on the same batches from the same weights."""
    # fp32 differs by the order of sums; in bf16 Trainer casts operator by operator, DeepSpeed the whole model
    bound = 1e-3 if precision == "fp32" else 2e-2
    what = f"{precision}: largest relative difference of the residual twin's losses from Trainer's, same batches"
    return Aim(what, bound, at_least=False)


def gpu_mfu(case: str) -> Aim | None:
    """Model FLOPs utilization, where there is a goal for it."""
    bounds = {"base/128": 0.5, "base/512": 0.55, "large/512": 0.55}
    return Aim(f"{case}, bf16: acn, MFU", bounds[case]) if case in bounds else None


def gpu_over_trainer(case: str) -> Aim:
    """Tokens per second on a GPU against transformers' Trainer with sdpa and bf16."""
    return Aim(f"{case}, bf16: acn over Hugging Face Trainer, tokens/s", 2.0)


def gpu_over_residual(case: str) -> Aim:
    """What the connectivity costs."""
    return Aim(f"{case}, bf16: time of acn over residual", 1.02, at_least=False)


def gpu_loader(case: str) -> Aim:
    """The stream alone against what training consumes."""
    return Aim(f"{case}, bf16: loader alone over training, tokens/s", 10.0)


def all_aims() -> dict[str, list[Aim]]:
    """Every aim by the name of its benchmark."""
    pairs = [(size, precision) for size in CPU_SIZES for precision in PRECISIONS]
    cpu = [over_trainer(*pair, connectivity) for pair in pairs for connectivity in ("acn", "residual")]
    per_case = [(gpu_mfu(c), gpu_over_trainer(c), gpu_over_residual(c), gpu_loader(c)) for c in GPU_CASES]
    gpu = [aim for aims in per_case for aim in aims if aim is not None]
    return {"training": [*(same_losses(p) for p in PRECISIONS), *cpu], "gpu": gpu}
