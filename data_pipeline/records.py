"""Our own files of JSON and YAML, read as what they should be, or one error that names the file, the field and the fix.

Such a file may be truncated, edited by hand, of another version or of a stranger's making. JSON objects become
dataclasses: each field is compared with its type before it is believed. A field without a default must be there; one
with a default is left out of the file while it has that value. What a file has beyond the fields is not looked at: a
later version may say more.
"""

import functools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from .errors import DataError
from .problems import Problem, UserError

T = TypeVar("T")

_ABSENT, _OF_WRONG_TYPE = "missing", "of the wrong type"
_UNIONS = (UnionType, Union)  # of classes, of other types
_MOST_NODES = 100_000  # of a YAML file with its aliases written out; its own configurations have hundreds
_DEEPEST = 50  # levels of YAML
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_json(path: Path, error: type[UserError] = DataError, fix: str = "write it again") -> Any:
    """The content of a JSON file.

    Raises:
        UserError: of the class `error`; it is no file that can be read, not UTF-8, not JSON, or nested without end.
    """
    return parse_json(_read(path, error, fix), path, error, fix)


def parse_json(
    content: bytes,
    file: str | Path,
    error: type[UserError] = DataError,
    fix: str = "write it again",
    object_hook: Callable[[dict[str, Any]], Any] | None = None,
) -> Any:
    """The value of JSON text that was read from `file`; `object_hook` as in `json.loads`. Raises as `read_json`."""
    try:
        return json.loads(content.decode(), object_hook=object_hook)
    except (ValueError, RecursionError) as reason:
        raise _unreadable(file, "JSON", reason, error, fix) from reason


def read_yaml(path: Path, error: type[UserError] = DataError, fix: str = "write it again") -> dict[str, Any]:
    """The mapping in a YAML file; an empty file has an empty one.

    Raises:
        UserError: of the class `error`; it is no file that can be read, not UTF-8, not YAML, no mapping with text as
            keys, nested without end, or grows beyond 100,000 values where its aliases are written out.
    """
    return parse_yaml(_read(path, error, fix), path, error, fix)


def parse_yaml(
    content: bytes, file: str | Path, error: type[UserError] = DataError, fix: str = "write it again"
) -> dict[str, Any]:
    """The mapping of YAML text that was read from `file`. Raises as `read_yaml`."""
    try:
        value = load_bounded_yaml(content.decode())
        if value is not None and not (isinstance(value, dict) and all(isinstance(key, str) for key in value)):
            raise ValueError("it is not a mapping of names to values")
    except (ValueError, yaml.YAMLError, RecursionError) as reason:
        raise _unreadable(file, "YAML", reason, error, fix) from reason
    return value or {}


def load_bounded_yaml(text: str) -> Any:
    """What `yaml.safe_load` gives, in bounded time and memory.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is not YAML, too deep, or too large with its aliases written out.
    """
    if (problem := excess_of_yaml(text)) is not None:
        raise ValueError(problem)
    return yaml.load(text, Loader=_LOADER)


def excess_of_yaml(text: str) -> str | None:
    """Why YAML would take more levels, time or memory than a configuration does; None where it does not, or is none."""
    sizes: dict[str, int] = {}  # of what has an anchor; inside itself it has no end
    inside: list[tuple[str | None, int]] = [(None, 0)]  # anchors of the open nodes, and the values in each so far
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.CollectionStartEvent):
                inside.append((event.anchor, 1))
                sizes |= {event.anchor: _MOST_NODES + 1} if event.anchor else {}
                if len(inside) > _DEEPEST:
                    return f"it is nested too deeply, more than {_DEEPEST} levels"
                continue
            if isinstance(event, yaml.CollectionEndEvent):
                anchor, size = inside.pop()
            elif isinstance(event, yaml.AliasEvent):
                anchor, size = None, sizes.get(event.anchor or "", 1)
            elif isinstance(event, yaml.ScalarEvent):
                anchor, size = event.anchor, 1
            else:
                continue
            sizes |= {anchor: size} if anchor else {}
            inside[-1] = (inside[-1][0], inside[-1][1] + size)
            if inside[-1][1] > _MOST_NODES:
                return f"it has more than {_MOST_NODES:,} values where its aliases are written out"
    except yaml.YAMLError:  # said by whoever reads it
        pass
    return None


def read_record(kind: type[T], path: Path, error: type[UserError] = DataError, fix: str = "write it again") -> T:
    """The dataclass `kind` from a JSON file.

    Raises:
        UserError: of the class `error`; as `read_json`, or fields are missing or of the wrong type: all are named.
    """
    return decode_record(kind, _read(path, error, fix), path, error, fix)


def decode_record(
    kind: type[T], content: bytes, file: str | Path, error: type[UserError] = DataError, fix: str = "write it again"
) -> T:
    """The dataclass `kind` from JSON text that was read from `file`. Raises as `read_record`."""
    value = parse_json(content, file, error, fix)
    try:
        return parse_record(kind, value)
    except ValueError as reason:
        raise error(Problem(str(file), wrong=f"is damaged: {reason}", fix=fix)) from reason


def parse_record(kind: type[T], value: Any) -> T:
    """The dataclass `kind` from the JSON object `value`; dataclasses inside it are built too.

    Raises:
        ValueError: fields are missing, of the wrong type, or none of a few words; the message names all of them.
    """
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    problems: dict[str, list[str]] = {_ABSENT: [], _OF_WRONG_TYPE: []}
    for name, problem in _compare(kind, value, ""):
        problems.setdefault(problem, []).append(name)
    if described := [f"{', '.join(names)} {problem}" for problem, names in problems.items() if names]:
        raise ValueError("; ".join(described))
    return _build(kind, value)


def as_json(record: Any) -> dict[str, Any]:
    """A dataclass as the JSON object that `parse_record` reads."""
    values = {field.name: getattr(record, field.name) for field in fields(record) if not _is_left_out(record, field)}
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return as_json(value) if is_dataclass(value) else value


def _read(path: Path, error: type[UserError], fix: str) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is not a regular file")  # a pipe would be waited for
        return path.read_bytes()
    except (OSError, ValueError) as reason:  # a NUL in the name is a ValueError
        raise error(Problem(str(path), wrong=f"cannot be read ({reason})", fix=fix)) from reason


def _unreadable(file: str | Path, form: str, reason: Exception, error: type[UserError], fix: str) -> UserError:
    said = "it is nested too deeply" if isinstance(reason, RecursionError) else " ".join(str(reason).split())
    return error(Problem(str(file), wrong=f"is damaged: it cannot be read as {form} ({said})", fix=fix))


def _is_left_out(record: Any, field: Any) -> bool:
    return field.default is not MISSING and getattr(record, field.name) == field.default


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _compare(hint: Any, value: Any, name: str) -> Iterator[tuple[str, str]]:
    """The fields of `value` that are not what the type says, and how they differ."""
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, dict):
        hints = _hints(hint)
        for field in fields(hint):
            inner = f"{name}.{field.name}" if name else field.name
            if field.name in value:
                yield from _compare(hints[field.name], value[field.name], inner)
            elif field.default is MISSING and field.default_factory is MISSING:
                yield inner, _ABSENT
    elif origin in _UNIONS:
        if not any(_fits(one, value) for one in arguments):
            others = [one for one in arguments if one is not type(None)]
            yield from _compare(others[0], value, name) if len(others) == 1 else [(name, _OF_WRONG_TYPE)]
    elif origin is dict and isinstance(value, dict) and is_dataclass(arguments[1]):
        for key, item in value.items():
            yield from _compare(arguments[1], item, f"{name}.{key}")
    elif origin is list and isinstance(value, list) and is_dataclass(arguments[0]):
        for number, item in enumerate(value):
            yield from _compare(arguments[0], item, f"{name}[{number}]")
    elif not _fits(hint, value):
        yield name, f"none of {', '.join(map(str, arguments))}" if origin is Literal else _OF_WRONG_TYPE


def _fits(hint: Any, value: Any) -> bool:
    """Whether a JSON value is of a type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in _UNIONS:
        return any(_fits(one, value) for one in arguments)
    if origin is Literal:
        return value in arguments
    if origin is dict:
        return isinstance(value, dict) and all(_fits(arguments[1], item) for item in value.values())
    if origin is tuple and arguments[-1] is not ...:
        is_as_long = isinstance(value, list) and len(value) == len(arguments)
        return is_as_long and all(map(_fits, arguments, value))
    if origin in (list, tuple):
        return isinstance(value, list) and all(_fits(arguments[0], item) for item in value)
    if isinstance(hint, type) and is_dataclass(hint):
        is_object = isinstance(value, dict) and not any(True for _ in _compare(hint, value, ""))
        return is_object or isinstance(value, hint)  # made by an object_hook
    if hint is float:  # JSON writes 1.0 as 1 at times; true is no number, and NaN no result
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is Any:
        return _is_finite(value)
    return isinstance(hint, type) and isinstance(value, hint)


def _is_finite(value: Any) -> bool:
    """Whether a JSON value of any kind holds neither NaN nor infinity."""
    if isinstance(value, dict | list):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _build(hint: Any, value: Any) -> Any:
    """A value that fits its type, with dataclasses and tuples made of objects and arrays."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in _UNIONS:
        return _build(next(one for one in arguments if _fits(one, value)), value)
    if origin is dict:
        return {name: _build(arguments[1], item) for name, item in value.items()}
    if origin is list:
        return [_build(arguments[0], item) for item in value]
    if origin is tuple:
        return tuple(value)
    if not (isinstance(hint, type) and is_dataclass(hint)) or isinstance(value, hint):
        return value
    hints = _hints(hint)
    return hint(**{f.name: _build(hints[f.name], value[f.name]) for f in fields(hint) if f.name in value})
