"""What training aims at, whether or not it has been measured: docs/performance.md lists what is missing."""

from dataclasses import dataclass

from .timing import Goal

CPU_SIZES = ("tiny", "mini", "base")
PRECISIONS = ("fp32", "bf16")
GPU_FINETUNE = "base/128"
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
    bound = 1.25 if size == "base" else {"fp32": 1.5, "bf16": 2.0}[precision]
    return Aim(f"{size}, {precision}, 2 ranks: {connectivity} over Hugging Face Trainer, tokens/s", bound)


def same_losses(precision: str) -> Aim:
    """The residual twin's loss curve against Trainer's, on the same batches from the same weights."""
    # fp32 differs by the order of sums; in bf16 Trainer casts operator by operator, DeepSpeed the whole model
    bound = 1e-3 if precision == "fp32" else 2e-2
    what = f"{precision}: largest relative difference of the residual twin's losses from Trainer's, same batches"
    return Aim(what, bound, at_least=False)


def finetune_losses(precision: str) -> Aim:
    """The residual twin's losses in fine-tuning against those of BERT under Trainer."""
    bound = 1e-3 if precision == "fp32" else 5e-2
    what = f"{precision}: largest relative difference of the residual twin's losses from Trainer's, same batches"
    return Aim(what, bound, at_least=False)


def finetune_equal(precision: str) -> Aim:
    """A whole fine-tuning against BERT under Trainer with everything else alike."""
    return Aim(f"{precision}: a whole fine-tuning, over Trainer and BERT in equal batches and precision", 1.2)


def finetune_by_default(precision: str) -> Aim:
    """A whole fine-tuning against run_glue.py as it comes."""
    what = f"{precision}: a whole fine-tuning, over run_glue.py by default (fp32, padded to 128 tokens)"
    return Aim(what, 1.2 if precision == "fp32" else 2.0)


def sweep_by_cuts(precision: str) -> Aim:
    """All depths in one pass; of 6 layers, 21 are run by hand."""
    return Aim(f"{precision}: scoring every depth, over a prediction of each truncated BERT", 3.0)


def study_by_hand(precision: str) -> Aim:
    """Noise at full depth and at half of it."""
    return Aim(f"{precision}: a noise study, over the same by hand with Trainer and BERT", 1.2)


def gpu_finetune(case: str) -> Aim:
    """Steps of fine-tuning on a GPU against BERT under Trainer with everything else alike."""
    return Aim(f"{case}, bf16: fine-tuning over Trainer and BERT in equal batches and precision", 1.5)


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
    makers = (finetune_losses, finetune_equal, finetune_by_default, sweep_by_cuts, study_by_hand)
    return {
        "training": [*(same_losses(p) for p in PRECISIONS), *cpu],
        "finetune": [make(precision) for precision in PRECISIONS for make in makers],
        "gpu": [*gpu, gpu_finetune(GPU_FINETUNE)],
    }
