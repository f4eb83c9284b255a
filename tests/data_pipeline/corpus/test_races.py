"""Two `acn prepare` at once in one output."""

import random
from pathlib import Path

import pytest

from data_pipeline import CorpusConfig, DataError, OutputLock, PrepareConfig, prepare_corpus, verify_corpus
from data_pipeline.corpus.store import Store
from tests.conftest import sentences
from tests.processes import start_acn


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "train.txt").write_text(sentences(60, seed=1))
    (folder / "validation.txt").write_text(sentences(20, seed=2))
    return folder


def options(text: Path, output: Path, *more: str) -> list[str]:
    return [
        "prepare", "--corpus.train", f"{text}/train.txt", "--corpus.validation", f"{text}/validation.txt",
        "--vocab_size", "120", "--seq_length", "16", "--output", str(output), *more,
    ]  # fmt: skip


def config(text: Path, output: Path | str) -> PrepareConfig:
    corpus = CorpusConfig(train=f"{text}/train.txt", validation=f"{text}/validation.txt")
    return PrepareConfig(corpus=corpus, output=str(output), vocab_size=120, seq_length=16)


def race(text: Path, output: Path, other: list[str]) -> None:
    """Start two at once in any order: each does it all or nothing, and what is there afterwards is whole."""
    pair = [options(text, output), other]
    random.shuffle(pair)
    ends = [(process.communicate(), process.wait()) for process in [start_acn(*arguments) for arguments in pair]]
    assert sorted(code for _, code in ends) in ([0, 0], [0, 2]), ends
    for (_, stderr), code in ends:
        assert "Traceback" not in stderr
        assert code == 0 or "is in use by" in stderr or "with other settings" in stderr, stderr
    assert verify_corpus(str(output), 1) == []
    assert not list(output.glob(".*")), "neither a lock nor work is left"


@pytest.mark.parametrize("pairs", [2, pytest.param(50, marks=pytest.mark.slow)])  # 100 processes: half a minute
def test_of_two_that_prepare_the_same_one_or_both_succeed(text, tmp_path, pairs):
    for number in range(pairs):
        output = tmp_path / str(number)
        race(text, output, options(text, output))


@pytest.mark.parametrize("pairs", [2, pytest.param(25, marks=pytest.mark.slow)])  # 50 processes: 15 s
def test_one_with_other_settings_takes_nothing_from_the_first(text, tmp_path, pairs):
    for number in range(pairs):
        output = tmp_path / str(number)
        race(text, output, options(text, output, "--packing", "documents"))


def test_the_second_one_says_who_works_there_and_touches_nothing(text, tmp_path):
    output = tmp_path / "tokens"
    with OutputLock(output):
        before = sorted(path.name for path in output.iterdir())
        with pytest.raises(DataError, match=r"output=.*tokens is in use by pid \d+ on"):
            prepare_corpus(config(text, output))
        assert sorted(path.name for path in output.iterdir()) == before
    assert not output.exists()


def test_what_somebody_puts_there_meanwhile_survives_a_mistake(text, tmp_path, monkeypatch):
    output = tmp_path / "tokens"

    def fail(*_: object) -> None:
        (output / "notes.txt").write_text("mine")
        raise DataError("a mistake that shows late")

    monkeypatch.setattr("data_pipeline.corpus.prepare.merge_units", fail)
    with pytest.raises(DataError, match="shows late"):
        prepare_corpus(config(text, output))
    assert [path.name for path in output.iterdir()] == ["notes.txt"]


def test_where_nothing_locks_a_mistake_removes_nothing_while_another_works(text, monkeypatch):
    url = "memory://races/tokens"
    others = Store(url)

    def fail(*_: object) -> None:
        others.write(".work/jobs/job-of-another", b"")
        raise DataError("a mistake that shows late")

    monkeypatch.setattr("data_pipeline.corpus.prepare.merge_units", fail)
    with pytest.raises(DataError, match="shows late"):
        prepare_corpus(config(text, url))
    assert {"tokenizer", ".work"} <= others.names()
