"""Real runs of `acn pretrain`: processes, gloo, DeepSpeed."""

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from pretrain.deepspeed_options import OffloadConfig
from pretrain.observe.figures import read_metrics
from tests.processes import start_acn

NOWHERE, CPU = OffloadConfig(), OffloadConfig(optimizer="cpu")


def losses(run: Path) -> dict[int, float]:
    return read_metrics(run)["train/loss"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return AutoModelForMaskedLM.from_pretrained(run / "model").state_dict()


def assert_same_run(one: Path, other: Path) -> None:
    """Same loss at every step and same weights at the end, bit for bit."""
    assert losses(one) == losses(other)
    theirs = weights(other)
    assert all(torch.equal(value, theirs[name]) for name, value in weights(one).items())


QUICK = [(1, "fp32", NOWHERE), (3, "bf16", NOWHERE)]
SLOW = [(stage, precision, NOWHERE) for stage in range(4) for precision in ("fp32", "bf16")]
SLOW += [(1, "bf16", CPU), (2, "fp32", CPU), (3, "fp32", CPU), (3, "bf16", OffloadConfig("cpu", "cpu"))]


@pytest.mark.parametrize(
    ("stage", "precision", "offload"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW if case not in QUICK)],
)
def test_a_resumed_run_is_bit_identical(acn, recipe, tmp_path, stage, precision, offload):
    """Two runs share their first three steps through a copied checkpoint; dropout is on."""
    settings = {"zero_stage": stage, "precision": precision, "offload": offload}
    done = acn("pretrain", "--config", str(recipe("whole", **settings)))
    assert done.returncode == 0, done.stderr
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    shutil.copytree(whole / "checkpoints" / "step-0000003", resumed / "checkpoints" / "step-0000003")
    shutil.copy(whole / "config.yaml", resumed / "config.yaml")
    again = acn("pretrain", "--config", str(recipe("resumed", **settings)))
    assert again.returncode == 0, again.stderr
    assert "at step 3" in again.stdout
    assert sorted(losses(resumed)) == [4, 5, 6]
    assert losses(resumed) == {step: losses(whole)[step] for step in (4, 5, 6)}
    theirs = weights(whole)
    assert all(torch.equal(value, theirs[name]) for name, value in weights(resumed).items())


def test_two_ranks_interrupted_and_resumed_equal_an_undisturbed_run(acn, recipe, tmp_path):
    done = acn("pretrain", "--config", str(recipe("whole", nproc_per_node=2, steps=40)))
    assert done.returncode == 0, done.stderr
    interrupted = recipe("interrupted", nproc_per_node=2, steps=40)
    stopped = _run_until_step(interrupted, step=5, then=signal.SIGINT)
    assert stopped.returncode == 75, stopped.stdout
    assert f"go on with: acn pretrain --config {tmp_path}/interrupted/config.yaml" in stopped.stdout
    last = max(losses(tmp_path / "interrupted"))
    assert last < 40
    resumed = acn("pretrain", "--config", str(tmp_path / "interrupted" / "config.yaml"))
    assert resumed.returncode == 0, resumed.stderr
    assert f"at step {last}" in resumed.stdout
    assert_same_run(tmp_path / "whole", tmp_path / "interrupted")


def _run_until_step(config: Path, step: int, then: signal.Signals) -> subprocess.CompletedProcess:
    """Start a run and send it and its ranks a signal at a step, as a terminal's Ctrl-C does."""
    process = start_acn("pretrain", "--config", str(config), merge_stderr=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.match(rf"step +{step}/", line):
            process.signal_group(then)
    return subprocess.CompletedProcess(process.args, process.wait(), "".join(lines))


def test_two_ranks_see_the_global_batches_of_one(acn, recipe, tmp_path):
    """No dropout: the losses differ by rounding alone."""
    import dataclasses

    from pretrain import ModelConfig

    model = ModelConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    for ranks in (1, 2):
        name = f"ranks{ranks}"
        model = dataclasses.replace(model, max_position_embeddings=16)
        done = acn("pretrain", "--config", str(recipe(name, nproc_per_node=ranks, model=model)))
        assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "ranks1"), losses(tmp_path / "ranks2")
    assert list(one) == list(two) == [1, 2, 3, 4, 5, 6]
    assert list(one.values()) == pytest.approx(list(two.values()), rel=1e-5)


def test_a_finished_run_leaves_what_it_promises(acn, recipe, tmp_path, prepared):
    done = acn("pretrain", "--config", str(recipe("run")))
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    model = AutoModelForMaskedLM.from_pretrained(run / "model")
    assert model.config.connectivity == "acn"
    assert len(AutoTokenizer.from_pretrained(run / "model")) == model.config.vocab_size
    curves = read_metrics(run)
    assert sorted(curves["validation/accuracy_depth_02"]) == [3, 6]
    assert (run / "pretraining.png").read_bytes().startswith(b"\x89PNG")
    steps = sorted(path.name for path in (run / "checkpoints").iterdir() if (path / "COMPLETE").exists())
    assert steps == ["step-0000003", "step-0000006"]
    again = acn("pretrain", "--config", str(run / "config.yaml"))
    assert again.returncode == 0, again.stderr
    assert "at step 6" in again.stdout


def test_an_exported_checkpoint_is_the_trained_model_at_any_depth(acn, recipe, tmp_path):
    done = acn("pretrain", "--config", str(recipe("run", zero_stage=2)))
    assert done.returncode == 0, done.stderr
    trained = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "model")
    ids = torch.arange(5, 15)[None]
    for depth, cut in ((2, []), (1, ["--depth", "1"])):
        folder = tmp_path / f"depth{depth}"
        exported = acn("export", str(tmp_path / "run"), str(folder), *cut)
        assert exported.returncode == 0, exported.stderr
        assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == depth
        assert torch.equal(AutoModelForMaskedLM.from_pretrained(folder)(ids).logits, trained(ids, depth=depth).logits)
    taken = acn("export", str(tmp_path / "run"), str(tmp_path / "depth1"))
    assert taken.returncode == 2
    assert "exists" in taken.stderr
