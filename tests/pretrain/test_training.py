"""Real runs of `acn pretrain`: processes, gloo, DeepSpeed."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from pretrain.deepspeed_options import OffloadConfig
from pretrain.observe.figures import read_metrics
from tests.pretrain import held_rank
from tests.pretrain.conftest import continued
from tests.processes import start, wait_until

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
    # slow: ten more pairs of runs, and offloading compiles DeepSpeed's CPU Adam first
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW if case not in QUICK)],
)
def test_a_resumed_run_is_bit_identical(acn, recipe, finished, tmp_path, stage, precision, offload):
    """Two runs share their first three steps through a copied checkpoint; dropout is on."""
    settings = {"zero_stage": stage, "precision": precision, "offload": offload}
    if (stage, precision, offload) == QUICK[0]:  # the defaults
        whole = finished
    else:
        whole = tmp_path / "whole"
        done = acn("pretrain", "--config", str(recipe("whole", **settings)))
        assert done.returncode == 0, done.stderr
    resumed = continued(whole, tmp_path / "resumed", step=3)
    again = acn("pretrain", "--config", str(recipe("resumed", **settings)))
    assert again.returncode == 0, again.stderr
    assert "at step 3" in again.stdout
    assert sorted(losses(resumed)) == [4, 5, 6]
    assert losses(resumed) == {step: losses(whole)[step] for step in (4, 5, 6)}
    theirs = weights(whole)
    assert all(torch.equal(value, theirs[name]) for name, value in weights(resumed).items())


def test_two_ranks_interrupted_and_resumed_equal_an_undisturbed_run(acn, recipe, tmp_path):
    done = acn("pretrain", "--config", str(recipe("whole", nproc_per_node=2, steps=8)))
    assert done.returncode == 0, done.stderr
    stopped = start(held_rank.launch, tmp_path, recipe("interrupted", nproc_per_node=2, steps=8), 5, merge_stderr=True)
    wait_until(lambda: len(list(tmp_path.glob("held-?"))) == 2, stopped)
    stopped.signal_group(signal.SIGINT)  # as a terminal's Ctrl-C does
    output, _ = stopped.communicate()
    assert stopped.wait() == 75, output
    assert f"go on with: acn pretrain --config {tmp_path}/interrupted/config.yaml" in output
    assert max(losses(tmp_path / "interrupted")) == 5
    resumed = acn("pretrain", "--config", str(tmp_path / "interrupted" / "config.yaml"))
    assert resumed.returncode == 0, resumed.stderr
    assert "at step 5" in resumed.stdout
    assert_same_run(tmp_path / "whole", tmp_path / "interrupted")


def test_two_ranks_see_the_global_batches_of_one(acn, recipe, tiny_run, tmp_path):
    """No dropout: the losses differ by rounding alone."""
    model = replace(tiny_run().model, hidden_dropout_prob=0.0)
    for ranks in (1, 2):
        done = acn("pretrain", "--config", str(recipe(f"ranks{ranks}", nproc_per_node=ranks, model=model)))
        assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "ranks1"), losses(tmp_path / "ranks2")
    assert list(one) == list(two) == [1, 2, 3, 4, 5, 6]
    assert list(one.values()) == pytest.approx(list(two.values()), rel=1e-5)


def test_a_finished_run_leaves_what_it_promises(finished):
    run = finished
    model = AutoModelForMaskedLM.from_pretrained(run / "model")
    assert model.config.connectivity == "acn"
    assert len(AutoTokenizer.from_pretrained(run / "model")) == model.config.vocab_size
    curves = read_metrics(run)
    assert sorted(curves["validation/accuracy_depth_02"]) == [3, 6]
    assert (run / "pretraining.png").read_bytes().startswith(b"\x89PNG")
    steps = sorted(path.name for path in (run / "checkpoints").iterdir() if (path / "COMPLETE").exists())
    assert steps == ["step-0000003", "step-0000006"]


def test_a_finished_run_has_nothing_left_to_do(acn, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    again = acn("pretrain", "--config", str(run / "config.yaml"), "--output", str(run))
    assert again.returncode == 0, again.stderr
    assert "at step 6" in again.stdout
    assert_same_run(finished, run)


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
