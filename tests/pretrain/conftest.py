"""A pretraining small enough to run many times."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import modeling  # noqa: F401  transformers' AutoModel classes know the models by it
from data_pipeline import CorpusConfig, PrepareConfig, prepare_corpus
from launch.config_file import write_config
from launch.tracking import TrackingConfig
from launch.verbs.pretrain import Args
from pretrain import ModelConfig, PretrainConfig, ValidationConfig
from pretrain.checkpoints import CheckpointConfig
from tests.conftest import sentences
from tests.processes import run_acn


def tiny(data: Path, output: Path, /, **overrides: Any) -> dict[str, Any]:
    """Fields of a PretrainConfig of two layers and six steps; keyword arguments override them."""
    fields: dict[str, Any] = {
        "data": str(data),
        "output": str(output),
        "model": ModelConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
            max_position_embeddings=16, hidden_dropout_prob=0.1,
        ),
        "precision": "fp32",  # the same on every processor
        "steps": 6,
        "global_batch_size": 8,
        "micro_batch_size": 2,
        "log_every": 1,
        "validation": ValidationConfig(every=3, blocks=10),
        "checkpoint": CheckpointConfig(every=3, keep=9),
    }  # fmt: skip
    return fields | overrides


def write_recipe(run: Path, fields: dict[str, Any], nproc_per_node: int = 1) -> Path:
    """Write the configuration of a run in RUN beside it, as RUN.yaml."""
    path = run.with_name(f"{run.name}.yaml")
    write_config(Args(**fields, nproc_per_node=nproc_per_node, tracking=TrackingConfig(mlflow=None)), path)
    return path


def continued(source: Path, run: Path, step: int) -> Path:
    """Make RUN one that has come as far as a checkpoint of `source`."""
    shutil.copytree(source / "checkpoints" / f"step-{step:07d}", run / "checkpoints" / f"step-{step:07d}")
    shutil.copy(source / "config.yaml", run / "config.yaml")
    return run


@pytest.fixture
def tiny_run(prepared: Path, tmp_path: Path) -> Callable[..., PretrainConfig]:
    """A PretrainConfig of two layers and six steps; keyword arguments override its fields."""
    return lambda **overrides: PretrainConfig(**tiny(prepared, tmp_path / "run", **overrides))


@pytest.fixture
def recipe(prepared: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the configuration of a tiny run in tmp_path/NAME as tmp_path/NAME.yaml and return that path."""

    def write(name: str = "run", nproc_per_node: int = 1, **overrides: Any) -> Path:
        return write_recipe(tmp_path / name, tiny(prepared, tmp_path / name, **overrides), nproc_per_node)

    return write


@pytest.fixture(scope="session")
def acn() -> Callable[..., subprocess.CompletedProcess]:
    """Run `acn` in a process of its own and return what it printed and its exit code."""
    return run_acn


@pytest.fixture(scope="session")
def finished(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of what `recipe` writes, in fp32. Tests look at it, and change and go on with copies."""
    run = tmp_path_factory.mktemp("finished") / "run"
    done = run_acn("pretrain", "--config", str(write_recipe(run, tiny(prepared, run, precision="fp32"))))
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture
def packed(tmp_path) -> Path:
    """A corpus packed by documents: several in a block of 32 tokens, padded at the end."""
    for name, seed in (("train", 1), ("validation", 2)):
        lines = sentences(120, seed).splitlines()
        texts = [" ".join(line.split()[: 3 + number % 7]) for number, line in enumerate(lines)]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(texts))
    corpus = CorpusConfig(train=str(tmp_path / "train.txt"), validation=str(tmp_path / "validation.txt"))
    output = tmp_path / "tokens"
    prepare_corpus(PrepareConfig(corpus=corpus, output=str(output), vocab_size=120, seq_length=32, packing="documents"))
    return output
