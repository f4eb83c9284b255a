"""The resolved configuration of a run, written so that `--config` takes it back."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from data_pipeline import write_text

from .options import TRUST


def write_config(args: Any, path: Path) -> None:
    """Write the dataclass `args` as YAML to `path`, atomically; without trust, which is declared anew each time."""
    plain = json.loads(json.dumps(asdict(args)))  # tuples become lists, which YAML can say
    plain.pop(TRUST, None)
    write_text(path, yaml.safe_dump(plain, sort_keys=False))
