"""Files that commands write and read again: the configuration of a run, and reports in JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from data_pipeline import (
    DataError,
    Problem,
    os_problem,
    place_problem,
    read_json,
    read_yaml,
    take_credentials,
    write_text,
)

from .errors import LaunchError
from .options import TRUST

RUN_CONFIG = "config.yaml"
"""What a run was told, in its folder."""


def write_config(args: Any, path: Path) -> None:
    """Write the dataclass `args` as YAML to `path`, atomically, so that `--config` takes it back.

    Without trust, which is declared anew each time, and without credentials.
    """
    plain = plain_config(take_credentials(args))
    plain.pop(TRUST, None)
    write_text(path, yaml.safe_dump(plain, sort_keys=False))


def plain_config(args: Any) -> dict[str, Any]:
    """The dataclass `args` as mappings, lists, text and numbers."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(args)))  # tuples become lists, which YAML can say
    return plain


def read_config(run: Path) -> dict[str, Any]:
    """The configuration of the run in the folder `run`.

    Raises:
        LaunchError: there is none, or it is damaged.
    """
    return read_yaml(run / RUN_CONFIG, LaunchError, "put the file of the run back")


def report_problems(field: str, file: str | None, mark: str, what: str) -> list[Problem]:
    """Why a report may not be written to `file`: only an earlier one, a JSON object with `mark` in it, gives way.

    Args:
        field: the option that names the file.
        what: what the report is of, for the message.
    """
    if file is None:
        return []
    path = Path(file)
    try:
        if path.is_symlink() or path.exists():
            return [] if _has_mark(path, mark) else [
                Problem(field, file, f"exists and is no {what}", "choose another file")
            ]  # fmt: skip
    except OSError as error:  # too long a name, for instance
        return [os_problem(error, field, path)]
    problem = place_problem(path, field)
    return [] if problem is None else [problem]


def _has_mark(path: Path, mark: str) -> bool:
    try:
        report = read_json(path)
    except DataError:
        return False
    return isinstance(report, dict) and mark in report
