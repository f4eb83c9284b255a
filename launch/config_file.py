"""The resolved configuration of a run, written so that `--config` takes it back."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml


def write_config(args: Any, path: Path) -> None:
    """Write the dataclass `args` as YAML to `path`, atomically."""
    plain = json.loads(json.dumps(asdict(args)))  # tuples become lists, which YAML can say
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(yaml.safe_dump(plain, sort_keys=False))
    os.replace(aside, path)
