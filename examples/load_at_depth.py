"""Load the first layers of a fine-tuned classifier, and see that they say what the whole model says at that depth.

    python examples/load_at_depth.py runs/glue/sst2 3 "a gripping film"

MODEL is a folder that `acn glue` wrote (OUTPUT/TASK). `AutoModelForSequenceClassification` loads it as well, once
`modeling` is imported.
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer

from modeling import AcnForSequenceClassification


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a fine-tuned classifier")
    parser.add_argument("depth", type=int, help="layers to load, 0 to all of them")
    parser.add_argument("text")
    args = parser.parse_args()

    if not args.model.is_dir():
        parser.error(f"{args.model} is not a folder: give one that `acn glue` wrote (OUTPUT/TASK)")
    whole, info = AcnForSequenceClassification.from_pretrained(args.model, output_loading_info=True)
    layers = whole.config.num_hidden_layers
    if info["missing_keys"]:
        parser.error(f"{args.model} is not a fine-tuned classifier: give a folder that `acn glue` wrote (OUTPUT/TASK)")
    if not 0 <= args.depth <= layers:
        parser.error(f"depth={args.depth} is outside 0..{layers}, the depths of {args.model}")
    small = AcnForSequenceClassification.from_pretrained(args.model, num_hidden_layers=args.depth)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    inputs = tokenizer(args.text, truncation=True, max_length=whole.config.max_position_embeddings, return_tensors="pt")

    read_outs = whole(**inputs, output_hidden_states=True).hidden_states  # y_0, ..., y_L from one forward pass
    answers = {
        f"the whole model, {layers} layers": whole(**inputs).logits,
        f"loaded with {args.depth} layers": small(**inputs).logits,
        f"the whole model, run to depth {args.depth}": whole(**inputs, depth=args.depth).logits,
        f"the whole model, read-out {args.depth}": whole.head_logits(read_outs[args.depth]),
    }
    for way, logits in answers.items():
        label = whole.config.id2label[int(logits.argmax())]
        print(f"{way:36} {label:16} logits {' '.join(f'{value:+.6f}' for value in logits[0])}")
    print(f"parameters: {whole.num_parameters():,} -> {small.num_parameters():,}")


if __name__ == "__main__":
    main()
