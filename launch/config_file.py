"""The resolved configuration of a run in its folder, written so that `--config` takes it back, and read again."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from data_pipeline import read_yaml, take_credentials, write_text

from .errors import LaunchError
from .options import TRUST

RUN_CONFIG = "config.yaml"
"""What a run was told, in its folder."""


def write_config(args: Any, path: Path) -> None:
    """Write the dataclass `args` as YAML to `path`, atomically.

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
