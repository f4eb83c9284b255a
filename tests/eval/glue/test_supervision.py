"""Fine-tuning with depth supervision."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import TrainerState

from eval import EvalError, FinetuneConfig, run_suite
from eval.glue import check_suite
from eval.glue.supervision import supervised
from eval.models import load_tokenizer
from eval.results import read_results
from modeling import AcnConfig, AcnForSequenceClassification, AcnModel, DepthSupervision

KINDS = ("deep", "adaptive", "layerskip", "layerdrop")


@pytest.fixture
def config(pretrained: Path, glue_dir: Path, tmp_path: Path) -> FinetuneConfig:
    """A few steps on a small task."""
    return FinetuneConfig(
        model=str(pretrained), tasks="sst2", output=str(tmp_path / "out"), glue_dir=str(glue_dir), epochs=2,
        learning_rate=1e-3, batch_size=8, max_length=16, max_train_samples=48, max_eval_samples=16, precision="fp32",
        speed=False,
    )  # fmt: skip


def test_for_a_while_the_loss_is_that_of_the_step(pretrained: Path) -> None:
    model = AcnForSequenceClassification.from_pretrained(pretrained, num_labels=3).double()
    ids, labels = torch.randint(5, model.config.vocab_size, (4, 7)), torch.tensor([0, 1, 2, 1])
    plain = model.eval()(input_ids=ids, labels=labels)
    supervision = DepthSupervision("layerskip")
    with supervised(model, supervision, seed=5) as (counter,):
        assert model(input_ids=ids, labels=labels).loss == plain.loss, "as it was, but in training"
        model.train()
        for step in range(4):
            counter.on_step_begin(None, TrainerState(global_step=step), None)
            weights = supervision.weights(model.config.num_hidden_layers, 5, step)
            read_outs = list(model.acn.read_outs(input_ids=ids, left_out=weights.left_out))
            losses = [torch.nn.functional.cross_entropy(model.head_logits(read_out), labels) for read_out in read_outs]
            expected = sum(weight * losses[depth] for depth, weight in weights.loss.items())
            torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, expected)
    assert "forward" not in vars(model)
    torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, plain.loss)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["sst2", "stsb"])
def test_every_kind_trains_and_is_recorded(config: FinetuneConfig, make_tracker: type, kind: str, task: str) -> None:
    supervision = DepthSupervision(kind)  # type: ignore[arg-type]
    asked = replace(config, tasks=task, supervision=supervision)
    (results,) = run_suite(asked, make_tracker().open)
    assert results.train["mean_loss"] > 0
    found = read_results(Path(config.output) / task)
    assert found.settings is not None
    assert found.settings["supervision"] == {"kind": kind, "weight": None, "drop": None}
    with pytest.raises(EvalError, match="supervision was"):
        check_suite(replace(asked, supervision=DepthSupervision()), world_size=1)


def test_no_layer_left_out_is_plain_fine_tuning(config: FinetuneConfig, make_tracker: type, tmp_path: Path) -> None:
    found = []
    for name, supervision in (("plain", DepthSupervision()), ("nothing", DepthSupervision("layerdrop", drop=0.0))):
        asked = replace(config, output=str(tmp_path / name), supervision=supervision)
        (results,) = run_suite(asked, make_tracker().open)
        found.append([results.train["mean_loss"], *results.depth_scores])
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-4)


def test_the_first_depth_learns_where_it_is_trained(
    config: FinetuneConfig, make_tracker: type, glue_dir: Path, tmp_path: Path
) -> None:
    """Its loss on what was trained on, after as many steps from the same weights."""
    rows = pq.read_table(glue_dir / "sst2" / "train.parquet").to_pydict()
    labels, losses = torch.tensor(rows["label"]), {}
    for kind in ("none", "deep"):
        supervision = DepthSupervision(kind)  # type: ignore[arg-type]
        asked = replace(config, output=str(tmp_path / kind), supervision=supervision, epochs=4, max_train_samples=None)
        run_suite(asked, make_tracker().open)
        folder = str(tmp_path / kind / "sst2")
        model = AcnForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = load_tokenizer(folder, model.config)
        inputs = tokenizer(rows["sentence"], padding=True, truncation=True, max_length=16, return_tensors="pt")
        with torch.no_grad():
            losses[kind] = float(torch.nn.functional.cross_entropy(list(model.depth_logits(**inputs))[1], labels))
    assert losses["deep"] < 0.9 * losses["none"]


def test_what_cannot_be_is_refused_before_anything_runs(
    config: FinetuneConfig, tmp_path: Path, pretrained: Path
) -> None:
    with pytest.raises(
        EvalError, match=r"supervision\.drop=0\.1 is for layerskip and layerdrop, not deep: leave it out"
    ):
        check_suite(replace(config, supervision=DepthSupervision("deep", drop=0.1)), world_size=1)
    whole = AcnModel.from_pretrained(pretrained)
    AcnModel(AcnConfig(**whole.config.to_dict() | {"num_hidden_layers": 1})).save_pretrained(tmp_path / "one")
    for file in pretrained.glob("*token*"):
        (tmp_path / "one" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(EvalError, match=r"supervision\.kind=deep needs two layers at least, .* has 1: leave it out"):
        check_suite(replace(config, model=str(tmp_path / "one"), supervision=DepthSupervision("deep")), world_size=1)
