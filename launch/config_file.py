"""The resolved configuration of a run, written so that `--config` takes it back."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from data_pipeline import take_credentials, write_text


def write_config(args: Any, path: Path) -> None:
    """Write the dataclass `args` as YAML to `path`, atomically, without credentials."""
    plain = json.loads(json.dumps(asdict(take_credentials(args))))  # tuples become lists, which YAML can say
    write_text(path, yaml.safe_dump(plain, sort_keys=False))
