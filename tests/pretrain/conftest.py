"""A pretraining small enough to run many times."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.config_file import write_config
from launch.tracking.tracker import TrackingConfig
from launch.verbs.pretrain import Args
from pretrain import ModelConfig, PretrainConfig, ValidationConfig
from pretrain.checkpoints.folder import CheckpointConfig
from tests.processes import run_acn


@pytest.fixture
def tiny_run(prepared: Path, tmp_path: Path) -> Callable[..., PretrainConfig]:
    """A PretrainConfig of two layers and six steps; keyword arguments override its fields."""

    def build(**overrides: Any) -> PretrainConfig:
        fields: dict[str, Any] = {
            "data": str(prepared),
            "output": str(tmp_path / "run"),
            "model": ModelConfig(
                hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                max_position_embeddings=16, hidden_dropout_prob=0.1,
            ),
            "steps": 6,
            "global_batch_size": 8,
            "micro_batch_size": 2,
            "log_every": 1,
            "validation": ValidationConfig(every=3, blocks=10),
            "checkpoint": CheckpointConfig(every=3, keep=9),
        }  # fmt: skip
        return PretrainConfig(**(fields | overrides))

    return build


@pytest.fixture
def recipe(tiny_run: Callable[..., PretrainConfig], tmp_path: Path) -> Callable[..., Path]:
    """Write the configuration of a tiny run in tmp_path/NAME as tmp_path/NAME.yaml and return that path."""

    def write(name: str = "run", nproc_per_node: int = 1, **overrides: Any) -> Path:
        fields = vars(tiny_run(output=str(tmp_path / name), **overrides))
        args = Args(**fields, nproc_per_node=nproc_per_node, tracking=TrackingConfig(mlflow=None))
        path = tmp_path / f"{name}.yaml"
        write_config(args, path)
        return path

    return write


@pytest.fixture
def acn() -> Callable[..., subprocess.CompletedProcess]:
    """Run `acn` in a process of its own and return what it printed and its exit code."""
    return run_acn
