"""What makes the documentation's commands small: options that are put behind their own, so that these win.

A page says what a user would type. The tests run that very line with a model of two layers, four steps and a few
rows; which options do that is said here and nowhere else.
"""

from tests.launch.tiny import TINY

GLUE = "DIR"
"""The pages' word for a folder with GLUE's tasks, and the folder that stands for GLUE on the Hub."""

_RECIPE = [
    *TINY, "--model.num_hidden_layers", "4", "--micro_batch_size", "2", "--checkpoint.every", "2",
    "--stream.lanes", "4",
]  # fmt: skip
_FEW = ["--max_train_samples", "32", "--max_eval_samples", "16", "--epochs", "1"]

SIZES: dict[str, list[str]] = {
    "prepare": ["--vocab_size", "120", "--seq_length", "16", "--workers", "1"],
    "pretrain": _RECIPE,
    "preflight": [*_RECIPE, "--preflight.sample_mb", "1"],
    "glue": ["--seeds", "1", "--max_length", "16", "--speed", "false", *_FEW],
    "study": [
        "--seeds", "1", "--max_length", "16", *_FEW, "--early_exit.latency_rounds", "1",
        "--pruning.movement_epochs", "1", "--noise.strengths", "0.5",
        "--low_data.sizes", "16", "--low_data.min_steps", "1",
        "--shallow.supervision", "none,deep", "--shallow.rate_multiples", "1",
        "--geometry.samples", "1", "--geometry.lanczos_steps", "8",
    ],
    "launch": ["--dry_run", "true"],
    "compress": ["--force", "true"],  # models that small are at chance
}  # fmt: skip
"""Options by verb; a verb that is not here runs as it is written."""


def shrink(words: list[str]) -> list[str]:
    """The words after `acn`, with the options that make them small."""
    if not words:
        return words
    own_data, tokens = "--dataset." in " ".join(words), "--tokens" in words
    glue = ["--glue_dir", GLUE] if words[0] in ("glue", "study") and not own_data else []
    budget = ["--steps", "null", "--tokens", "1e3"] if tokens else []  # the page's kind of budget, less of it
    return [*words, *SIZES.get(words[0], []), *glue, *budget]
