"""The text that a conversion reads: the sentences of the tasks' training splits, without their labels.

    python -m benchmarks.study.conversion.texts --glue_dir GLUE --output TEXTS

TEXTS has train.jsonl and validation.jsonl for `acn prepare`; the latter, of the validation splits, is only measured on.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import new_folder

SPLITS = {"train": ("train",), "validation": ("validation", "validation_matched")}


def main(argv: Sequence[str] | None = None) -> int:
    """Write both files, all or nothing; what is there already is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glue_dir", type=Path, required=True, help="folder with TASK/SPLIT.parquet")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    args = parser.parse_args(argv)
    if args.output.exists():
        print(f"{args.output} is there already")
        return 0
    with new_folder(args.output) as aside:
        for split, names in SPLITS.items():
            files = [path for name in names for path in sorted(args.glue_dir.glob(f"*/{name}.parquet"))]
            if not files:
                raise FileNotFoundError(f"glue_dir: {args.glue_dir} has no TASK/{names[0]}.parquet")
            with (aside / f"{split}.jsonl").open("w", encoding="utf-8") as lines:
                lines.writelines(json.dumps({"text": text}) + "\n" for path in files for text in read_texts(path))
    return 0


def read_texts(path: Path) -> Iterator[str]:
    """The text of each example: its sentences, one after the other."""
    table = pq.read_table(path)
    columns = [field.name for field in table.schema if _is_text(field.type)]
    for row in table.select(columns).to_pylist():
        yield " ".join(row[column] for column in columns if row[column])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


if __name__ == "__main__":
    sys.exit(main())
