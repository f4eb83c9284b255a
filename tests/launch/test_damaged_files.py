"""Files of ours that somebody damaged: every verb that reads one answers with one message, never with a traceback."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.launch.tiny import write_task

PUBLISH = ("--repo_id", "a/b", "--dry_run", "--output", "OUT")
READERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "runs/acn/config.yaml": (("publish", "runs/acn", *PUBLISH), ("track", "sync", "runs/acn")),
    "runs/acn/record.json": (("publish", "runs/acn", *PUBLISH), ("track", "sync", "runs/acn")),
    "runs/acn/metrics.jsonl": (("publish", "runs/acn", *PUBLISH),),
    "runs/acn/model/config.json": (("publish", "runs/acn", *PUBLISH),),
    "runs/glue/sst2/config.json": (("compress", "--model", "runs/glue/sst2", "--output", "OUT", "--check", "false"),),
    "runs/glue/sst2/results.json": (
        ("report", "runs/glue", "--output", "OUT"),
        ("compress", "--model", "runs/glue/sst2", "--output", "OUT", "--check", "false"),
        ("publish", "runs/acn", *PUBLISH),
        ("publish", "runs/glue/sst2", *PUBLISH),
    ),
    "runs/small/cut.json": (
        ("publish", "runs/small", *PUBLISH),
        ("compress", "--model", "runs/small", "--output", "OUT", "--check", "false"),
    ),
    "runs/tokens/manifest.json": (
        ("data", "show", "runs/tokens"),
        ("data", "verify", "runs/tokens"),
        ("publish", "runs/tokens", *PUBLISH),
    ),
    "runs/tokens/tokenizer/tokenizer.json": (("data", "show", "runs/tokens"), ("publish", "runs/tokens", *PUBLISH)),
}  # fmt: skip
"""The verbs that read each file."""
WRONG: tuple[Any, ...] = (None, "x", -5, 1e400, [[]], {"a": 1})
FIELDS_TRIED = 8  # of each file, drawn anew for every file but alike in every run


def _damages(name: str, sound: bytes) -> Iterator[bytes]:
    """What may have become of a file: torn, emptied, another encoding, another type as a whole or in one field."""
    yield from (b"", b"null", b"[]", b'"text"', b"[" * 100_000, "{}".encode("utf-16"), sound[: len(sound) // 2])
    if name.endswith(".jsonl"):
        yield from (b'{"time": 1e400, "step": 1, "a": 1}\n', b'{"time": 1, "step": "x", "a": [1]}\n')
        return
    is_yaml, draw = name.endswith(".yaml"), random.Random(name)
    content = yaml.safe_load(sound) if is_yaml else json.loads(sound)
    write: Callable[[Any], str] = yaml.safe_dump if is_yaml else json.dumps
    fields = [(field,) for field in content]
    fields += [(field, inner) for field, value in content.items() if isinstance(value, dict) for inner in value]
    for field, *inner in draw.sample(fields, min(FIELDS_TRIED, len(fields))):
        wrong = draw.choice(WRONG)
        yield write({**content, field: {**content[field], inner[0]: wrong} if inner else wrong}).encode()
    yield write({name: value for name, value in content.items() if name != draw.choice(fields)[0]}).encode()


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_a_message(name: str, lab: Path, tmp_path: Path, acn: Any) -> None:
    shutil.copytree(lab / "runs", tmp_path / "runs", symlinks=True)
    write_task(tmp_path / "glue" / "sst2")
    sound = (tmp_path / name).read_bytes()
    for number, damaged in enumerate(_damages(name, sound)):
        (tmp_path / name).write_bytes(damaged)
        for words in READERS[name]:
            shutil.rmtree(tmp_path / "OUT", ignore_errors=True)
            code, _, said = acn(*words)
            what = f"damage {number} ({damaged[:60]!r}), {' '.join(words)}: {said[-600:]}"
            assert code in (0, 1, 2), what
            assert "Traceback" not in said, what
            assert code == 0 or f"acn {words[0]}: error: " in said, what
            assert len(said) < 5000, what
