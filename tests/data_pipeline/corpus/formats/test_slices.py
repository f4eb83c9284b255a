import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.corpus.formats import Slice, cut_file, read_slice

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\ufeff"), min_size=1).filter(str.strip)


def _read(parts: list[Slice]) -> list[str]:
    return [value for part in parts for values, _ in read_slice(part, "text") for value in values]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("slices")


@given(documents=st.lists(TEXT, min_size=1), target=st.integers(1, 200), blank_lines=st.booleans())
def test_lines_cut_anywhere_arrive_once_and_in_order(folder, documents, target, blank_lines):
    file = folder / "a.jsonl"
    ends = "\n\n" if blank_lines else "\n"
    file.write_text(ends.join(json.dumps({"text": text}, ensure_ascii=False) for text in documents))
    parts = cut_file(str(file), file.stat().st_size, target)
    assert len(parts) == -(-file.stat().st_size // target)
    assert _read(parts) == documents


@given(
    paragraphs=st.lists(st.lists(TEXT.filter(lambda text: text.encode().strip()), min_size=1, max_size=3), min_size=1),
    target=st.integers(1, 200),
    between=st.sampled_from(["\n\n", "\n\n\n", "\n \n\t\n", "\r\n\r\n"]),
)
def test_paragraphs_cut_anywhere_arrive_once_and_in_order(folder, paragraphs, target, between):
    file = folder / "a.txt"
    documents = ["\n".join(lines) for lines in paragraphs]
    file.write_bytes(between.join(documents).encode())
    assert _read(cut_file(str(file), file.stat().st_size, target)) == documents


@pytest.mark.parametrize("target", [1, 3000, 10**9])
def test_parquet_is_cut_at_row_groups(tmp_path, target):
    documents = [f"document {number} " * 20 for number in range(700)]
    pq.write_table(pa.table({"text": documents}), tmp_path / "a.parquet", row_group_size=100, use_dictionary=False)
    size = (tmp_path / "a.parquet").stat().st_size
    parts = cut_file(str(tmp_path / "a.parquet"), size, target)
    assert len(parts) == {1: 7, 10**9: 1}.get(target, len(parts))
    assert _read(parts) == documents
