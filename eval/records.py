"""JSON objects as dataclasses: each field is compared with its type before it is believed, and named where it differs.

A field without a default must be there; one with a default is left out of the file while it has that value. What a file
has beyond the fields is not looked at: a later version may say more.
"""

import math
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

_ABSENT, _OF_WRONG_TYPE = "missing", "of the wrong type"


def parse_record(kind: type[T], value: Any) -> T:
    """The dataclass `kind` from the JSON object `value`; dataclasses inside it are built too.

    Raises:
        ValueError: fields are missing or of the wrong type; the message names all of them.
    """
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    problems: dict[str, list[str]] = {_ABSENT: [], _OF_WRONG_TYPE: []}
    for name, problem in _compare(kind, value, ""):
        problems[problem].append(name)
    if described := [f"{', '.join(names)} {problem}" for problem, names in problems.items() if names]:
        raise ValueError("; ".join(described))
    return _build(kind, value)


def as_json(record: Any) -> dict[str, Any]:
    """A dataclass as the JSON object that `parse_record` reads."""
    values = {field.name: getattr(record, field.name) for field in fields(record) if not _is_left_out(record, field)}
    return {name: as_json(value) if is_dataclass(value) else value for name, value in values.items()}


def _is_left_out(record: Any, field: Any) -> bool:
    return field.default is not MISSING and getattr(record, field.name) == field.default


def _compare(hint: Any, value: Any, name: str) -> Iterator[tuple[str, str]]:
    """The fields of `value` that are not what the type says, and how they differ."""
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, dict):
        hints = get_type_hints(hint)
        for field in fields(hint):
            inner = f"{name}.{field.name}" if name else field.name
            if field.name in value:
                yield from _compare(hints[field.name], value[field.name], inner)
            elif field.default is MISSING:
                yield inner, _ABSENT
    elif origin is UnionType:  # X | None
        if value is not None:
            yield from _compare(arguments[0], value, name)
    elif origin in (list, dict) and isinstance(value, origin):
        inside = value.values() if origin is dict else value
        if any(True for item in inside for _ in _compare(arguments[-1], item, name)):
            yield name, _OF_WRONG_TYPE
    elif not _is_of(hint, value):
        yield name, _OF_WRONG_TYPE


def _is_of(hint: Any, value: Any) -> bool:
    if hint is Any:
        return True
    if hint is float:  # JSON writes 1.0 as 1 at times; true is no number, and NaN no result
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(hint, type) and isinstance(value, hint)


def _build(hint: Any, value: Any) -> Any:
    if get_origin(hint) is UnionType and value is not None:
        return _build(get_args(hint)[0], value)
    if not (isinstance(hint, type) and is_dataclass(hint)):
        return value
    hints = get_type_hints(hint)
    return hint(**{f.name: _build(hints[f.name], value[f.name]) for f in fields(hint) if f.name in value})
