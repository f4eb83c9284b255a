"""Files of rows: what is sound is read as it is written, what is malformed is refused with file and line."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import EvalError
from eval.tasks.reading import read_split
from eval.tasks.rows import Rows, read_rows

COLUMNS = ("sentence", "label")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """A file of that name and content."""

    def save(name: str, content: str | bytes) -> Path:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name

    return save


def rows_of(read: Rows) -> list[tuple[Any, ...]]:
    return list(zip(*(read.values[name] for name in COLUMNS), strict=True))


SOUND_CSV = [
    ('sentence,label\n"a, b",0\n', [("a, b", "0")]),
    ('sentence,label\n"one\ntwo, three\r\nfour",0\r\n\r\nfive,1', [("one\ntwo, three\r\nfour", "0"), ("five", "1")]),
    ('sentence,label\n"he said ""no""",0\n', [('he said "no"', "0")]),
    ('sentence,label\n5" disk,1\n', [('5" disk', "1")]),
    ("\ufeffsentence,label\nNA,NA\nnull,\n12,True\n", [("NA", "NA"), ("null", ""), ("12", "True")]),
    ('label,other,sentence\n0,"",2024-01-01\n', [("2024-01-01", "0")]),
    ("sentence,label\na\u2028b\x0b\x85c,1\n", [("a\u2028b\x0b\x85c", "1")]),
    (f"sentence,label\n{'long ' * 300_000},1\n", [("long " * 300_000, "1")]),
]


@pytest.mark.parametrize(("content", "rows"), SOUND_CSV, ids=range(len(SOUND_CSV)))
def test_sound_csv_is_read_as_text(write: Callable, content: str, rows: list) -> None:
    assert rows_of(read_rows(write("train.csv", content), COLUMNS)) == rows


BAD = [
    ("csv", "sentence,label\na,0\na,b,1\n", r"train\.csv, line 3 has 3 fields, the header has 2: put texts"),
    ("csv", "sentence,label\na,0\n\nb\n", r"line 4 has 1 field, the header has 2: complete"),
    ("csv", 'sentence,label\na,0\n"b\nc,1\nd,0\n', r"line 3 has a quote that is never closed"),
    ("csv", 'sentence,label\n"a" b,0\n', r"line 2 has text after a closing quote"),
    ("csv", 'sentence,label\n"He said \\"no\\"",0\n', r"line 2 has text after a closing quote"),
    ("csv", "sentence,label\na,0\nb\0,1\n", r"line 3 has a NUL byte: is it UTF-16"),
    ("csv", "sentence,label\na,0\n".encode("utf-16-le"), r"line 1 has a NUL byte"),
    ("csv", "sentence,label\na,0\n".encode("utf-16"), r"line 1 is not UTF-8"),
    ("csv", "sentence,label\na,0\ncaf\xe9,1\n".encode("latin-1"), r"line 3 is not UTF-8"),
    ("csv", "", r"train\.csv is empty: give a header"),
    ("csv", "sentence,label,label\na,0,1\n", r"two columns label: rename"),
    ("csv", "sentence,label\r" + "a,0,1\r" * 9, r"line 2 has 3 .*\n.*line 3 .*\n.*line 4 .*\n.* has 6 more such rows"),
    ("tsv", "sentence\tlabel\na\tb\t0\n", r"train\.tsv, line 2 has 3 fields"),
    ("tsv", 'sentence\tlabel\n"a\tb"\t0\n"c\t1\n', r"line 3 has a quote that is never closed"),
    ("tsv", 'sentence\tlabel\n"all of it"\t0\nplain\t1\n', r"quotation marks that may enclose fields or be part"),
    ("tsv", 'sentence\tlabel\n"a\t0\nb"\t1\nc\t0\n', r"quotation marks that may enclose fields or be part"),
    ("tsv", 'sentence\tlabel\n"say ""a"""\t0\nsay "b"\t1\n', r"quotation marks that may enclose fields or be part"),
    ("tsv", 'sentence\tlabel\n"say ""a"""\t0\n"say ""b""\t1\n', r"quotation marks that may enclose fields or be part"),
    ("jsonl", '{"sentence": "a"}\n{"sentence": "b"\n', r"train\.jsonl, line 2 is not JSON"),
    ("jsonl", '{"sentence": "a"}\n["b"]\n', r"line 2 is no JSON object"),
    ("jsonl", '{"sentence": "a"} {"sentence": "b"}\n', r"line 1 is not JSON"),
    ("jsonl", '{"label": 0, "sentence": "a", "label": 1}\n', r"line 1 is not JSON \(a key is there twice\)"),
    ("jsonl", '{"sentence": ' + "[" * 100_000 + "]" * 100_000 + "}", r"line 1 is not JSON \(too deeply nested\)"),
    ("jsonl", b'{"sentence": "a\0"}', r"line 1 has a NUL byte"),
    ("jsonl", b'{"sentence": "a"}\n{"sentence": "\xff"}', r"line 2 is not UTF-8"),
    ("parquet", b"PAR1 but not really PAR1", r"train\.parquet cannot be read as Parquet"),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "content", "message"), BAD, ids=[f"{n}-{case[0]}" for n, case in enumerate(BAD)])
def test_malformed_files_are_refused_with_file_and_line(
    write: Callable, suffix: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(EvalError, match=message):
        read_rows(write(f"train.{suffix}", content), COLUMNS)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("sentence\tlabel\nplain\t0\n", ["plain"]),
        ('sentence\tlabel\nit is 5" long\t0\n', ['it is 5" long']),
        ('sentence\tlabel\n"Great film" he said\t0\n"good"\t1\n', ['"Great film" he said', '"good"']),
        ('sentence\tlabel\n"he said ""yes"" again"\t0\nplain\t1\n', ['he said "yes" again', "plain"]),
        ('sentence\tlabel\n"two\nlines"\t0\n"a\ttab"\t1\n', ["two\nlines", "a\ttab"]),
        ('"sentence"\t"label"\n"all"\t"0"\n', ["all"]),
    ],
)
def test_a_tsv_file_tells_by_its_marks_whether_it_is_quoted(write: Callable, content: str, texts: list[str]) -> None:
    assert read_rows(write("train.tsv", content), COLUMNS).values["sentence"] == texts


def test_the_tsv_files_of_glue_keep_every_mark(write: Callable) -> None:
    path = write("train.tsv", 'sentence\tlabel\n"he said ""yes"""\t0\n"open\t1\n"all"\t0\n')
    texts = read_rows(path, COLUMNS, quoted_tsv=False).values["sentence"]
    assert texts == ['"he said ""yes"""', '"open', '"all"']


def test_json_lines_keep_texts_that_look_like_something_else_and_values_that_are(write: Callable) -> None:
    lines = [
        {"sentence": "2024-01-01", "label": 0},
        {"sentence": "12", "label": "x", "more": {"a": [1, {}]}},
        {"label": 1.0, "sentence": "null"},
        {"sentence": "a" * 2_000_000, "label": True},
        {"sentence": "line\u2028end \U0001f600", "label": None},
        {"label": 10**30},
    ]
    content = "\ufeff" + "\r\n".join(json.dumps(line, ensure_ascii=n % 2 == 0) for n, line in enumerate(lines))
    rows = read_rows(write("train.jsonl", f"{content}\n\n  \n"), COLUMNS)
    assert rows_of(rows) == [(line.get("sentence"), line["label"]) for line in lines]
    assert rows.columns == ["sentence", "label", "more"]


def test_half_of_a_surrogate_pair_is_replaced_and_counted(write: Callable) -> None:
    lines = ['{"sentence": "cut \\ud83d"}', '{"sentence": "\\ud83d\\ude00"}', '{"sentence": "\\ude00\\ud83d"}']
    rows = read_rows(write("train.jsonl", "\n".join(lines)), COLUMNS)
    assert rows.values["sentence"] == ["cut \ufffd", "\U0001f600", "\ufffd\ufffd"]
    assert rows.replaced == 2


TEXT_TYPES = [
    pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()),
    pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int8(), pa.binary()),
]  # fmt: skip


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_every_parquet_type_of_text_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    texts = ["a", "", None, "caf\xe9", "a"]
    value_type = kind.value_type if pa.types.is_dictionary(kind) else kind
    column = pa.array(texts, pa.string()).cast(value_type)
    column = column.dictionary_encode() if value_type is not kind else column
    path = tmp_path / "folder [with] (brackets)*" / "train.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"sentence": column, "label": pa.array(range(5))}), path)
    (rows,) = read_split(path.parent, "train", COLUMNS)
    read = [value.decode() if isinstance(value, bytes) else value for value in rows.values["sentence"]]
    assert read == texts


def test_a_split_in_two_forms_or_without_all_its_parts_is_refused(tmp_path: Path, write: Callable) -> None:
    write("train.csv", "sentence,label\na,0\n")
    write("train.jsonl", '{"sentence": "a", "label": 0}\n')
    with pytest.raises(EvalError, match=r"has the split train twice \(train\.csv, train\.jsonl\): keep one"):
        read_split(tmp_path, "train", COLUMNS)
    for number in (0, 2):
        pq.write_table(pa.table({"sentence": ["a"]}), tmp_path / f"test-0000{number}-of-00003.parquet")
    with pytest.raises(EvalError, match="lacks parts of test"):
        read_split(tmp_path, "test", COLUMNS)


# --- an independent reading says the same, or this one refuses ---

CELL = st.text(st.sampled_from("ab1,\t\"'\n\r \\\xe9\u2028"), max_size=6)
TABLE = st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5)
QUOTING = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])


def _read_or_refuse(path: Path) -> list[tuple[Any, ...]] | None:
    try:
        rows = read_rows(path, COLUMNS)
        return rows_of(rows) if set(COLUMNS) <= set(rows.columns) else None
    except EvalError:
        return None


@given(table=TABLE, quoting=QUOTING, ends=st.sampled_from(["\n", "\r\n"]))
def test_what_a_csv_writer_wrote_is_read_as_pandas_reads_it(
    tmp_path_factory: pytest.TempPathFactory, table: list, quoting: Any, ends: str
) -> None:
    if ends == "\n":  # csv does not quote a "\r" for them
        table = [tuple(cell.replace("\r", "") for cell in row) for row in table]
    path = tmp_path_factory.getbasetemp() / "written.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=quoting, lineterminator=ends).writerows([COLUMNS, *table])
    assert _read_or_refuse(path) == table
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False)
    assert list(frame.itertuples(index=False, name=None)) == table


@given(table=TABLE, quoting=QUOTING)
def test_what_pandas_wrote_as_tsv_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, table: list, quoting: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.tsv"
    table = [tuple(cell.replace("\r", "") for cell in row) for row in table]  # pandas does not quote it
    pd.DataFrame(table, columns=COLUMNS).to_csv(path, sep="\t", index=False, quoting=quoting)
    assert _read_or_refuse(path) in (table, None)


@given(table=st.lists(st.tuples(*[st.text(st.sampled_from("ab1,\"' \\\xe9\u2028"), min_size=1, max_size=6)] * 2)))
def test_tsv_without_quoting_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, table: list) -> None:
    path = tmp_path_factory.getbasetemp() / "bare.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in [COLUMNS, *table]), encoding="utf-8", newline="")
    doubled = any(len(c) > 3 and c[0] == c[-1] == '"' and '""' in c[1:-1] for row in table for c in row)
    if not doubled:  # nobody can tell such a text from a quoted one
        assert _read_or_refuse(path) in (table, None)
    assert rows_of(read_rows(path, COLUMNS, quoted_tsv=False)) == table


SCRAP = st.lists(
    st.sampled_from(['"', '""', ",", "\t", "\n", "\r", "\0", "a", " ", "\\", "sentence,label\n"]), max_size=14
)


@given(scraps=SCRAP, suffix=st.sampled_from(["csv", "tsv"]))
def test_any_text_is_read_as_the_strict_csv_module_reads_it_or_refused(
    tmp_path_factory: pytest.TempPathFactory, scraps: list[str], suffix: str
) -> None:
    delimiter = "," if suffix == "csv" else "\t"
    text = f"sentence{delimiter}label\n" + "".join(scraps)
    path = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    path.write_bytes(text.encode())
    allowed = []
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE)[: 1 + (suffix == "tsv")]:
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
            rows = [tuple(row) for row in reader if row][1:]
        except csv.Error:
            continue
        if all(len(row) == 2 for row in rows) and "\0" not in text:
            allowed.append(rows)
    read = _read_or_refuse(path)
    assert read in allowed if suffix == "csv" and allowed else read is None or read in allowed


def _replaced(value: Any) -> Any:
    """U+FFFD for lone surrogates, as decoding puts it."""
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value) if isinstance(value, str) else value


VALUE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4))
OBJECT = st.dictionaries(st.sampled_from(["sentence", "label", "more"]), VALUE)


@given(lines=st.lists(OBJECT, min_size=1, max_size=5), ascii_only=st.booleans(), damage=st.integers(0, 400))
def test_json_lines_are_read_as_json_reads_them_or_refused(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict], ascii_only: bool, damage: int
) -> None:
    content = "\n".join(json.dumps(line, ensure_ascii=ascii_only) for line in lines).encode("utf-8", "surrogatepass")
    if damage < len(content):
        content = content[:damage] + content[damage + 1 :]
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    try:
        rows = read_rows(path, COLUMNS)
    except EvalError:
        assert damage < len(content) + 1
        return
    wanted = [json.loads(line) for line in content.decode().split("\n") if line.strip(" \t\r")]
    for name, values in rows.values.items():
        assert values == [_replaced(line.get(name)) for line in wanted]
    assert set(rows.columns) == {name for line in wanted for name in line}


KIND = st.sampled_from(
    [
        pa.int8(),
        pa.uint64(),
        pa.float16(),
        pa.float32(),
        pa.float64(),
        pa.bool_(),
        pa.decimal128(21, 2),
        *TEXT_TYPES[:3],
    ]
)


@given(kind=KIND, numbers=st.lists(st.none() | st.integers(0, 100), min_size=1, max_size=6), compressed=st.booleans())
def test_parquet_columns_are_read_as_pandas_reads_them(
    tmp_path_factory: pytest.TempPathFactory, kind: pa.DataType, numbers: list, compressed: bool
) -> None:
    column = pa.array(numbers, pa.int64())
    column = column.cast(pa.float32()).cast(kind) if kind == pa.float16() else column.cast(kind)
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    pq.write_table(pa.table({"label": column}), path, compression="zstd" if compressed else "none")
    read = read_rows(path, ("label",)).values["label"]
    wanted = pq.read_table(path).column("label").to_pandas(types_mapper=pd.ArrowDtype)
    assert read == [None if pd.isna(value) else value for value in wanted]
    assert [None if value is None else float(value) for value in read] == [
        number if number is None or kind != pa.bool_() else bool(number) for number in numbers
    ]
