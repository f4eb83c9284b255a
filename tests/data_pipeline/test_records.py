"""Our own files: right, or one error that names the file and the field, whatever somebody did to them."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import DataError, as_json, parse_record, read_json, read_record, read_yaml


@dataclass
class Part:
    name: str
    share: float = 0.5


@dataclass
class Whole:
    number: int
    kind: Literal["plain", "odd"]
    parts: list[Part]
    by_name: dict[str, Part]
    ids: tuple[int, ...] = ()
    pair: tuple[int, str] | None = None
    text_or_number: str | int = 0
    anything: dict[str, Any] = field(default_factory=dict)


WHOLE: dict[str, Any] = {
    "number": 1, "kind": "odd", "parts": [{"name": "a"}], "by_name": {"b": {"name": "b", "share": 1}}, "ids": [1, 2],
    "pair": [1, "x"], "text_or_number": "t", "anything": {"deep": [None, {}]},
}  # fmt: skip
# nine to the tenth values when it is written out
ALIASES = b"l0: &l0 [x]\n" + b"".join(
    b"l%d: &l%d [%s]\n" % (level, level, b",".join([b"*l%d" % (level - 1)] * 9)) for level in range(1, 11)
)
# JSON that may stand anywhere in a file, whatever was expected there
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_objects_inside_become_what_their_types_say() -> None:
    record = parse_record(Whole, WHOLE)
    assert record.parts == [Part("a")]
    assert record.by_name == {"b": Part("b", 1)}
    assert (record.ids, record.pair) == ((1, 2), (1, "x"))


def test_what_a_later_version_wrote_beside_is_not_looked_at() -> None:
    assert parse_record(Part, {"name": "a", "colour": "red"}) == Part("a")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"number": 1.0}, "number of the wrong type"),
        ({"number": True}, "number of the wrong type"),
        ({"kind": "strange"}, "kind none of plain, odd"),
        ({"parts": {}}, "parts of the wrong type"),
        ({"parts": [{"name": "a"}, {"share": 1}]}, r"parts\[1\]\.name missing"),
        ({"by_name": {"b": {"name": 5, "share": "1"}}}, r"by_name\.b\.name, by_name\.b\.share of the wrong type"),
        ({"by_name": {"b": {"name": "b", "share": float("nan")}}}, r"by_name\.b\.share of the wrong type"),
        ({"by_name": {"b": {"name": "b", "share": float("inf")}}}, r"by_name\.b\.share of the wrong type"),
        ({"ids": [1, "2"]}, "ids of the wrong type"),
        ({"pair": [1, "x", 2]}, "pair of the wrong type"),
        ({"text_or_number": None}, "text_or_number of the wrong type"),
    ],
)
def test_every_field_that_does_not_fit_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_record(Whole, WHOLE | change)


@given(st.sampled_from(sorted(WHOLE)), JSON)
def test_any_value_anywhere_fits_its_type_or_is_refused(name: str, value: Any) -> None:
    record, refused = None, ""
    try:
        record = parse_record(Whole, WHOLE | {name: value})
    except ValueError as error:
        refused = str(error)
    if record is None:
        assert name in refused
    else:  # what was let through is of its type: it can be written, and read again
        assert parse_record(Whole, json.loads(json.dumps(as_json(record)))) == record


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_record_or_one_error_that_names_the_file(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    for read in (lambda: read_record(Part, path), lambda: read_json(path), lambda: read_yaml(path)):
        refused = f"{path}: write it again"
        try:
            read()
        except DataError as error:
            refused = str(error)
        assert str(path) in refused
        assert "write it again" in refused


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"\xff\xfe{\x00}\x00"),
        ("a.json", b"[" * 100_000),
        ("a.json", b'{"a":' * 100_000),
        ("a.json", b"[" + b"1" * 5000 + b"]"),
        ("a.yaml", b"a: ["),
        ("a.yaml", b"\xff\xfea\x00"),
        ("a.yaml", b"[" * 100_000),
        ("a.yaml", b"{a: " * 10_000),
        ("a.yaml", b"- " * 10_000),
        ("a.yaml", b"a: &a [*a]"),
        ("a.yaml", b"a: !!python/object/apply:os.getcwd []"),
        ("a.yaml", b"just text"),
        ("a.yaml", b"1: one"),
        ("a.yaml", ALIASES),
    ],
)  # fmt: skip
def test_a_file_that_is_damaged_or_made_to_hurt_is_one_error(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.(json|yaml) is damaged: it cannot be read as (JSON|YAML)") as error:
        read_json(path) if name == "a.json" else read_yaml(path)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("make", "reason"),
    [(os.mkfifo, "not a regular file"), (os.mkdir, "not a regular file"), (str, "No such file")],
)
def test_what_is_no_file_is_an_error_and_not_waited_for(tmp_path: Path, make: Any, reason: str) -> None:
    make(tmp_path / "config")
    for read in (read_json, read_yaml):
        with pytest.raises(DataError, match=rf"config cannot be read \(.*{reason}"):
            read(tmp_path / "config")


def test_an_empty_configuration_has_no_settings_and_aliases_are_written_out(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("")
    assert read_yaml(path) == {}
    path.write_text("a: &a {b: 1}\nc: [*a, *a]\n")
    assert read_yaml(path) == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}
