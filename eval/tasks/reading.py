"""Reading the splits of a classification data set: Parquet, TSV, CSV or JSON lines in a folder, or the Hub."""

from collections.abc import Sequence
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from ..errors import EvalError

SUFFIXES = ("parquet", "tsv", "csv", "jsonl")


def split_files(folder: Path, split: str) -> list[Path]:
    """SPLIT.parquet (or .tsv, .csv, .jsonl), or the Hub's numbered Parquet parts of it; empty where there is none."""
    for suffix in SUFFIXES:
        if (whole := folder / f"{split}.{suffix}").is_file():
            return [whole]
    return sorted(folder.glob(f"{split}-[0-9]*-of-[0-9]*.parquet"))


def _read_file(path: Path, text_columns: Sequence[str]) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix == ".jsonl":
        return pajson.read_json(path)
    tabs = path.suffix == ".tsv"
    # GLUE's TSV files hold bare quotation marks, CSV files quote with them
    parse = pacsv.ParseOptions(delimiter="\t" if tabs else ",", quote_char=False if tabs else '"')
    # a sentence may be "12" or "null": text it is
    convert = pacsv.ConvertOptions(column_types=dict.fromkeys(text_columns, pa.string()))
    return pacsv.read_csv(path, parse_options=parse, convert_options=convert)


def read_split(folder: Path, split: str, text_columns: Sequence[str] = ()) -> datasets.Dataset:
    """One split of a local data set, in memory.

    Args:
        text_columns: read as text whatever they look like, where the file does not say.

    Raises:
        EvalError: there is no such file, or it cannot be read.
    """
    files = split_files(folder, split)
    if not files:
        others = ", ".join(f".{suffix}" for suffix in SUFFIXES[1:])
        raise EvalError(f"{folder / split}.parquet is missing (so are {others}): a task needs its {split} split")
    kind = {"parquet": "Parquet", "tsv": "TSV", "csv": "CSV", "jsonl": "JSON lines"}[files[0].suffix[1:]]
    try:
        # read into memory: no copy of the data in a cache folder
        return datasets.Dataset(pa.concat_tables([_read_file(file, text_columns) for file in files]))
    except (OSError, pa.ArrowInvalid) as error:
        raise EvalError(f"{files[0]} cannot be read as {kind} ({error}): write it again") from error


def load_hub_split(path: str, name: str | None, split: str, field: str) -> datasets.Dataset:
    """One split of a data set on the Hub.

    Args:
        field: the option that would name a local folder instead, for the message.

    Raises:
        EvalError: it cannot be loaded.
    """
    try:
        return datasets.load_dataset(path, name, split=split)
    except Exception as error:  # the Hub fails in many ways: no network, no access, a changed layout
        origin = path if name is None else f"{path} {name}"
        raise EvalError(f"{origin} cannot be loaded from the Hub ({error}): give a local --{field}") from error


def hub_splits(path: str, name: str | None) -> list[str]:
    """The splits that a data set on the Hub has; none when it cannot be reached."""
    try:
        return list(datasets.get_dataset_split_names(path, name))
    except Exception:  # as above; loading the first split will say what is wrong
        return []
