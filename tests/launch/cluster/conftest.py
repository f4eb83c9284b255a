"""Real nodes, and a pretraining small enough to run on them many times."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.cluster.engines.config import LaunchConfig
from launch.cluster.engines.fit import fit_job
from launch.cluster.engines.render import render_job
from launch.config_file import write_config
from launch.tracking.tracker import TrackingConfig
from launch.verbs.pretrain import Args
from pretrain import ModelConfig, ValidationConfig
from pretrain.checkpoints import CheckpointConfig
from tests.launch.cluster.nodes import Nodes, nodes, why_not

GLOBAL_BATCH = 12
PATIENCE_SECONDS = 3600.0
"""After which a rank takes another one for lost; longer than any test, however busy the machine is."""
NAMES = ("head", "node1", "node2", "node3")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Nodes]:
    """A head and three nodes."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with nodes(NAMES, tmp_path) as made:
        yield made


@pytest.fixture
def script(prepared: Path, tmp_path: Path) -> Callable[..., Path]:
    """Render the script of an engine for a tiny ZeRO 2 run on CPUs; returns its path."""

    def write(engine: str, steps: int, run: str = "run", recipe: dict[str, Any] | None = None, **fields: Any) -> Path:
        fields = {"nodes": 2, "gpus_per_node": 0, "preflight": False, "interface": "eth0", "setup": ":"} | fields
        config = LaunchConfig(
            engine=engine,
            config=str(write_recipe(prepared, tmp_path / run, steps, recipe or {})),
            data=str(prepared),
            output=str(tmp_path / run),
            **fields,
        )
        assert config.problems() == []
        path = tmp_path / f"{run}-{engine}"
        path.write_text(render_job(fit_job(config)[0]))
        return path

    return write


def write_recipe(data: Path, run: Path, steps: int, fields: dict[str, Any]) -> Path:
    """The recipe of a run of two layers, with a log of its samples, as RUN.yaml."""
    shape = ModelConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=16, hidden_dropout_prob=0.0,
    )  # fmt: skip
    args = Args(
        data=str(data),
        output=str(run),
        model=shape,
        steps=steps,
        zero_stage=2,
        precision="fp32",  # the same on every processor
        global_batch_size=GLOBAL_BATCH,
        micro_batch_size=2,
        log_every=1,
        sample_log=True,
        validation=ValidationConfig(every=0, blocks=4),
        tracking=TrackingConfig(mlflow=None),
        **({"checkpoint": CheckpointConfig(every=10, keep=2), "timeout_seconds": PATIENCE_SECONDS} | fields),
    )
    path = run.with_suffix(".yaml")
    write_config(args, path)
    return path


def samples(run: Path) -> list[int]:
    """The samples of all steps, as the ranks noted them, sorted."""
    lines = (line for path in (run / "samples").glob("rank-*.jsonl") for line in path.read_text().splitlines())
    return sorted(sample for line in lines for sample in json.loads(line)["samples"])


def assert_each_sample_once(run: Path, steps: int) -> None:
    """The run has finished, and every sample of its global batches was trained on exactly once."""
    assert (run / "model" / "config.json").exists()
    assert samples(run) == list(range(steps * GLOBAL_BATCH))
