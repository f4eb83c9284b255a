"""From a labelled CSV of your own to a small classifier: split it, fine-tune, cut, and use what is left.

    python examples/own_csv.py runs/acn/model reviews.csv --text review --label stars --output runs/reviews

MODEL is a pretrained folder (RUN/model of `acn pretrain`). A fifth of the rows are kept for validation. The two
commands that do the work are printed before they run; `acn glue --help` and `acn compress --help` have their options.
"""

import argparse
import csv
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
from sklearn.model_selection import train_test_split
from transformers import AutoTokenizer, pipeline

from modeling import AcnForSequenceClassification


def acn(*arguments: object) -> None:
    """Run an `acn` command; if it fails, end with its exit code."""
    words = [str(argument) for argument in arguments]
    print("$ acn", shlex.join(words), flush=True)
    if code := subprocess.run([sys.executable, "-P", "-m", "launch.cli", *words]).returncode:
        sys.exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a pretrained model")
    parser.add_argument("csv", type=Path, help="file with a header, a column of texts and one of labels")
    parser.add_argument("--text", default="text", help="the column of the texts (default: text)")
    parser.add_argument("--label", default="label", help="the column of the labels, any names (default: label)")
    parser.add_argument("--tolerance", type=float, default=0.01, help="accuracy that the cut may cost (default 0.01)")
    parser.add_argument("--output", type=Path, required=True, help="folder to write; must not exist")
    args = parser.parse_args()
    if not args.model.is_dir():
        parser.error(f"{args.model} is not a folder: give RUN/model of `acn pretrain`")
    if args.output.exists():
        parser.error(f"--output {args.output} exists: choose another folder or remove it")

    try:
        with args.csv.open(encoding="utf-8-sig", newline="") as file:  # all is text: one may be "12" or "null"
            header, *records = (row for row in csv.reader(file, strict=True) if row)
    except (OSError, ValueError, csv.Error) as error:
        parser.error(f"{args.csv} cannot be read as CSV with a header, in UTF-8: {error}")
    if wrong := [row for row in records if len(row) != len(header)]:
        parser.error(f"{args.csv}: {len(wrong)} rows have not {len(header)} fields, the first: {wrong[0]}")
    rows = pd.DataFrame(records, columns=header)
    if absent := [column for column in (args.text, args.label) if column not in rows]:
        parser.error(f"{args.csv} has no column {', '.join(absent)}: name two of {', '.join(rows)}")
    rows = pd.DataFrame({"sentence": rows[args.text], "label": rows[args.label]})
    try:
        train, validation = train_test_split(rows, test_size=0.2, stratify=rows["label"], random_state=0)
    except ValueError as error:  # too few rows, or a label that only one row has
        parser.error(f"{args.csv}, column {args.label}: {error}")
    data, task = args.output / "data", args.csv.stem
    data.mkdir(parents=True)
    train.to_parquet(data / "train.parquet", index=False)
    validation.to_parquet(data / "validation.parquet", index=False)

    finetuned, small = args.output / "finetuned", args.output / "small"
    acn("glue", "--model", args.model, "--tasks", task, "--dataset.path", data, "--output", finetuned)
    acn("compress", "--model", finetuned / task, "--tolerance", args.tolerance, "--output", small)

    model = AcnForSequenceClassification.from_pretrained(small)
    classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(small))
    text = validation["sentence"].iloc[0]
    answer = classify(text, truncation=True, max_length=model.config.max_position_embeddings)[0]
    print(f"{small}: {model.config.num_hidden_layers} layers")
    print(f"{answer['label']} {answer['score']:.4f}  {text}")


if __name__ == "__main__":
    main()
