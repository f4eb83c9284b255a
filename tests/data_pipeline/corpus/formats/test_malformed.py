"""Rows that are not the text they should be: an error with file and line, or left out and counted by cause."""

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline import DataError
from data_pipeline.corpus.formats import Slice, cut_file, read_slice

GOOD = {
    ".csv": "id,text\n1,one\n",
    ".jsonl": '{"text": "one"}\n',
    ".json": '[{"text": "one"},\n',
    ".txt": "one\n\n",
}
UTF16_LINES = 'id,text\n1,one\n2,"two"\n'

CASES: list[Any] = [  # file, content, line of the first fault, what is said of it, texts without such rows, counts
    ("long.csv", "id,text\n1,one\n2,two, three\n3,four\n", 3, "3 fields where the header has 2", ["one", "four"],
     {"too_many_fields": 1}),
    ("short.csv", "id,text\n1,one\n5\n3,four\n", 3, "1 field where the header has 2", ["one", "four"],
     {"too_few_fields": 1}),
    ("blanks.csv", "\n\nid,text\n\n1,one\n \n3,four\n\n", 6, "1 field where", ["one", "four"], {"too_few_fields": 1}),
    ("lines.csv", 'id,text\r\n1,"on\r\n\r\ne"\r\n2\r\n', 5, "1 field where", ["on\r\n\r\ne"], {"too_few_fields": 1}),
    ("mac.csv", "id,text\r1,one\r2\r3,four\r", 3, "1 field where", ["one", "four"], {"too_few_fields": 1}),
    ("one.csv", "text\none\ntwo, three\n", 3, "2 fields where the header has 1", ["one"], {"too_many_fields": 1}),
    ("open.csv", 'id,text\n1,one\n2,"two\n3,three\n', 3, "quotes that|quotes do not fit", ["one"], {"wrong_quotes": 1}),
    ("open-more.csv", 'id,text\n1,one\n2,"two\n3,"three"\n4,"four"\n5,five\n', 3, "quotes do not fit", ["one"],
     {"wrong_quotes": 1, "lines_behind_wrong_quotes": 2}),
    ("closed.csv", 'id,text\n1,one\n2,"two" and\n3,three\n', 3, "quotes do not fit", ["one"],
     {"wrong_quotes": 1, "lines_behind_wrong_quotes": 1}),
    ("nul.csv", "id,text\n1,one\n2,t\0wo\n3,four\n", 3, "a NUL byte", ["one", "four"], {"nul_byte": 1}),
    ("nul-elsewhere.csv", "id,text\n1,one\n\x002,two\n3,four\n", 3, "a NUL byte", ["one", "four"], {"nul_byte": 1}),
    ("latin.csv", b"id,text\n1,one\n2,\"a\n\xe9\"\n3,four\n", 4, "no UTF-8", ["one", "four"], {"not_utf8": 1}),
    ("broken.jsonl", '{"text": "one"}\n{"te\n{"text": "two"}\n', 2, "no JSON", ["one", "two"], {"not_json": 1}),
    ("two.jsonl", '{"text": "one"}\n{"text": "a"} {"text": "b"}\n', 2, "no JSON: Extra data at column 15", ["one"],
     {"not_json": 1}),
    ("control.jsonl", '{"text": "one"}\n\n{"text": "a\tb"}\n', 3, "Invalid control character", ["one"],
     {"not_json": 1}),
    ("mac.jsonl", '{"text": "one"}\r{"text": "a"}\r', 1, "no JSON", [], {"not_json": 1}),
    ("object.jsonl", '{"text": "one"}\n["two"]\n7\n', 2, "no JSON object", ["one"], {"no_object": 2}),
    ("digits.jsonl", '{"text": "one"}\n{"n": ' + "9" * 5000 + "}\n", 2, "no JSON", ["one"], {"not_json": 1}),
    ("deep.jsonl", '{"text": "one"}\n' + "[" * 10**5 + "\n", 2, "no JSON", ["one"], {"not_json": 1}),
    ("twice.jsonl", '{"text": "one"}\n{"text": "a", "text": "b"}\n', 2, "more than one 'text'", ["one"],
     {"not_json": 1}),
    ("twice.json", '[{"text": "one"},\n{"text": "a", "text": "b"}]', 2, "more than one 'text'", ["one"],
     {"not_json": 1}),
    ("latin.jsonl", b'{"text": "one"}\n{"text": "\xe9"}\n', 2, "no UTF-8", ["one"], {"not_utf8": 1}),
    ("cesu.jsonl", b'{"text": "one"}\n{"text": "\xed\xa0\xbd"}\n', 2, "no UTF-8", ["one"], {"not_utf8": 1}),
    ("nul.jsonl", '{"text": "one"}\n{"text": "t\0wo"}\n', 2, "a NUL byte", ["one"], {"nul_byte": 1}),
    ("escaped.jsonl", '{"text": "one"}\n{"text": "t\\u0000wo"}\n', 2, "a NUL byte", ["one"], {"nul_byte": 1}),
    ("number.jsonl", '{"text": "one"}\n{"text": 7}\n{"text": ["a"]}\n', 2, "column 'text' holds int, not text",
     ["one"], {"not_text": 2}),
    ("item.json", '[{"text": "one"},\n\n"two", {"text": "three"}]', 3, "no JSON object", ["one", "three"],
     {"no_object": 1}),
    ("value.json", '[{"text": "one"},\n{"text": true}, {"text": "three"}]', 2, "holds bool, not text",
     ["one", "three"], {"not_text": 1}),
    ("latin.json", b'[{"text": "one"},\n{"text": "\xe9"},{"text": "\\udce9"}]', 2, "no UTF-8", ["one", "\ufffd"],
     {"not_utf8": 1}),
    ("cut.json", '[{"text": "one"},\n{"text": "two"},\n{"tex', 3, "no JSON", ["one", "two"], {"not_json": 1}),
    ("comma.json", '[{"text": "one"},\n]\n', 2, "no JSON", ["one"], {"not_json": 1, "lines_behind_not_json": 1}),
    ("more.json", '[{"text": "one"}]\n[{"text": "two"}]', 2, "no JSON: Extra data", ["one"], {"not_json": 1}),
    ("pretty.json", '{\n "text": "one"\n}\n', 1, "no JSON", [], {"not_json": 3}),
    ("nul.txt", "one\n\ntw\no\0\n\nthree\n", 4, "a NUL byte", ["one", "three"], {"nul_byte": 1}),
    ("latin.txt", b"one\n\nt\n\xe9\n\nthree\n", 4, "no UTF-8", ["one", "three"], {"not_utf8": 1}),
    ("cut.txt", "one\n\ntwo é".encode()[:-1], 3, "no UTF-8: unexpected end of data", ["one"], {"not_utf8": 1}),
    *(
        (f"{encoding}{suffix}", (GOOD[suffix] * 2).encode(encoding), 1, "a NUL byte|no UTF-8", [], None)
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")
        for suffix in (".csv", ".jsonl", ".json", ".txt")
    ),
]  # fmt: skip


def _write(folder, name: str, content: str | bytes) -> str:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def _texts(parts: list[Slice], rule="stop") -> tuple[list[str | None], Counter[str]]:
    tally: Counter[str] = Counter()
    texts = [text for part in parts for batch, _ in read_slice(part, "text", rule, tally) for text in batch]
    return texts, tally


@pytest.mark.parametrize(
    ("name", "content", "line", "wrong", "texts", "counts"), CASES, ids=[case[0] for case in CASES]
)
def test_malformed_rows_stop_with_their_line_or_are_counted(tmp_path, name, content, line, wrong, texts, counts):
    file = _write(tmp_path, name, content)
    with pytest.raises(DataError, match=rf"{name}' cannot be read \(line {line}: .*({wrong})"):
        _texts([Slice(file)])
    if name.startswith("utf"):
        with pytest.raises(DataError, match="UTF-8"):
            _texts([Slice(file)])
    if counts is not None:
        found, tally = _texts([Slice(file)], "skip")
        assert found == texts
        assert tally - Counter(replaced_surrogates=1) == {
            f"malformed_{cause}": count for cause, count in counts.items()
        }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", 'id,"text\n1,one\n', r"line 1: a row begins whose quotes do not fit"),
        ("a.csv", "id\0,text\n1,one\n", r"line 1: a NUL byte"),
        ("a.csv", b"\xe9,text\n1,one\n", r"line 1: no UTF-8"),
        ("a.csv", "text,id,text\n1,2,3\n", "more than one column 'text' "),
        ("a.csv", "id;text\n1;one\n", "no column 'text', only 'id;text'"),
        ("a.jsonl", '{"body": "one"}\n', "no column 'text', only 'body'"),
        ("a.json", '[{"body": "one"}]', "no column 'text', only 'body'"),
    ],
)
def test_without_a_sound_header_nothing_can_be_skipped(tmp_path, name, content, message):
    for rule in ("stop", "skip"):
        with pytest.raises(DataError, match=message):
            _texts([Slice(_write(tmp_path, name, content))], rule)


SOUND = [
    ("bom.csv", "\ufeffid,text\n1,one\n", ["one"]),
    ("bom-quoted.csv", '\ufeff"id","text"\r\n1,"o, ""n"" e"\r\n', ['o, "n" e']),
    ("quotes-inside.csv", 'id,text\n1,say "one" now\n', ['say "one" now']),
    ("no-end.csv", "id,text\n1,one", ["one"]),
    ("single.csv", "text\none\n\ntwo\n", ["one", "two"]),
    ("empty.csv", 'id,text\n1,\n2,""\n', ["", ""]),
    ("bom.jsonl", '\ufeff{"text": "one"}\n', ["one"]),
    ("ends.jsonl", '\r\n{"text": "one"}\r\n\n \t\n{"text": "two\\r\\n"}\r\n', ["one", "two\r\n"]),
    ("separators.jsonl", '{"text": "a\u2028b\x85c\x1dd"}\n'.replace("\x1d", "\\u001d"), ["a\u2028b\x85c\x1dd"]),
    ("none.jsonl", '{"text": null}\n{"id": 1}\n', [None, None]),
    ("dates.jsonl", '{"text": "2024-01-01"}\n{"text": "12:30"}\n', ["2024-01-01", "12:30"]),
    ("other-twice.jsonl", '{"text": "one", "id": 1, "id": 2, "meta": {"a": "text"}}\n', ["one"]),
    ("bom.json", '\ufeff[{"text": "one"}]', ["one"]),
    ("ends.json", '\n\r\n  [\n {"text": "one"},\n\n{"text": "two"} ]\n\n', ["one", "two"]),
    ("bom-ends.json", '\ufeff\n[{"text": "one"}]\n', ["one"]),
    ("empty.json", "[ ]\n", []),
    ("lines.json", '\n{"text": "one"}\n{"text": "two"}\n', ["one", "two"]),
    ("bom.txt", "\ufeffone\n\ntwo", ["one", "two"]),
    ("bom-alone.txt", "\ufeff\none\n\ntwo", ["one", "two"]),
    ("bom-inside.txt", "one\n\n\ufefftwo", ["one", "\ufefftwo"]),
    ("mac.txt", "one\rtwo\r\rthree\r", ["one\ntwo", "three"]),
    ("mac-end.txt", "one\r\rt", ["one", "t"]),
    ("mac-end.csv", "id,text\r1,", [""]),
    ("doubled.txt", "one\r\r\ntwo\r\r\n", ["one", "two"]),
    ("mixed.txt", "one\r\n\rtwo\n\r\nthree\r", ["one", "two", "three"]),
    ("space.txt", "one\n \t\x0c\ntwo\u00a0\n\u00a0\nthree", ["one", "two\u00a0\n\u00a0\nthree"]),
]


@pytest.mark.parametrize(("name", "content", "texts"), SOUND, ids=[case[0] for case in SOUND])
def test_what_is_only_unusual_is_read(tmp_path, name, content, texts):
    assert _texts([Slice(_write(tmp_path, name, content))]) == (texts, Counter())


@pytest.mark.parametrize(
    ("escaped", "text", "replaced"),
    [
        (r"half \ud83d here", "half \ufffd here", 1),
        (r"\ude00\ud83d", "\ufffd\ufffd", 2),
        (r"\ud83d\ude00", "\U0001f600", 0),
        (r"\ud83d\ud83d\ude00é", "\ufffd\U0001f600é", 1),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_lone_surrogates_become_u_fffd_and_are_counted(tmp_path, name, escaped, text, replaced):
    row = f'{{"text": "{escaped}"}}'
    file = _write(tmp_path, name, f"[{row}]" if name == "a.json" else row)
    assert _texts([Slice(file)]) == ([text], Counter(replaced_surrogates=replaced) if replaced else Counter())


def test_texts_and_fields_may_be_long(tmp_path):
    long, lines = "the river " * 200_000, "one, two\n" * 50_000
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": long}) + "\n" + json.dumps({"text": lines}))
    (tmp_path / "a.csv").write_text(f'id,text\n1,{long}\n2,"{lines}"\n')
    for name in ("a.jsonl", "a.csv"):
        assert _texts([Slice(str(tmp_path / name))])[0] == [long, lines]


@pytest.mark.parametrize("target", [1, 7, 40, 10**6])
@pytest.mark.parametrize(
    ("name", "rows", "end"),
    [("a.jsonl", ['{"text": "one"}', "", "{}", "nothing"], "\n"), ("a.txt", ["o\nne", "t\0"], "\n\n")],
)
def test_the_line_is_that_of_the_file_wherever_it_is_cut(tmp_path, name, rows, end, target):
    content = end.join(rows * 5)
    file = _write(tmp_path, name, content)
    parts = cut_file(file, len(content.encode()), target)
    found, tally = _texts(parts, "skip")
    assert (found, tally) == _texts([Slice(file)], "skip")
    assert sum(tally.values()) == 5
    bad = [number for number, line in enumerate(content.split("\n"), 1) if line in ("nothing", "t\0")]
    said = []
    for part in parts:
        try:
            _texts([part])
        except DataError as error:
            said.append(int(str(error).split("(line ")[1].split(":")[0]))
    assert said[0] == bad[0]
    assert said == sorted(set(said) & set(bad))


TEXT_TYPES = [
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(),
    pa.dictionary(pa.int32(), pa.string()),
]  # fmt: skip


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_every_type_of_text_in_parquet_is_read(tmp_path, kind):
    texts = ["one", None, "", "zwölf \U0001f600 " * 10]
    if pa.types.is_dictionary(kind):
        column = pa.array(texts).dictionary_encode()
    else:
        column = pa.array([text if text is None or "string" in str(kind) else text.encode() for text in texts], kind)
    pq.write_table(pa.table({"text.raw": ["x"] * 4, "text": column, "id": range(4)}), tmp_path / "a.parquet")
    assert _texts([Slice(str(tmp_path / "a.parquet"))]) == (texts, Counter())


def test_the_fixed_size_and_the_empty_type_of_parquet_are_read(tmp_path):
    pq.write_table(pa.table({"text": pa.array([b"four", b"five"], pa.binary(4))}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": pa.nulls(2)}), tmp_path / "b.parquet")
    assert _texts([Slice(str(tmp_path / "a.parquet"))])[0] == ["four", "five"]
    assert _texts([Slice(str(tmp_path / "b.parquet"))])[0] == [None, None]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_parquet_rows_that_are_no_text_are_named_and_counted(tmp_path, kind):
    values = [b"one", b"\xff", None, b"a\0b", "zwölf".encode(), b"\xed\xa0\xbd"]
    plain = pa.array(values * 100, pa.binary())
    if pa.types.is_dictionary(kind):
        known = pa.array([value for value in values if value is not None], pa.binary())
        indices = pa.array([0, 1, None, 2, 3, 4] * 100, pa.int32())
        column = pa.DictionaryArray.from_arrays(indices, pa.Array.from_buffers(pa.string(), 5, known.buffers()))
    elif str(kind).endswith("view"):
        column = plain.cast(pa.binary_view())
        if kind == pa.string_view():
            column = pa.Array.from_buffers(kind, 600, column.buffers())
    else:
        large = plain.cast(pa.large_binary() if "large" in str(kind) else pa.binary())
        column = pa.Array.from_buffers(kind, 600, large.buffers())
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet", row_group_size=150)
    parts = cut_file(str(tmp_path / "a.parquet"), 10**6, 1)
    assert len(parts) == 4
    found, tally = _texts(parts, "skip")
    assert found == ["one", None, "zwölf"] * 100
    assert tally == {"malformed_not_utf8": 200, "malformed_nul_byte": 100}
    for part, row in zip(parts, (2, 152, 302, 452), strict=True):
        with pytest.raises(DataError, match=rf"a\.parquet' cannot be read \(row {row}: no UTF-8"):
            _texts([part])


@pytest.mark.parametrize(
    ("column", "kind"), [([1], "int64"), ([["a"]], "list<"), ([{"a": "b"}], "struct<"), ([1.5], "double")]
)
def test_other_types_of_parquet_are_refused_before_they_are_read(tmp_path, column, kind):
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    for rule in ("stop", "skip"):
        with pytest.raises(DataError, match=f"column 'text' holds {kind}.*not text.*set text_column"):
            _texts([Slice(str(tmp_path / "a.parquet"))], rule)


def test_a_parquet_file_with_two_columns_of_the_name_is_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="more than one column 'text'"):
        _texts([Slice(str(tmp_path / "a.parquet"))])
