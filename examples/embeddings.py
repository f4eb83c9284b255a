"""Sentence embeddings from a pretrained folder, and how good they are at every depth.

    pip install 'acn-lm[embed]'
    python examples/embeddings.py runs/acn/model glue/stsb --output runs/embedder

MODEL is a pretrained folder (RUN/model of `acn pretrain`). DATA has train.parquet and validation.parquet, with the
columns sentence1, sentence2 and label (a similarity of 0 to 5), as nyu-mll/glue has STS-B. sentence-transformers trains
the encoder with a loss at full depth only (CoSENT), in bf16 where the machine multiplies it; then the mean of the
read-outs y_k is scored at every depth k, by Spearman's correlation of cosine similarities with the labels. `--depth`
cuts what is written, a folder for `SentenceTransformer` (import modeling first: it makes the architecture known).
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import pyarrow.parquet as pq
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

import modeling  # transformers knows the architecture from now on
from eval import precision_problems, quiet_transformers

COLUMNS = ["sentence1", "sentence2", "label"]


def read_split(file: Path) -> datasets.Dataset:
    """Pairs of sentences and their similarity `score`, 0 to 1."""
    table = pq.read_table(file, columns=COLUMNS)
    scores = [label / 5 for label in table["label"].to_pylist()]
    return datasets.Dataset(table.select(COLUMNS[:2]).append_column("score", [scores]))


def train(
    embedder: Any, pairs: datasets.Dataset, folder: str, epochs: float, learning_rate: float, precision: str
) -> None:
    """Fine-tune on pairs with a similarity; the trainer may use `folder`."""
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    arguments = SentenceTransformerTrainingArguments(
        output_dir=folder, num_train_epochs=epochs, learning_rate=learning_rate, per_device_train_batch_size=32,
        warmup_steps=0.1, save_strategy="no", report_to="none", logging_steps=50, seed=0,
        use_cpu=not torch.cuda.is_available(), bf16=precision == "bf16", fp16=precision == "fp16",
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(embedder, arguments, train_dataset=pairs, loss=CoSENTLoss(embedder))
    trainer.train()


@torch.no_grad()
def embed_depths(embedder: Any, texts: list[str], precision: str) -> torch.Tensor:
    """(L+1, N, hidden): the mean read-out over the tokens of each text, of every depth from one forward pass."""
    found = []
    for start in range(0, len(texts), 64):
        batch = embedder.preprocess(texts[start : start + 64])
        inputs = {name: batch[name].to(embedder.device) for name in ("input_ids", "attention_mask")}
        with modeling.autocast(precision, embedder.device):
            read_outs = embedder[0].auto_model(**inputs, output_hidden_states=True).hidden_states
        mask = inputs["attention_mask"][..., None].float()
        found.append(torch.stack([(y.float() * mask).sum(1) / mask.sum(1) for y in read_outs]).cpu())
    return torch.cat(found, dim=1)


def score_depths(embedder: Any, pairs: datasets.Dataset, precision: str) -> list[float]:
    """Spearman's correlation of cosine similarity and score at depth 0..L."""
    embedder.eval()
    first, second = (embed_depths(embedder, pairs[column][:], precision) for column in COLUMNS[:2])
    similarities = F.cosine_similarity(first, second, dim=-1)
    return [float(spearmanr(at_depth, pairs["score"][:]).statistic) for at_depth in similarities.numpy()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a pretrained model")
    parser.add_argument("data", type=Path, help="folder with train.parquet and validation.parquet")
    parser.add_argument("--output", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--depth", type=int, help="layers of the written model (default: all)")
    parser.add_argument("--epochs", type=float, default=4, help="over the training pairs (default 4)")
    parser.add_argument("--learning_rate", type=float, default=2e-5, help="peak (default 2e-5)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    args = parser.parse_args()
    if not (args.model / "config.json").is_file():
        parser.error(f"{args.model} is not a model folder: give RUN/model of `acn pretrain`")
    layers = modeling.AcnConfig.from_pretrained(args.model).num_hidden_layers
    if args.depth is not None and not 0 <= args.depth <= layers:
        parser.error(f"--depth {args.depth} is outside 0..{layers}")
    if args.output.exists():
        parser.error(f"--output {args.output} exists: choose another folder or remove it")
    if problems := precision_problems(args.precision, trains=True):
        parser.error(str(problems[0]))
    precision = modeling.resolve_precision(args.precision)
    for split in ("train", "validation"):
        file = args.data / f"{split}.parquet"
        if not file.is_file():
            parser.error(f"{file} is missing: give a folder with both splits of STS-B")
        if absent := [name for name in COLUMNS if name not in pq.read_schema(file).names]:
            parser.error(f"{file} has no column {', '.join(absent)}: it takes {', '.join(COLUMNS)}")
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    except ImportError:
        parser.error("sentence-transformers is not installed: pip install 'acn-lm[embed]'")

    pairs, held_out = (read_split(args.data / f"{split}.parquet") for split in ("train", "validation"))
    with quiet_transformers():
        attention = modeling.choose_attention(precision)
        encoder = Transformer(
            str(args.model), model_kwargs={"add_pooling_layer": False, "attn_implementation": attention}
        )
    embedder = SentenceTransformer(modules=[encoder, Pooling(encoder.get_embedding_dimension())])
    print(f"computing in {precision}, attention {modeling.choose_attention(precision)}, on {embedder.device}")
    before = score_depths(embedder, held_out, precision)
    with TemporaryDirectory() as scratch:
        train(embedder, pairs, scratch, args.epochs, args.learning_rate, precision)
    after = score_depths(embedder, held_out, precision)
    for depth, (untrained, trained) in enumerate(zip(before, after, strict=True)):
        print(f"depth {depth:2}  Spearman {trained:+.4f}  before training {untrained:+.4f}")
    if args.depth is not None:
        embedder[0].auto_model.truncate(args.depth)
    embedder.save_pretrained(str(args.output))
    print(f"embedder with {layers if args.depth is None else args.depth} layers: {args.output}")


if __name__ == "__main__":
    main()
