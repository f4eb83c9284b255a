"""The demo's text: the English documentation of the Python packages that acn-lm runs on.

Docstrings are read from source files with `ast`, nothing is imported, so the demo needs no download and
the text is the same on every machine with the same versions. Two labelled tasks in GLUE's format are cut
from that text: `docsource` (which package is this passage from) and `docorder` (two passages of one docstring:
are they in the order in which they stand there).
"""

import ast
import hashlib
import importlib.util
import inspect
import json
import os
import random
import re
import sysconfig
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from data_pipeline import new_file

from ..errors import LaunchError

STANDARD_LIBRARY = "python"
PACKAGES = (
    STANDARD_LIBRARY,
    "numpy",
    "scipy",
    "sklearn",
    "pandas",
    "torch",
    "matplotlib",
    "networkx",
    "sqlalchemy",
)
"""Packages the corpus is read from: dependencies of acn-lm, or of its dependencies, that are rich in prose."""

CLASSES = ("numpy", "scipy", "pandas", "torch", "matplotlib", "networkx")
"""Classes of docsource, in the order of their labels."""

MIN_DOCSTRING = 120
"""Shorter docstrings (in characters) say little; they are left out."""

_VALIDATION_SHARE = 0.03  # of the corpus's documents
_TASK_VALIDATION_SHARE = 0.15  # of the documents that task passages are cut from
_SKIPPED_FOLDERS = {"test", "tests", "testing", "site-packages", "dist-packages", "idlelib", "lib2to3", "_vendor"}
# How the packages of CLASSES are called in their own documentation. Words with one of these are dropped from
# every docsource passage, whichever class it belongs to, so that neither a name nor its absence tells.
_GIVEAWAYS = re.compile(
    r"numpy|\bnp\b|ndarray|scipy|\bpandas\b|\bpd\b|dataframe|torch|matplotlib|\bmpl\b|pyplot|\bplt\b|networkx|\bnx\b",
    re.IGNORECASE,
)

_ROLE = re.compile(r":[\w:+-]+:`[~!]?([^`<]*?)(?:\s*<[^`]*>)?`")  # :func:`~torch.add` -> torch.add
_UNDERLINE = re.compile(r"([=\-~^\"'*#+.])\1{2,}\s*")
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+")


@dataclass(frozen=True)
class DemoCorpus:
    """The files of a written corpus: JSON lines with `text` and `package`."""

    train: Path
    validation: Path

    def documents(self) -> Iterator[tuple[str, str]]:
        """Yield (package, text) of every document of both files."""
        for path in (self.train, self.validation):
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    record = json.loads(line)
                    yield record["package"], record["text"]


def write_demo_corpus(
    directory: Path, size_mb: float = 10.0, packages: Sequence[str] = PACKAGES, processes: int = 2
) -> DemoCorpus:
    """Write `train.jsonl` and `validation.jsonl` (3 % of the documents) into `directory`.

    The same installed packages give the same bytes, however many processes read them.

    Args:
        directory: created when missing; must not hold these two files yet.
        size_mb: how much text to keep, in millions of characters; a smaller corpus is a subset of a larger one.
        packages: importable names of installed packages, or "python" for the standard library.
        processes: how many processes parse source files.

    Raises:
        LaunchError: a package is not installed, the files exist, or `size_mb` is too small for any document.
    """
    corpus = DemoCorpus(directory / "train.jsonl", directory / "validation.jsonl")
    _refuse_existing(corpus.train, corpus.validation)
    files = [(name, path) for name in packages for path in _source_files(name)]
    unique = dict.fromkeys(_read_all(files, processes))
    by_text = {text: package for package, text in reversed(unique)}  # a text in two packages: the first has it
    # By hash, the packages are mixed evenly and every prefix of the order is a fair sample of all of them.
    chosen, left = [], size_mb * 1e6
    for text in sorted(by_text, key=_digest):
        left -= len(text)
        if left < 0:
            break
        chosen.append((by_text[text], text))
    held_out = [_share(text, "corpus") < _VALIDATION_SHARE for _, text in chosen]
    if not any(held_out) or all(held_out):
        raise LaunchError(
            f"size_mb: {size_mb} leaves {len(chosen)} documents, too few to hold some out for validation; raise it"
        )
    directory.mkdir(parents=True, exist_ok=True)
    for path, wanted in ((corpus.train, False), (corpus.validation, True)):
        documents = (document for document, out in zip(chosen, held_out, strict=True) if out is wanted)
        _write_lines(path, (json.dumps({"text": t, "package": p}, ensure_ascii=False) for p, t in documents))
    return corpus


def write_demo_tasks(
    directory: Path,
    corpus: DemoCorpus,
    train_examples: int = 4000,
    validation_examples: int = 600,
    classes: Sequence[str] = CLASSES,
    seed: int = 0,
) -> dict[str, Path]:
    """Write the tasks `docsource` and `docorder` as TASK/train.parquet and TASK/validation.parquet.

    The columns are those of nyu-mll/glue: sentence (or sentence1 and sentence2), label, idx. Classes are
    balanced to within one example. Documents, not passages, are held out for validation, and a passage that
    stands in several documents (boilerplate) is used for neither.

    Returns:
        The folder of each task by name.

    Raises:
        LaunchError: a file exists, or the corpus has too few passages for this many examples.
    """
    folders = {"docsource": directory / "docsource", "docorder": directory / "docorder"}
    sizes = {"train": train_examples, "validation": validation_examples}
    _refuse_existing(*(folder / f"{split}.parquet" for folder in folders.values() for split in sizes))
    documents = [(package, clean_docstring(text)) for package, text in corpus.documents()]
    long = _by_split(_passages(documents, 20, 60))
    short = _by_split(_passages(documents, 10, 24))  # two of them fit 96 tokens
    tables: list[tuple[Path, dict[str, list[Any]], tuple[str, ...]]] = []
    for split, size in sizes.items():
        rng = random.Random(f"{seed} {split}")
        name = f"{split}.parquet"
        source = _source_examples(long[split], size, classes, rng)
        tables.append((folders["docsource"] / name, source, tuple(classes)))
        order = _order_examples(short[split], size, rng)
        tables.append((folders["docorder"] / name, order, ("swapped", "in order")))
    for path, columns, names in tables:
        _write_table(path, columns, names)
    return folders


# ---------------------------------------------------------------------------------------------------------
# docstrings


def _source_files(package: str) -> list[Path]:
    """The package's modules without its tests, in a fixed order."""
    if package == STANDARD_LIBRARY:
        root = Path(sysconfig.get_path("stdlib"))
    else:
        spec = importlib.util.find_spec(package)  # does not import a top-level package
        if spec is None or spec.origin is None:
            raise LaunchError(f"packages: {package!r} is not installed here; leave it out or install it")
        root = Path(spec.origin).parent
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _read_all(files: Sequence[tuple[str, Path]], processes: int) -> Iterator[tuple[str, str]]:
    """Yield (package, text) of every docstring, in the order of `files`."""
    paths = [path for _, path in files]
    # Spawned, not forked: the caller may have threads (torch, pyarrow) that a fork would leave in any state.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for (package, _), texts in zip(files, pool.map(_docstrings, paths, chunksize=32), strict=True):
            for text in texts:
                yield package, text


def _docstrings(path: Path) -> list[str]:
    """The long docstrings of one source file as they stand, or nothing if this Python cannot parse it.

    Their examples, headings and markup stay in the corpus: they repeat, and so are learned in the minutes a demo has.
    """
    source = path.read_bytes()
    if len(source) < MIN_DOCSTRING:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # templates, odd encodings, huge tables
        return []
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            if len(text) > MIN_DOCSTRING and "\0" not in text:  # `prepare` takes text with NUL bytes for damaged
                texts.append(text.encode("utf-8", "ignore").decode())  # lone surrogates fit no file
    return texts


def clean_docstring(raw: str) -> str:
    """Turn a docstring into prose: one paragraph a line, without examples, underlines, tables and markup."""
    paragraphs: list[str] = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(raw)):
        lines = []
        for line in map(str.strip, block.splitlines()):
            if line.startswith((">>>", "In [")):
                break  # a doctest and its output reach to the end of the block
            if not _UNDERLINE.fullmatch(line):
                lines.append(line)
        text = " ".join(" ".join(lines).split())
        text = _ROLE.sub(r"\1", text).replace("`", "").replace("**", "")
        if _is_prose(text):
            paragraphs.append(text)
    return "\n".join(paragraphs).encode("utf-8", "ignore").decode()  # lone surrogates fit no file


def _is_prose(text: str) -> bool:
    """At least three words, and four characters in five are letters or spaces (formulas and tables are not)."""
    letters = sum(character.isalpha() or character == " " for character in text)
    return text.count(" ") >= 2 and letters >= 0.8 * len(text)


# ---------------------------------------------------------------------------------------------------------
# tasks


@dataclass(frozen=True)
class _Passage:
    package: str
    document: int
    text: str


def _passages(documents: Sequence[tuple[str, str]], low: int, high: int) -> dict[str, list[_Passage]]:
    """Cut documents into passages of `low` to `high` words; keep those that occur once in the corpus.

    Returns:
        The passages by the text of their document.
    """
    cut = {text: list(_cut(text, low, high)) for _, text in documents}
    seen = Counter(chain.from_iterable(cut.values()))
    return {
        text: [_Passage(package, index, passage) for passage in cut[text] if seen[passage] == 1]
        for index, (package, text) in enumerate(documents)
    }


def _cut(text: str, low: int, high: int) -> Iterator[str]:
    """Yield runs of whole sentences of one paragraph that have `low` to `high` words."""
    for paragraph in text.split("\n"):
        words: list[str] = []
        for sentence in _SENTENCE_END.split(paragraph):
            words += sentence.split()
            if len(words) >= low:
                if len(words) <= high:
                    yield " ".join(words)
                words = []


def _by_split(passages: Mapping[str, list[_Passage]]) -> dict[str, list[list[_Passage]]]:
    """Deal whole documents to train and validation by the hash of their text."""
    splits: dict[str, list[list[_Passage]]] = {"train": [], "validation": []}
    for text, of_document in passages.items():
        held_out = _share(text, "tasks") < _TASK_VALIDATION_SHARE
        splits["validation" if held_out else "train"].append(of_document)
    return splits


def _source_examples(
    documents: Sequence[list[_Passage]], size: int, classes: Sequence[str], rng: random.Random
) -> dict[str, list[Any]]:
    """Columns sentence and label; label i is `classes[i]`."""
    texts: dict[str, list[str]] = defaultdict(list)
    for passage in chain.from_iterable(documents):
        words = [word for word in passage.text.split() if not _GIVEAWAYS.search(word)]
        if len(words) >= 15:
            texts[passage.package].append(" ".join(words))
    examples: list[tuple[str, int]] = []
    for label, package in enumerate(classes):
        wanted = size // len(classes) + (label < size % len(classes))
        available = sorted(set(texts[package]))
        _require(len(available), wanted, f"docsource passages from {package}")
        examples += [(text, label) for text in rng.sample(available, wanted)]
    rng.shuffle(examples)
    return {"sentence": [text for text, _ in examples], "label": [label for _, label in examples]}


def _order_examples(documents: Sequence[list[_Passage]], size: int, rng: random.Random) -> dict[str, list[Any]]:
    """Columns sentence1, sentence2 and label: the first passage of a docstring and a later one; 1: in this order, 0:
    swapped (sentence order prediction: Lan et al. 2019, arXiv 1909.11942).

    Both labels draw from the same documents in the same way, one pair from each.
    """
    pairs = [(document[0].text, rng.choice(document[1:]).text) for document in documents if len(document) >= 2]
    _require(len(pairs), size, "docorder documents with two passages")
    rng.shuffle(pairs)
    in_order, swapped = pairs[: size // 2], pairs[size // 2 : size]
    examples = [(first, later, 1) for first, later in in_order] + [(later, first, 0) for first, later in swapped]
    rng.shuffle(examples)
    names = ("sentence1", "sentence2", "label")
    return {name: list(column) for name, column in zip(names, zip(*examples, strict=True), strict=True)}


def _require(available: int, wanted: int, what: str) -> None:
    if available < wanted:
        raise LaunchError(
            f"the demo corpus has {available} {what} and {wanted} are needed: "
            "raise size_mb, or lower train_examples and validation_examples"
        )


# ---------------------------------------------------------------------------------------------------------
# files


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _share(text: str, purpose: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    return int.from_bytes(_digest(f"{purpose}\n{text}")[:6], "big") / 2**48


def _refuse_existing(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise LaunchError(f"{path} exists already; remove it or name another directory")


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with new_file(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


def _write_table(path: Path, columns: dict[str, list[Any]], names: Sequence[str]) -> None:
    """Write a Parquet file that `datasets` reads with `label` as a class label called `names`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {**columns, "idx": list(range(len(columns["label"])))}
    types = {"label": pa.int64(), "idx": pa.int32()}
    features: dict[str, Any] = {key: {"dtype": str(types.get(key, pa.string())), "_type": "Value"} for key in columns}
    features["label"] = {"names": list(names), "_type": "ClassLabel"}
    schema = pa.schema(
        [(key, types.get(key, pa.string())) for key in columns],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    with new_file(path) as aside:
        pq.write_table(pa.table(columns, schema=schema), aside)
