"""acn predict"""

import sys
from dataclasses import dataclass

from eval import EvalError
from eval.predict import PredictConfig

from . import large_imports

EXAMPLE = "acn predict runs/small reviews.csv --text_columns review --output labels.csv"


@dataclass
class Args(PredictConfig):
    """Label texts with a fine-tuned model."""


def run(args: Args) -> int:
    """Write a label and scores for each text; where they go to stdout, nothing else does."""
    if problems := args.problems():
        raise EvalError(*problems)
    with large_imports():
        from eval.predict import predict_file

    said = predict_file(args)
    if args.output is None:
        print(said, file=sys.stderr)
    else:
        print(f"predictions: {args.output} ({said})")
    return 0
