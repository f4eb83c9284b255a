"""acn compress"""

from dataclasses import dataclass

from eval import CompressConfig, compress


@dataclass
class Args(CompressConfig):
    """Cut a fine-tuned model at the smallest depth that stays within the tolerance."""


def run(args: Args) -> int:
    """Write the small model and say what was gained."""
    print("\n".join(compress(args).lines()))
    return 0
