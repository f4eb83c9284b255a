"""How well a model's sentence embeddings order the pairs of STS-B, at every depth and without fine-tuning.

    python -m benchmarks.study.conversion.similarity MODEL --data GLUE/stsb/validation.parquet --output FILE

The embedding is the mean of the read-outs of a sentence's tokens, as all-MiniLM-L6-v2 has it; FILE gets Spearman's
correlation of the cosine similarities with the labels, by depth.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

from data_pipeline import find_model, load_tokenizer, write_json
from modeling import AcnModel, load_model

BATCH, LONGEST = 64, 128


def main(argv: Sequence[str] | None = None) -> int:
    """Score the folder and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub name of a pretrained model")
    parser.add_argument("--data", type=Path, required=True, help="Parquet: sentence1, sentence2, label")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    folder = find_model(args.model, "model").path
    model, _ = load_model(AcnModel, folder)
    pairs = pq.read_table(args.data, columns=["sentence1", "sentence2", "label"]).to_pydict()
    scores = score_depths(model.eval(), load_tokenizer(str(folder)), pairs)
    write_json(args.output, {"spearman_by_depth": scores, "pairs": len(pairs["label"])})
    print(" ".join(f"{score:.4f}" for score in scores))
    return 0


def score_depths(model: AcnModel, tokenizer: Any, pairs: dict[str, list[Any]]) -> list[float]:
    """Spearman's correlation at depth 0..L of the pairs' `sentence1`, `sentence2` and `label`."""
    first, second = (embed_depths(model, tokenizer, pairs[name]) for name in ("sentence1", "sentence2"))
    similarities = F.cosine_similarity(first, second, dim=-1).numpy()
    return [float(spearmanr(at_depth, pairs["label"]).statistic) for at_depth in similarities]


@torch.inference_mode()
def embed_depths(model: AcnModel, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """(L+1, N, H): the mean read-out over the tokens of each text, of every depth from one forward pass."""
    found = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(
            list(texts[start : start + BATCH]), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        read_outs = model(**inputs, output_hidden_states=True).hidden_states
        mask = inputs["attention_mask"][..., None].float()
        found.append(torch.stack([(y.float() * mask).sum(1) / mask.sum(1) for y in read_outs]))
    return torch.cat(found, dim=1)


if __name__ == "__main__":
    sys.exit(main())
