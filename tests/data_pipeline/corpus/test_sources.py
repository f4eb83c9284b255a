import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline import CorpusConfig, DataError, Source, iter_documents
from data_pipeline.corpus.units import plan_units

DOCUMENTS = ["First document.", "Second,\nwith two lines.", "Third."]


def _write(path: Path, content: str) -> Path:
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def write_documents(path: Path, documents: list[str] = DOCUMENTS) -> Path:
    kind = path.name.removesuffix(".gz").rsplit(".")[-1]
    if kind == "parquet":
        pq.write_table(pa.table({"text": documents, "id": range(len(documents))}), path)
        return path
    if kind == "csv":
        return _write(path, "id,text\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(documents)))
    if kind == "txt":
        return _write(path, "\n\n".join(documents))
    return _write(path, "".join(json.dumps({"text": text}) + "\n" for text in documents))


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.jsonl", "a.json", "a.json.gz", "a.jsonl.gz", "a.csv", "a.txt", "a.txt.gz"]
)
def test_documents_of_every_format_arrive_whole_and_in_order(tmp_path, name):
    assert list(iter_documents(Source(str(write_documents(tmp_path / name))))) == DOCUMENTS


def test_globs_are_read_in_sorted_order_and_relative_paths_work(tmp_path, monkeypatch):
    for name in ("b.jsonl", "a.jsonl"):
        write_documents(tmp_path / name, [name])
    monkeypatch.chdir(tmp_path)
    assert list(iter_documents(Source("*.jsonl"))) == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize("name", ["[en]", "a[0-9]b", "[", "a]b[", "[[]", "*?[!x]"])
@pytest.mark.parametrize("pattern", ["a.jsonl", "*.jsonl", "[ab].jsonl", "**/?.jsonl"])
def test_folders_with_brackets_in_their_names_are_meant_as_they_are_written(tmp_path, monkeypatch, name, pattern):
    folder = tmp_path / "text" / name
    folder.mkdir(parents=True)
    file = write_documents(folder / "a.jsonl")
    write_documents(tmp_path / "a.jsonl", ["another"])
    monkeypatch.chdir(tmp_path)
    for path in (f"{tmp_path}/text/{name}/{pattern}", f"text/{name}/{pattern}", f"text/*/{pattern}"):
        source = Source(path)
        assert source.problems() == []
        assert list(iter_documents(source)) == DOCUMENTS
    assert Source(f"file://{folder}/{pattern}").files() == [f"file://{file}"]


def test_a_file_with_brackets_in_its_name_is_meant_as_it_is_written(tmp_path):
    file = write_documents(tmp_path / "a[1].jsonl")
    assert Source(str(file)).files() == [str(file)]
    assert Source(f"{tmp_path}/a[[]1].jsonl").files() == [str(file)]


def test_brackets_that_could_mean_two_things_are_refused(tmp_path):
    for folder in ("text[12]", "text1", "text3"):
        (tmp_path / folder).mkdir()
        write_documents(tmp_path / folder / "a.jsonl")
    path = f"{tmp_path}/text[12]/*.jsonl"
    for given in (path, f"file://{path}"):
        (problem,) = Source(given).problems()
        assert "is ambiguous" in str(problem)
        assert f"{tmp_path}/text1/a.jsonl" in str(problem)
    (tmp_path / "text1" / "a.jsonl").unlink()
    assert Source(path).files() == [f"{tmp_path}/text[12]/a.jsonl"]
    assert Source(f"{tmp_path}/text[3]/*.jsonl").files() == [f"{tmp_path}/text3/a.jsonl"]


def test_what_can_be_read_once_only_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.jsonl")
    assert "is neither a regular file nor a folder" in str(Source(f"{tmp_path}/a.jsonl").problems()[0])
    (tmp_path / "b.jsonl").symlink_to("nowhere")
    assert "matches no file" in str(Source(f"{tmp_path}/b.jsonl").problems()[0])


def test_blank_and_missing_texts_are_no_documents(tmp_path):
    pq.write_table(pa.table({"text": ["a", None, "", " \n", "b"]}), tmp_path / "a.parquet")
    assert list(iter_documents(Source(str(tmp_path / "a.parquet")))) == ["a", "b"]


def test_another_text_column_can_be_named(tmp_path):
    pq.write_table(pa.table({"body": ["a"], "text": [1]}), tmp_path / "a.parquet")
    corpus = CorpusConfig(train=str(tmp_path / "a.parquet"), text_column="body", validation_fraction=1e-9)
    assert list(corpus.documents()) == [("train", "a")]
    corpus = CorpusConfig(train=Source(str(tmp_path / "a.parquet"), text_column="body"), validation_fraction=1e-9)
    assert list(corpus.documents()) == [("train", "a")]


def test_a_missing_text_column_is_named_with_the_columns_there_are(tmp_path):
    file = write_documents(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column 'body', only 'text', 'id'"):
        list(iter_documents(Source(str(file), text_column="body")))
    with pytest.raises(DataError, match="column 'id' holds int64, not text"):
        list(iter_documents(Source(str(file), text_column="id")))


@pytest.mark.parametrize(("name", "content"), [("a.parquet", "nothing"), ("a.jsonl", '{"text": "a"}\n{"te')])
def test_damaged_files_are_named(tmp_path, name, content):
    file = _write(tmp_path / name, content)
    with pytest.raises(DataError, match=f"{name}' cannot be read"):
        list(iter_documents(Source(str(file))))


def test_an_empty_source_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no documents"):
        list(iter_documents(Source(str(_write(tmp_path / "a.txt", "\n\n")))))


def test_local_and_hub_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not Source("wikimedia/wikipedia", name="20231101.en").is_local
    assert not Source("owner/data.set").is_local
    for path in ("data/*", "./data", "/data", "train.parquet", "notes.txt.gz"):
        assert Source(path).is_local
    (tmp_path / "owner").mkdir()
    write_documents(tmp_path / "owner" / "name")
    assert Source("owner/name").is_local


def test_hub_datasets_that_cannot_be_reached_are_an_error_with_the_mend(monkeypatch):
    def unreachable(*args: object, **options: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(DataError, match=r"'owner/name' cannot be read \(no route\).*network"):
        list(iter_documents(Source("owner/name")))


def test_hub_datasets_are_streamed_with_configuration_split_and_revision(monkeypatch):
    import datasets

    def load_dataset(*args: object, **options: object) -> datasets.IterableDataset:
        assert args == ("owner/name", "en")
        assert options == {"split": "test", "revision": "abc", "streaming": True}
        return datasets.Dataset.from_dict({"text": ["a", "b"]}).to_iterable_dataset()

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert list(iter_documents(Source("owner/name", "en", "test", revision="abc"))) == ["a", "b"]


def test_rows_of_hub_datasets_are_checked_as_those_of_files_are(monkeypatch):
    import datasets

    values = ["a", "b\0", None, "c\ud83d", "d"]
    rows = datasets.IterableDataset.from_generator(lambda: ({"text": value} for value in values))
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **options: rows)
    source = Source("owner/name", revision="a" * 40)
    with pytest.raises(DataError, match=r"'owner/name' cannot be read \(row 2 of shard 0: a NUL byte\)"):
        list(iter_documents(source))
    tally: Counter[str] = Counter()
    (part,) = source.slices()
    texts = [text for batch, _ in source.read(part, "skip", tally) for text in batch]
    assert texts == ["a", None, "c\ufffd", "d"]
    assert tally == {"malformed_nul_byte": 1, "replaced_surrogates": 1}
    monkeypatch.setattr(
        "datasets.load_dataset", lambda *a, **o: datasets.Dataset.from_dict({"text": [1]}).to_iterable_dataset()
    )
    with pytest.raises(DataError, match="row 1 of shard 0: column 'text' holds int, not text"):
        list(iter_documents(source))


def test_all_problems_of_a_corpus_are_reported_together(tmp_path):
    write_documents(tmp_path / "a.txt")
    write_documents(tmp_path / "a.jsonl")
    _write(tmp_path / "a.xyz", "")
    corpus = CorpusConfig(
        train=[
            f"{tmp_path}/none-*.txt",
            str(tmp_path),
            f"{tmp_path}/a.[tj]*",
            f"{tmp_path}/a.xyz",
            Source(f"{tmp_path}/a.txt", name="en", split="test", revision="main"),
            "a b c",
        ],
        validation_fraction=2,
    )
    text = "\n".join(map(str, corpus.problems()))
    for part in (
        "none-*.txt' matches no file",
        "is a folder",
        "mixes formats",
        "no known format",
        "but name is set",
        "but split is set",
        "but revision is set",
        "neither a local file",
        "corpus.validation_fraction is 2",
    ):
        assert part in text
    assert "corpus.train is empty" in str(CorpusConfig(train=[]).problems()[0])


def test_held_out_documents_are_chosen_by_their_text_alone(tmp_path, texts):
    documents = [f"{number} {text}" for number, text in enumerate(texts(2000))]
    splits = []
    for name, order in (("a", documents), ("b", documents[::-1] + documents)):
        file = write_documents(tmp_path / f"{name}.jsonl", order)
        splits.append({text: split for split, text in CorpusConfig(str(file), validation_fraction=0.1).documents()})
    assert splits[0] == splits[1]
    held_out = list(splits[0].values()).count("validation")
    assert 150 < held_out < 250


def test_a_hub_revision_is_resolved_to_a_commit_once(monkeypatch):
    import huggingface_hub

    asked = []

    class Api:
        def dataset_info(self, path: str, revision: str | None) -> huggingface_hub.DatasetInfo:
            asked.append((path, revision))
            return huggingface_hub.DatasetInfo(id=path, sha="a" * 40)

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    pinned = CorpusConfig(Source("owner/name", revision="main"), validation=["other"]).pinned()
    assert [source.revision for source in pinned.sources("train") + pinned.sources("validation")] == ["a" * 40] * 2
    assert pinned.pinned() == pinned
    assert asked == [("owner/name", "main"), ("other", None)]


def test_a_hub_dataset_is_one_unit_per_shard(monkeypatch):
    import datasets

    rows = datasets.Dataset.from_dict({"text": [f"document {number}" for number in range(10)]})
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **options: rows.to_iterable_dataset(num_shards=3))
    source = Source("owner/name", revision="a" * 40)
    units = plan_units(CorpusConfig(source, validation_fraction=0.1), 0)
    assert len(units) == 3
    assert [text for unit in units for part in unit.slices for texts, _ in source.read(part) for text in texts] == (
        rows["text"][:]
    )
