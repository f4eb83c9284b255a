"""Any bytes at all, read here and by an independent reading of the same format: equal rows, or an error.

The references take a file as a whole and in the plainest way: csv (strict), json, pyarrow, str.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import DataError
from data_pipeline.corpus.formats import Slice, cut_file, read_slice

Rows = list[str | None]
BLANK = " \t\x0b\x0c\r\n"  # what a blank line is made of
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.none() | TEXT | st.sampled_from(["\ud83d", "a\ude00b", "\0", 7, 1.5, True, ["a"], {"text": "a"}])
OBJECTS = st.fixed_dictionaries({"text": VALUES}, optional={"id": VALUES})


class Malformed(Exception):
    """What a reference says of a file that must not be read without a word."""


def _sound(values: list[object]) -> Rows:
    """What is to become of the values of the text column."""
    for value in values:
        if not (value is None or isinstance(value, str)) or (isinstance(value, str) and "\0" in value):
            raise Malformed
    return [value and re.sub("[\ud800-\udfff]", "\ufffd", value) for value in values]  # type: ignore[call-overload]


def _decoded(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed from error
    if "\0" in text:
        raise Malformed
    return text


def csv_reference(content: bytes) -> Rows:
    try:
        rows = [row for row in csv.reader(io.StringIO(_decoded(content), newline=""), strict=True) if row]
    except csv.Error as error:
        raise Malformed from error
    if not rows:
        return []
    if rows[0].count("text") != 1 or any(len(row) != len(rows[0]) for row in rows):
        raise Malformed
    return _sound([row[rows[0].index("text")] for row in rows[1:]])


def _columns(rows: list[object]) -> Rows:
    if not all(isinstance(row, dict) for row in rows) or (rows and "text" not in rows[0]):  # type: ignore[operator]
        raise Malformed
    return _sound([row.get("text") for row in rows if isinstance(row, dict)])


def lines_reference(content: bytes) -> Rows:
    try:
        return _columns([json.loads(line) for line in _decoded(content).split("\n") if line.strip(BLANK)])
    except ValueError as error:
        raise Malformed from error


def json_reference(content: bytes) -> Rows:
    text = _decoded(content).lstrip(BLANK)
    if not text.startswith("["):
        return lines_reference(content)
    try:
        return _columns(json.loads(text))
    except ValueError as error:
        raise Malformed from error


def text_reference(content: bytes) -> Rows:
    lines = _decoded(content).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    marked = "\n".join(line if line.strip(BLANK) else "\0" for line in lines)
    return [paragraph.strip("\n") for paragraph in marked.split("\0") if paragraph.strip("\n")]


REFERENCES = {".csv": csv_reference, ".jsonl": lines_reference, ".json": json_reference, ".txt": text_reference}


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    """What csv writes, and pieces of it in disorder."""
    rows = draw(st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=4))
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])))
    writer.writerows([["id", "text"], *rows])
    pieces = st.sampled_from(["", '"', ",", "\n", "\r", "\r\n", "a", "é", '""', "\n\n", '"a\nb"', " "])
    return (file.getvalue() + "".join(draw(st.lists(pieces, max_size=6)))).encode()


@st.composite
def json_lines_files(draw: st.DrawFn) -> bytes:
    rows = [json.dumps(row, ensure_ascii=draw(st.booleans())) for row in draw(st.lists(OBJECTS, max_size=4))]
    junk = st.sampled_from(["", "{", "}", "[]", "null", '{"text": "a"', '{"text": "a\tb"}', " ", "\r", "7", '"', "{}"])
    lines = draw(st.permutations([*rows, *draw(st.lists(junk, max_size=2))]))
    return draw(st.sampled_from(["\n", "\r\n", "\n\n"])).join(lines).encode(errors="surrogatepass")


@st.composite
def json_files(draw: st.DrawFn) -> bytes:
    rows = draw(st.lists(OBJECTS | VALUES, max_size=4)) if draw(st.booleans()) else draw(st.lists(OBJECTS, max_size=4))
    array = json.dumps(rows, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    around = st.sampled_from(["", " ", "\n", "\r\n \n", ",", "]", "[", "\x0c"])
    return (draw(around) + array + draw(around)).encode(errors="surrogatepass")


@st.composite
def text_files(draw: st.DrawFn) -> bytes:
    pieces = st.sampled_from(
        ["a", "é", "\n", "\n\n", "\r\n", "\r", " ", "\t", "\x0c", "\u00a0", "\u2028", "\ufeff", "b c"]
    )
    return "".join(draw(st.lists(pieces, max_size=30))).encode()


FILES = {".csv": csv_files(), ".jsonl": json_lines_files(), ".json": json_files(), ".txt": text_files()}


@st.composite
def spoilt(draw: st.DrawFn, files: st.SearchStrategy[bytes]) -> bytes:
    """A file as it is, in another encoding, behind a BOM, cut off, or with other bytes in one place."""
    content = draw(files)
    change = draw(st.sampled_from(["none"] * 3 + ["bom", "encoding", "cut", "bytes"]))
    if change == "bom":
        return b"\xef\xbb\xbf" + content
    if change == "encoding":
        return content.decode(errors="replace").encode(
            draw(st.sampled_from(["utf-16-le", "utf-16-be", "utf-16", "utf-32"]))
        )
    place = draw(st.integers(0, len(content)))
    if change == "cut":
        return content[:place]
    if change == "bytes":
        other = draw(st.sampled_from([b"\0", b"\xff", b"\xed\xa0\xbd", b'"', b"\n", b"\r", b",", b"\xef\xbb\xbf"]))
        return content[:place] + other + content[place + draw(st.integers(0, 2)) :]
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def _write(folder, suffix: str, content: bytes) -> str:
    file = folder / f"a{suffix}"
    file.write_bytes(content)
    return str(file)


def _read(parts: list[Slice], rule="stop", tally: Counter[str] | None = None) -> Rows:
    return [text for part in parts for texts, _ in read_slice(part, "text", rule, tally) for text in texts]


def _as_the_reference(suffix: str, content: bytes, parts: list[Slice]) -> None:
    """Equal rows where the reference has some, an error where it has none."""
    try:
        expected = REFERENCES[suffix](content)
    except Malformed:
        with pytest.raises(DataError):
            _read(parts)
    else:
        assert _read(parts) == expected


@pytest.mark.parametrize("suffix", sorted(FILES))
@given(data=st.data(), target=st.integers(1, 60))
def test_any_file_gives_the_rows_of_the_reference_or_an_error(folder, suffix, data, target):
    """Also in slices of any size, where the format can be cut."""
    content = data.draw(spoilt(FILES[suffix]))
    file = _write(folder, suffix, content)
    _as_the_reference(suffix, content, [Slice(file)])
    _as_the_reference(suffix, content, cut_file(file, len(content), target))


@pytest.mark.parametrize("suffix", sorted(FILES))
@given(data=st.data(), target=st.integers(1, 60))
def test_skipping_keeps_what_stopping_would_and_counts_the_same_in_any_slices(folder, suffix, data, target):
    content = data.draw(spoilt(FILES[suffix]))
    file = _write(folder, suffix, content)
    whole, cut = Counter(), Counter()
    try:
        rows = _read([Slice(file)], "skip", whole)
    except DataError:  # of the header
        return
    left_out = sum(count for name, count in whole.items() if name.startswith("malformed"))
    try:
        assert _read([Slice(file)]) == rows
        assert left_out == 0
    except DataError:
        assert left_out > 0
    assert _read(cut_file(file, len(content), target), "skip", cut) == rows
    assert cut == whole


@given(rows=st.lists(st.tuples(OBJECTS, st.sampled_from(["", "}", "\0", "\n[]"])), max_size=6))
def test_skipping_leaves_out_just_the_bad_lines(folder, rows):
    rows = [({"text": "first"}, ""), *rows]
    content = "\n".join(json.dumps(row) + junk for row, junk in rows)
    tally: Counter[str] = Counter()
    found = _read([Slice(_write(folder, ".jsonl", content.encode()))], "skip", tally)
    expected: Rows = []
    for line in content.split("\n"):
        try:
            expected += _columns([json.loads(line)])
        except (ValueError, Malformed):
            continue
    assert found == expected
    left_out = sum(count for name, count in tally.items() if name.startswith("malformed"))
    assert left_out == len(content.split("\n")) - len(expected)


COMPRESSIONS = {
    ".gz": (gzip.compress, gzip.decompress),
    ".xz": (lzma.compress, lzma.decompress),
    ".bz2": (bz2.compress, bz2.decompress),
    ".zst": (lambda content: pa.Codec("zstd").compress(content, asbytes=True), None),
}


@pytest.mark.parametrize("suffix", sorted(COMPRESSIONS))
@given(data=st.data(), pieces=st.lists(st.binary(max_size=12), min_size=1, max_size=4))
def test_compressed_files_are_what_was_compressed_or_an_error(folder, suffix, data, pieces):
    """Members that hold a file between them; cut off anywhere, or followed by anything."""
    compress, _ = COMPRESSIONS[suffix]
    kind = data.draw(st.sampled_from(sorted(FILES)))
    content = data.draw(FILES[kind])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=3)))
    members = [compress(content[a:b]) for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    stored = b"".join(members)
    ends = {sum(map(len, members[:count])): count for count in range(1, len(members) + 1)}
    length = data.draw(st.integers(0, len(stored)) | st.sampled_from(sorted(ends)))
    file = _write(folder, kind + suffix, stored[:length])
    if length in ends:
        held = content[: [*cuts, len(content)][ends[length] - 1]]
        _as_the_reference(kind, held, [Slice(file)])
    else:
        with pytest.raises(DataError):
            _read([Slice(file)])
    with pytest.raises(DataError):
        _read([Slice(_write(folder, kind + suffix, stored + b"\1" + b"".join(pieces)))])


PARQUET = [
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3),
    pa.int64(), pa.float32(), pa.bool_(), pa.timestamp("ms"), pa.date32(), pa.list_(pa.string()), pa.null(),
]  # fmt: skip


@given(data=st.data(), kind=st.sampled_from(PARQUET), group=st.integers(1, 5), coded=st.booleans())
def test_parquet_gives_its_texts_or_an_error(folder, data, kind, group, coded):
    is_bytes, is_text = "binary" in str(kind), "string" in str(kind) and not pa.types.is_list(kind)
    raw = st.binary(min_size=3, max_size=3) if kind == pa.binary(3) else st.binary(max_size=6) | TEXT.map(str.encode)
    other = {pa.list_(pa.string()): st.just(["a"]), pa.null(): st.none(), pa.bool_(): st.booleans()}
    values = data.draw(st.lists(st.none() | (raw if is_bytes else TEXT if is_text else other.get(kind, st.just(1)))))
    column = pa.array(values, kind)
    if coded and kind in (pa.string(), pa.large_string(), pa.binary()):
        column = column.dictionary_encode()
    file = folder / "a.parquet"
    pq.write_table(pa.table({"id": range(len(values)), "text": column}), file, row_group_size=group)
    parts = cut_file(str(file), file.stat().st_size, data.draw(st.integers(1, 400)))
    try:
        if not is_bytes and not is_text and kind != pa.null():
            raise Malformed
        expected = _sound([value.decode() if isinstance(value, bytes) else value for value in values])
    except (Malformed, UnicodeDecodeError):
        with pytest.raises(DataError):
            _read(parts)
    else:
        assert _read(parts) == expected
