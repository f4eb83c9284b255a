"""Classify texts, each with as many layers as it needs: a text leaves the batch once the classifier is sure.

    python examples/early_exit.py runs/glue/sst2 --confidence 0.9 "a gripping film" "not as dull as it looks"

MODEL is a folder that `acn glue` wrote (OUTPUT/TASK). `acn study early_exit` measures on the validation split what a
threshold costs in score and saves in time.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer

from modeling import AcnForSequenceClassification


@torch.no_grad()
def classify(
    model: AcnForSequenceClassification, inputs: dict[str, torch.Tensor], confidence: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (B, C) of B texts, each at the depth (B,) where its largest one reached `confidence`."""
    read_outs = model.base_model.read_outs(**inputs)
    # y_0 at [CLS] is the same for every text: it answers only for a model without layers
    answers = model.head_logits(next(read_outs)).softmax(-1)
    depths = torch.zeros(len(answers), dtype=torch.long)
    rows, unsure = torch.arange(len(answers)), None  # the texts still in, and which of them go on (at first all)
    for depth in range(1, model.config.num_hidden_layers + 1):
        probabilities = model.head_logits(read_outs.send(unsure)).softmax(-1)  # layer `depth` runs on these alone
        answers[rows], depths[rows] = probabilities, depth
        unsure = (probabilities.amax(-1) < confidence).nonzero().flatten()
        rows = rows[unsure]
        if not len(rows):
            break
    return answers, depths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a fine-tuned classifier")
    parser.add_argument("texts", nargs="+", metavar="text")
    parser.add_argument("--confidence", type=float, default=0.9, help="leave at this probability (default 0.9)")
    args = parser.parse_args()

    if not args.model.is_dir():
        parser.error(f"{args.model} is not a folder: give one that `acn glue` wrote (OUTPUT/TASK)")
    model, info = AcnForSequenceClassification.from_pretrained(args.model, output_loading_info=True)
    if info["missing_keys"] or model.config.num_labels < 2:
        parser.error(f"{args.model} is not a fine-tuned classifier: give a folder that `acn glue` wrote (OUTPUT/TASK)")
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    longest = model.config.max_position_embeddings
    inputs = tokenizer(args.texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")

    answers, depths = classify(model, dict(inputs), args.confidence)
    for text, probabilities, depth in zip(args.texts, answers, depths.tolist(), strict=True):
        label = model.config.id2label[int(probabilities.argmax())]
        print(f"depth {depth:2}  {label} {probabilities.max():.4f}  {text}")
    print(f"layers run per text: {depths.float().mean():.2f} of {model.config.num_hidden_layers}")


if __name__ == "__main__":
    main()
