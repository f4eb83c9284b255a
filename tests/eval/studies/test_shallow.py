"""Contenders for a shallow model: trained alike, measured in turn, and a sentence that follows from the numbers."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from eval import EvalError, ReportConfig, read_results, read_trial, write_report
from eval.studies import StudyConfig, run_studies
from eval.studies.shallow import Candidate, choose, verdict
from modeling import AcnConfig, AcnForMaskedLM

TRAINED = {"learning_rate": 1e-3, "max_train_samples": 32, "max_eval_samples": 20, "batch_size": 16, "max_length": 16}


@pytest.fixture(scope="session")
def save_model(
    tmp_path_factory: pytest.TempPathFactory, small_config: Callable[..., AcnConfig], tokenizer: Any
) -> Callable[..., Path]:
    """Writes RUN/model; keyword arguments are of its configuration, `change` changes it before."""

    def save(run: str, change: Callable[[AcnForMaskedLM], None] = lambda model: None, **overrides: Any) -> Path:
        folder = tmp_path_factory.mktemp("runs") / run / "model"
        torch.manual_seed(0)
        model = AcnForMaskedLM(small_config(**{"initializer_range": 0.1} | overrides))
        with torch.no_grad():
            change(model)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def twins(save_model: Callable[..., Path]) -> tuple[Path, Path]:
    """Starting models `acn` of three layers and `bert` of two, which has residuals."""
    return save_model("acn"), save_model("bert", connectivity="residual", num_hidden_layers=2)


def _config(twins: tuple[Path, Path], output: Path, glue_dir: Path, **overrides: Any) -> StudyConfig:
    shallow = {name: overrides.pop(name) for name in list(overrides) if name in ("supervision", "rate_multiples")}
    values = TRAINED | {"tasks": "sst2", "seeds": "1,2", "precision": "fp32"} | overrides
    config = StudyConfig("shallow", str(twins[0]), str(output), glue_dir=str(glue_dir), **values)
    config.shallow.against = ",".join(map(str, twins[1:]))
    for name, value in ({"supervision": "none,deep", "rate_multiples": "1"} | shallow).items():
        setattr(config.shallow, name, value)
    return config


@pytest.fixture(scope="module")
def study(twins: tuple[Path, Path], glue_dir: Path, tmp_path_factory: Any, make_tracker: type) -> tuple:
    """A study of two models and two kinds: its folder, study.json, its tracker and those of its contenders."""
    output, tracker, children = tmp_path_factory.mktemp("shallow") / "out", make_tracker(), {}

    @contextmanager
    def child(name: str, folder: Path) -> Iterator[Any]:
        assert folder == output / "contenders" / name
        children[name] = make_tracker()
        yield children[name]

    config = _config(twins, output, glue_dir, rate_multiples="1,1e18")
    (content,) = run_studies(config, tracker.open, child)
    return output, content, tracker, children


NAMES = ["acn", "acn+deep", "bert", "bert+deep"]


def test_every_contender_is_scored_at_every_depth_against_every_cost(study: tuple) -> None:
    output, content, tracker, _ = study
    assert content == json.loads((output / "shallow" / "study.json").read_text())
    assert (output / "shallow" / "shallow.png").stat().st_size > 5000
    axes = ["depth (layers kept)", "GFLOPs for a text of 16 tokens", "ms for a text of 16 tokens"]
    assert [(curve["label"], curve["x_label"]) for curve in content["curves"]] == [
        (name, axis) for name in NAMES for axis in axes
    ]
    for curve in content["curves"]:
        suite = read_results(output / "contenders" / curve["label"] / "sst2")
        assert [point["mean"] for point in curve["points"]] == pytest.approx(suite.aggregate.depth_mean)
        assert [point["std"] for point in curve["points"]] == pytest.approx(suite.aggregate.depth_std)
        xs = [point["x"] for point in curve["points"]]
        if curve["x_label"] == axes[0]:
            assert xs == list(range(len(suite.depth_scores)))
        if curve["x_label"] == axes[1]:
            assert xs == [flops / 1e9 for flops in suite.flops_by_depth]
        assert all(x > 0 for x in xs[1:])
    assert {point["x"] for point in content["curves"][2]["points"]} == {
        point["x"] for point in content["curves"][5]["points"]
    }, "supervision does not change what is measured"
    assert any(metric.startswith("shallow/accuracy/") for _, values in tracker.metrics for metric in values)


def test_the_budget_is_equal_and_the_rate_is_chosen_on_training_examples(study: tuple) -> None:
    output, content, _, _ = study
    trials = [read_trial(output / "contenders" / name / "sst2" / f"seed-{seed}") for name in NAMES for seed in (1, 2)]
    shared = [
        {name: trial.train[name] for name in ("samples", "epochs", "batch_size", "steps", "max_length")}
        for trial in trials
    ]
    assert all(one == shared[0] for one in shared)
    assert [trial.settings["supervision"]["kind"] for trial in trials] == ["none", "none", "deep", "deep"] * 2
    tried = read_trial(output / "contenders" / "bert" / "sst2" / "grid" / "learning_rate=0.001")
    assert (tried.scored_on.split, tried.scored_on.examples) == ("train", 20)
    remarks = {row[0]: row[-1] for row in content["table"]["rows"]}
    assert list(remarks) == NAMES
    assert all("diverged at the rate 1e+15" in remark for remark in remarks.values())
    assert {row[1] for row in content["table"]["rows"]} == {1e-3}


def test_each_contender_has_a_record_of_its_own(study: tuple) -> None:
    _, _, tracker, children = study
    assert list(children) == NAMES
    assert tracker.opened == 1
    for child in children.values():
        names = {name for _, values in child.metrics for name in values}
        assert {"seed-1/sst2/loss", "seed-2/sst2/loss", "sst2/full_score", "sst2/depth_score_std"} <= names
        assert child.settings["seed-2/learning_rate"] == 1e-3
        assert "learning_rate" in child.settings


def test_a_report_has_the_study_and_not_its_fine_tunings(study: tuple, tmp_path: Path) -> None:
    output, content, _, _ = study
    page = write_report(ReportConfig([str(output)], str(tmp_path / "report"))).read_text()
    assert content["verdict"] in page
    assert 'id="study-shallow"' in page
    assert 'id="sst2"' not in page
    assert (tmp_path / "report" / "figures" / "study-shallow.png").stat().st_size > 5000
    page = write_report(ReportConfig([str(output / "contenders")], str(tmp_path / "of-contenders"))).read_text()
    assert 'id="sst2"' in page
    shutil.copytree(output / "contenders", tmp_path / "mine" / "contenders")
    page = write_report(ReportConfig([str(tmp_path / "mine")], str(tmp_path / "of-mine"))).read_text()
    assert 'id="sst2"' in page, "a folder of that name with no study beside it"


def test_what_is_finished_is_kept(
    study: tuple, twins: tuple[Path, Path], glue_dir: Path, tmp_path: Path, tracker: Any, capsys: Any
) -> None:
    """Of a study that was ended on the way, too: contenders' trials are found again."""
    config = _config(twins, tmp_path, glue_dir, supervision="none", seeds="1")
    (first,) = run_studies(config, tracker.open)
    (tmp_path / "shallow" / "study.json").rename(tmp_path / "earlier.json")
    for path in (tmp_path / "shallow").iterdir():
        path.unlink()
    (tmp_path / "shallow").rmdir()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("seed-1/results.json")}
    assert len(written) == 2
    capsys.readouterr()
    config.shallow.supervision = "none,deep"
    (second,) = run_studies(config, tracker.open)
    said = capsys.readouterr().out
    assert said.count("sst2: done before") == 2
    assert {path: path.stat().st_mtime_ns for path in written} == written
    scores = {row[0]: row[2] for row in second["table"]["rows"]}
    assert {row[0]: row[2] for row in first["table"]["rows"]} == {name: scores[name] for name in ("acn", "bert")}
    assert f"shallow: {second['verdict']}" in said
    assert "shallow: finished already, kept" not in said
    (tmp_path / "shallow").rename(tmp_path / "elsewhere")
    config.batch_size = 8
    with pytest.raises(EvalError, match="batch_size was 16"):
        run_studies(config, tracker.open)


def test_a_contender_that_diverges_is_told_and_the_others_go_on(
    twins: tuple[Path, Path], save_model: Callable[..., Path], glue_dir: Path, tmp_path: Path, tracker: Any
) -> None:
    """One whose position beyond those that loading looks at is so large that its normalisation has no number for it."""

    def break_position(model: AcnForMaskedLM) -> None:
        model.acn.embeddings.position_embeddings.weight[9:].fill_(3e38)

    broken = save_model("broken", break_position)
    config = _config((twins[0], broken), tmp_path / "out", glue_dir, supervision="none", seeds="1")
    (content,) = run_studies(config, tracker.open)
    rows = {row[0]: row for row in content["table"]["rows"]}
    assert rows["broken"][-1].startswith("diverged: sst2: the loss is nan at step")
    assert rows["broken"][1:-1] == [None] * 8
    assert {curve["label"] for curve in content["curves"]} == {"acn"}
    assert "broken" not in content["verdict"]
    write_report(ReportConfig([str(tmp_path / "out")], str(tmp_path / "report")))
    config = _config((broken,), tmp_path / "alone", glue_dir, supervision="none", seeds="1")
    with pytest.raises(EvalError, match=r"broken diverged: sst2: the loss is nan"):
        run_studies(config, tracker.open)


def test_every_mistake_is_named_before_anything_is_written(
    twins: tuple[Path, Path], save_model: Callable[..., Path], finetuned: Path, glue_dir: Path, tmp_path: Path,
    tracker: Any,
) -> None:  # fmt: skip
    one = save_model("one", num_hidden_layers=1)
    config = _config((one, finetuned, tmp_path / "none"), tmp_path / "out", glue_dir, tasks="sst2,docpair")
    with pytest.raises(EvalError) as error:
        run_studies(config, tracker.open)
    told = str(error.value).splitlines()
    assert told[0] == f"model={one} has 1 layer: no depth to compare: give a model of two layers or more"
    assert told[1].startswith(f"shallow.against={finetuned} is fine-tuned on sst2: shallow needs a pretrained one")
    assert "none" in told[2]
    assert told[3].startswith("tasks=sst2,docpair are several: shallow compares on one: name one")
    config = _config(twins, tmp_path / "out", glue_dir, supervision="none,shallow", rate_multiples="0")
    config.shallow.budgets, config.shallow.tolerance = "0.5,1.5", -1.0
    config.shallow.against = f"{twins[0]},{twins[1]},{twins[1]}"
    with pytest.raises(EvalError) as error:
        run_studies(config, tracker.open)
    fields = [problem.field for problem in error.value.problems]
    assert fields == [f"shallow.{name}" for name in
                      ("rate_multiples", "budgets", "supervision", "against", "tolerance", "against")]  # fmt: skip
    with pytest.raises(EvalError, match=r"max_train_samples=10.* or data|glue_dir=nowhere"):
        run_studies(_config(twins, tmp_path / "out", Path("nowhere")), tracker.open)
    assert not (tmp_path / "out").exists()
    assert not tracker.opened


# ---------------------------------------------------------------------------------------------------------
# the rule


def _curve(name: str, means: list[float], spread: float = 0.01, chance: float = 0.6) -> list[Candidate]:
    """A contender whose time grows with its depth, with two seeds about each mean."""
    return [
        Candidate(name, depth, len(means) - 1, [mean - spread, mean + spread], 1.0 + depth, mean < chance)
        for depth, mean in enumerate(means)
    ]


def test_the_fastest_within_the_tolerance_is_shipped() -> None:
    flat, late = _curve("flat", [0.5, 0.80, 0.804, 0.805]), _curve("late", [0.5, 0.5, 0.5, 0.9])
    chosen, ties = choose(flat, tolerance=0.005)
    assert (chosen.depth, ties) == (1, [])
    assert choose(flat, tolerance=0.0)[0].depth == 3
    assert verdict([*flat, *late], [1, 0.5, 0.75], tolerance=0.005) == (
        "Up to 50% of the time: flat cut at 1 of 3 layers, 0.800 ± 0.014; up to 75%: the same; "
        "with all of it: late whole, 0.900 ± 0.014."
    )


def test_differences_within_the_deviation_are_ties_and_slower_ones_are_not() -> None:
    best = _curve("best", [0.5, 0.8, 0.8])
    near, far = _curve("near", [0.5, 0.785, 0.785]), _curve("far", [0.5, 0.7, 0.79])
    chosen, ties = choose([*near, *best, *far], tolerance=0.0)
    assert (chosen.contender, chosen.depth) == ("best", 1)
    assert ties == ["near"], "0.015 is within sqrt(2) * 0.014; far needs another layer for it"
    single = [Candidate(one.contender, one.depth, one.layers, one.scores[:1], one.cost) for one in [*near, *best]]
    assert choose(single, tolerance=0.0)[1] == [], "one seed tells nothing of the deviation"


def test_times_that_differ_by_a_measurement_are_the_same() -> None:
    """The better of two that are as fast, and a half whose embeddings make it a little more than half."""
    slow, fast = Candidate("slow", 1, 2, [0.80], 1.03), Candidate("fast", 1, 2, [0.798], 1.0)
    assert choose([slow, fast], tolerance=0.005)[0] == slow
    whole = Candidate("slow", 2, 2, [0.9], 2.0)
    assert verdict([slow, whole], [0.5], tolerance=0.0).startswith("Up to 50% of the time: slow cut at 1 of 2 layers")


def test_what_is_at_chance_is_not_shipped() -> None:
    told = verdict(_curve("acn", [0.5, 0.5, 0.8]), [0.1, 0.7, 1], tolerance=0.005)
    assert told == (
        "Up to 10% of the time: nothing is as fast; up to 70%: nothing is above chance (0.500); "
        "with all of it: acn whole, 0.800 ± 0.014."
    )
