"""The embedded corpus and the two tasks cut from it."""

import ast
import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.demo.corpus import CLASSES, DemoCorpus, clean_docstring, write_demo_corpus, write_demo_tasks
from launch.errors import LaunchError

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
BOILERPLATE = " ".join(["every page of the manual ends with exactly this sentence"] * 2) + "."


def prose(rng: random.Random, sentences: int, words: int = 22) -> str:
    def word() -> str:
        return "".join(rng.choices(ALPHABET, k=rng.randint(2, 9)))

    return " ".join(" ".join(word() for _ in range(words)).capitalize() + "." for _ in range(sentences))


@pytest.fixture
def toy_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of 200 documented modules that fails when it is imported."""
    root = tmp_path / "site" / "acn_toy"
    (root / "tests").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported')\n")
    rng = random.Random(0)
    for index in range(200):
        (root / f"m{index}.py").write_text(f'"""{prose(rng, 2)}"""\n\ndef f():\n    """Too short."""\n')
    copy = ast.get_docstring(ast.parse((root / "m0.py").read_text()))
    (root / "copy.py").write_text(f'class C:\n    """{copy}"""\n')
    (root / "broken.py").write_text("print 'a template, not Python'" + " " * 200)
    (root / "tests" / "test_m.py").write_text(f'"""{prose(rng, 3)}"""\n')
    monkeypatch.syspath_prepend(str(root.parent))
    return "acn_toy"


@pytest.fixture
def corpus(tmp_path: Path) -> DemoCorpus:
    """400 documents, each of four sentences of its own and one that they share, from four packages."""
    rng = random.Random(1)
    found = DemoCorpus(tmp_path / "train.jsonl", tmp_path / "validation.jsonl")
    lines = []
    for index in range(400):
        package = ("numpy", "torch", "scipy", "elsewhere")[index % 4]
        text = f"{prose(rng, 2)} Of NumPy, torch.nn and\n\n{prose(rng, 2)}\n\n{BOILERPLATE}"
        lines.append(json.dumps({"text": text, "package": package}) + "\n")
    found.train.write_text("".join(lines[:350]))
    found.validation.write_text("".join(lines[350:]))
    return found


def sha256(paths) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_the_corpus_has_every_long_docstring_once_and_imports_nothing(tmp_path: Path, toy_package: str) -> None:
    corpus = write_demo_corpus(tmp_path / "out", 1.0, [toy_package], processes=1)
    texts = [text for _, text in corpus.documents()]
    assert {package for package, _ in corpus.documents()} == {toy_package}
    modules = (tmp_path / "site" / toy_package).glob("m*.py")
    assert sorted(texts) == sorted(ast.get_docstring(ast.parse(path.read_text())) for path in modules)


def test_real_packages_give_the_same_bytes_for_any_number_of_processes(tmp_path: Path) -> None:
    one, two = (write_demo_corpus(tmp_path / f"{n}", 0.3, ["fsspec", "accelerate"], n) for n in (1, 2))
    assert sha256([one.train, one.validation]) == sha256([two.train, two.validation])
    sizes = [sum(len(json.loads(line)["text"]) for line in path.open()) for path in (one.train, one.validation)]
    assert 0.2e6 < sum(sizes) <= 0.3e6
    assert 0 < sizes[1] < 0.1 * sizes[0]
    documents = list(one.documents())
    assert {package for package, _ in documents} == {"fsspec", "accelerate"}
    assert len({text for _, text in documents}) == len(documents)


def test_a_smaller_corpus_is_part_of_a_larger_one_and_stays_in_its_split(tmp_path: Path, toy_package: str) -> None:
    large = write_demo_corpus(tmp_path / "large", 1.0, [toy_package], 1)
    small = write_demo_corpus(tmp_path / "small", 0.05, [toy_package], 1)
    for less, more in ((small.train, large.train), (small.validation, large.validation)):
        lines = less.read_text().splitlines()
        assert lines == more.read_text().splitlines()[: len(lines)]
    assert len(list(small.documents())) < len(list(large.documents()))


def test_mistakes_are_told_and_nothing_is_written(tmp_path: Path, toy_package: str) -> None:
    with pytest.raises(LaunchError, match="'acn_no_such_package' is not installed"):
        write_demo_corpus(tmp_path / "out", 1.0, ["acn_no_such_package"])
    with pytest.raises(LaunchError, match=r"size_mb: 0\.0001 leaves"):
        write_demo_corpus(tmp_path / "out", 0.0001, [toy_package], 1)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "validation.jsonl").write_text("mine")
    with pytest.raises(LaunchError, match=r"validation\.jsonl exists already"):
        write_demo_corpus(tmp_path / "out", 1.0, [toy_package], 1)
    assert (tmp_path / "out" / "validation.jsonl").read_text() == "mine"


def test_cleaning_keeps_prose_and_drops_examples_tables_and_markup() -> None:
    raw = """Add two arrays, see :func:`~numpy.add` and
        :class:`the array <numpy.ndarray>`.

        Parameters
        ----------
        x1 : array_like
            The ``first`` array   to be added.

        Then it is shown how the function works:
        >>> add(1, 2)
        3

        +---+---+
        | 1 | 2 |
        +---+---+
        """
    assert clean_docstring(raw).splitlines() == [
        "Add two arrays, see numpy.add and the array.",
        "Parameters x1 : array_like The first array to be added.",
        "Then it is shown how the function works:",
    ]


@given(st.text())
def test_cleaned_text_is_writable_paragraphs_without_stray_whitespace(raw: str) -> None:
    cleaned = clean_docstring(raw)
    cleaned.encode()
    for paragraph in cleaned.split("\n") if cleaned else []:
        assert paragraph.strip()
        assert "  " not in paragraph.replace("`", "")


def test_tasks_have_the_columns_sizes_and_balance_of_glue(tmp_path: Path, corpus: DemoCorpus) -> None:
    classes = ("torch", "numpy", "scipy")
    folders = write_demo_tasks(tmp_path / "glue", corpus, 100, 20, classes)
    assert sorted(folders) == ["docorder", "docsource"]
    for split, size in (("train", 100), ("validation", 20)):
        source = pq.read_table(folders["docsource"] / f"{split}.parquet")
        assert source.column_names == ["sentence", "label", "idx"]
        assert source["idx"].to_pylist() == list(range(size))
        counts = Counter(source["label"].to_pylist())
        assert sorted(counts) == [0, 1, 2]
        assert max(counts.values()) - min(counts.values()) <= 1
        pair = pq.read_table(folders["docorder"] / f"{split}.parquet")
        assert pair.column_names == ["sentence1", "sentence2", "label", "idx"]
        assert Counter(pair["label"].to_pylist()) == {0: size // 2, 1: size // 2}


def test_labels_are_true(tmp_path: Path, corpus: DemoCorpus) -> None:
    home = defaultdict(set)  # sentences are random letters: each word stands in one document only
    for index, (package, text) in enumerate(corpus.documents()):
        for word in text.split():
            home[word].add((package, index))

    used: set[tuple[str, int]] = set()

    def document_of(passage: str) -> tuple[str, int]:
        votes = Counter(next(iter(home[word])) for word in passage.split() if len(home[word]) == 1)
        return votes.most_common(1)[0][0]

    classes = ("torch", "numpy", "scipy")
    folders = write_demo_tasks(tmp_path / "glue", corpus, 100, 20, classes)
    for row in pq.read_table(folders["docsource"] / "train.parquet").to_pylist():
        assert document_of(row["sentence"])[0] == classes[row["label"]]
        assert not re.search("numpy|torch", row["sentence"], re.IGNORECASE)
    texts = [clean_docstring(text) for _, text in corpus.documents()]
    for row in pq.read_table(folders["docorder"] / "train.parquet").to_pylist():
        pair = [row["sentence1"], row["sentence2"]]
        document, other = map(document_of, pair)
        assert document == other
        assert document not in used, "one pair from each document"
        used.add(document)
        places = [texts[document[1]].index(passage) for passage in pair]
        assert (places[0] < places[1]) is (row["label"] == 1)


def test_no_passage_of_the_training_documents_is_validated_on(tmp_path: Path, corpus: DemoCorpus) -> None:
    folders = write_demo_tasks(tmp_path / "glue", corpus, 100, 20, ("numpy", "torch"))
    words: dict[str, set[str]] = {}
    for split in ("train", "validation"):
        tables = [pq.read_table(folder / f"{split}.parquet") for folder in folders.values()]
        texts = [text for t in tables for name in t.column_names if "sentence" in name for text in t[name]]
        assert not any("every page of the manual" in text.as_py() for text in texts)
        words[split] = {word for text in texts for word in text.as_py().split() if len(word) > 6}
    assert len(words["validation"]) > 100
    assert not words["train"] & words["validation"]


def test_the_same_corpus_and_seed_give_the_same_bytes(tmp_path: Path, corpus: DemoCorpus) -> None:
    hashes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        folders = write_demo_tasks(tmp_path / name, corpus, 100, 20, ("numpy", "torch"), seed)
        hashes.append(sha256(sorted(path for folder in folders.values() for path in folder.iterdir())))
    assert hashes[0] == hashes[1]
    assert not set(hashes[0]) & set(hashes[2])


def test_datasets_reads_the_class_names(tmp_path: Path, corpus: DemoCorpus) -> None:
    from datasets import load_dataset

    folder = write_demo_tasks(tmp_path / "glue", corpus, 60, 20, ("numpy", "torch"))["docsource"]
    files = {split: str(folder / f"{split}.parquet") for split in ("train", "validation")}
    loaded = load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].features["label"].names == ["numpy", "torch"]
    assert loaded["validation"].num_rows == 20


def test_too_small_a_corpus_for_the_tasks_is_told_and_nothing_is_written(tmp_path: Path, corpus: DemoCorpus) -> None:
    with pytest.raises(LaunchError, match=r"docsource passages from (numpy|pandas).* raise size_mb"):
        write_demo_tasks(tmp_path / "glue", corpus, 4000, 600, CLASSES)
    assert not (tmp_path / "glue").exists()
