"""The resolved configuration of a run in its folder, written so that `--config` takes it back, and read again."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from data_pipeline import read_yaml, take_credentials, write_text

from .errors import LaunchError

RUN_CONFIG = "config.yaml"
"""What a run was told, in its folder."""


def write_config(args: Any, path: Path) -> None:
    """Write the dataclass `args` as YAML to `path`, atomically, without credentials."""
    plain = json.loads(json.dumps(asdict(take_credentials(args))))  # tuples become lists, which YAML can say
    write_text(path, yaml.safe_dump(plain, sort_keys=False))


def read_config(run: Path) -> dict[str, Any]:
    """The configuration of the run in the folder `run`.

    Raises:
        LaunchError: there is none, or it is damaged.
    """
    return read_yaml(run / RUN_CONFIG, LaunchError, "put the file of the run back")
