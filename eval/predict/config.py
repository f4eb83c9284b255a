"""What is to be labelled, with what, and where the labels go."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_pipeline import Problem, number_problems, os_problem, place_problem

from ..precision import Precision

STDIN = "-"
INPUTS = ("lines", "csv", "tsv", "json", "jsonl", "parquet")
_FORMATS = ("csv", "jsonl")


@dataclass
class PredictConfig:
    """Labels, by name, and scores for texts, in their order."""

    model: str
    """A fine-tuned model, whole (OUTPUT/TASK of `acn glue`) or cut, or a classifier of the BERT line; a folder, or
    NAME[@REVISION] of the Hub."""
    file: str
    """Texts: .csv, .tsv, .json, .jsonl or .parquet with named columns, any other file a text a line; - is standard
    input."""
    output: str | None = None
    """File to write, .csv or .jsonl; must not exist. Left out: standard output."""
    depth: int | None = None
    """Layers to use, 0..L. Left out: all that the model has."""
    text_columns: str | list[str] | None = None
    """The column of the text, or two with a comma between for a pair. Left out: those of the model's task."""
    input_format: Literal["lines", "csv", "tsv", "json", "jsonl", "parquet"] | None = None
    """What FILE is, where its name does not say so; standard input is lines unless this says otherwise."""
    output_format: Literal["csv", "jsonl"] | None = None
    """What is written. Left out: what the name of `output` says, else csv."""
    batch_size: int = 64
    """Texts per forward pass, of similar lengths."""
    max_length: int | None = None
    """Tokens per text at most; what is longer is cut, which is said. Left out: as in fine-tuning."""
    precision: Precision = "auto"
    """Of matrix products, over float32 weights; auto: bf16 where the device multiplies it, else fp32."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """`text_columns` as a tuple; None where the model's task decides."""
        if self.text_columns is None:
            return None
        names = self.text_columns.split(",") if isinstance(self.text_columns, str) else self.text_columns
        return tuple(name.strip() for name in names if name.strip())

    @property
    def source(self) -> Path:
        """The file to read."""
        return Path("/dev/stdin" if self.file == STDIN else self.file)

    @property
    def kind(self) -> str:
        """One of `INPUTS`."""
        suffix = Path(self.file).suffix[1:].lower()
        return self.input_format or (suffix if suffix in INPUTS[1:] else "lines")

    @property
    def written(self) -> str:
        """csv or jsonl."""
        return self.output_format or ("csv" if self.output is None else Path(self.output).suffix[1:].lower())

    def problems(self) -> list[Problem]:
        found = number_problems(self)
        if self.file != STDIN and (self.source.is_dir() or not self.source.exists()):  # a pipe will do
            wrong = "is a folder" if self.source.is_dir() else "does not exist"
            found.append(Problem("file", self.file, wrong, "give a file of texts, or - for standard input"))
        if self.file == STDIN and self.kind == "parquet":
            found.append(Problem("input_format", "parquet", "cannot be read from standard input", "give a file"))
        if (named := self.columns) is not None and not 1 <= len({*named}) == len(named) <= 2:
            fix = "name one column, or two different ones with a comma between"
            found.append(Problem("text_columns", self.text_columns, fix=fix))
        if self.kind == "lines" and len(self.columns or ()) > 1:
            wrong = "names two columns, a line has one text"
            found.append(Problem("text_columns", self.text_columns, wrong, "give a .csv, .tsv or .jsonl for pairs"))
        if self.depth is not None and self.depth < 0:
            found.append(Problem("depth", self.depth, fix="give 0 or more, or leave it out for the whole model"))
        if self.batch_size < 1:
            found.append(Problem("batch_size", self.batch_size, "must be at least 1"))
        if self.max_length is not None and self.max_length < 3:
            fix = "give 3 or more, room for [CLS], a token and [SEP]"
            found.append(Problem("max_length", self.max_length, fix=fix))
        return found + self._output_problems()

    def _output_problems(self) -> list[Problem]:
        if self.output is None:
            return []
        path = Path(self.output)
        try:
            if path.is_symlink() or path.exists():
                return [Problem("output", self.output, "exists", "choose another file")]
        except OSError as error:  # too long a name, for instance
            return [os_problem(error, "output", path)]
        found = [problem] if (problem := place_problem(path, "output")) is not None else []
        suffix = path.suffix[1:].lower()
        if suffix not in _FORMATS and self.output_format is None:
            found.append(Problem("output", self.output, "says neither .csv nor .jsonl", "or give --output_format"))
        if suffix in _FORMATS and self.output_format not in (None, suffix):
            found.append(Problem("output_format", self.output_format, f"is not what {path.name} says", "leave it out"))
        return found
