"""What a run computes in: the scores are the same within their error, and it is said, recorded, and never mixed."""

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import DataCollatorWithPadding

from eval import (
    TASKS,
    CompressConfig,
    EvalError,
    FinetuneConfig,
    compress_model,
    depth_sweep,
    find_cut,
    load_task,
    read_results,
    run_suite,
)
from eval.compress.rescore import Rescorer, check_score
from eval.glue import encode, run_trainer, trainer_arguments
from eval.glue.linear_probe import depth_features
from eval.models import load_finetuned
from eval.precision import own_precision, precision_problems
from eval.predict import PredictConfig, predict_file
from eval.studies import StudyConfig, run_studies
from eval.studies.consolidation import SynapticIntelligence
from eval.studies.early_exit import weighted_depth_loss
from eval.studies.pruning import MovementPruning
from eval.studies.training import StudyTrainer
from modeling import AcnForSequenceClassification
from modeling.modeling_acn import AcnLayer

FILLER = ["the", "film", "book", "was", "a", "and", "very", "plot", "actor", "long"]
MakeClassifier = Callable[..., AcnForSequenceClassification]


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this machine one without a GPU whose processor multiplies bf16, or fp16, or not."""

    def set_up(bf16: bool = False, fp16: bool = False) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": bf16})
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: fp16)

    return set_up


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory, save_split: Callable[..., None]) -> str:
    """Words of praise and blame, one label in eight wrong: what can be learned of it scores about 0.87."""
    folder, rng = tmp_path_factory.mktemp("doubtful"), random.Random(0)
    for split, size in (("train", 320), ("validation", 200)):
        labels = [rng.randrange(2) for _ in range(size)]
        words = [("bad", "good")[label] for label in labels]
        sentences = [" ".join([*rng.choices(FILLER, k=3), word, *rng.choices(FILLER, k=3)]) for word in words]
        told = [1 - label if rng.random() < 1 / 8 else label for label in labels]
        save_split(folder, "sst2", split, {"sentence": sentences, "label": told, "idx": list(range(size))})
    return str(folder)


@pytest.fixture(scope="module")
def suites(
    config: FinetuneConfig, doubtful: str, tmp_path_factory: pytest.TempPathFactory, make_tracker: type
) -> dict[str, tuple]:
    """Three seeds in fp32 and in bf16: the folder of the task, its results and the tracker of each."""
    config = replace(config, glue_dir=doubtful, seeds="1,2,3")
    found = {}
    for precision in ("fp32", "bf16"):
        output, tracker = tmp_path_factory.mktemp(precision) / "glue", make_tracker()
        (results,) = run_suite(replace(config, output=str(output), precision=precision), tracker.open)
        found[precision] = (output / "sst2", results, tracker)
    return found


def test_three_seeds_score_the_same_in_bf16_as_in_fp32_within_a_standard_error(suites: dict[str, tuple]) -> None:
    plain, half = (suites[precision][1].aggregate for precision in ("fp32", "bf16"))
    assert 0.75 < plain.depth_mean[-1] < 0.95, "learned, and not without fault: else equal scores would prove nothing"
    assert half.depth_mean[-1] == pytest.approx(plain.depth_mean[-1], abs=plain.standard_error)


def test_the_precision_is_recorded_with_every_result(suites: dict[str, tuple]) -> None:
    for precision, (folder, results, tracker) in suites.items():
        assert results.precision == results.settings["precision"] == results.speed.precision == precision
        assert tracker.settings["precision"] == precision
        for path in (folder / "results.json", folder / "seed-1" / "results.json"):
            assert json.loads(path.read_text())["precision"] == precision


@pytest.mark.parametrize(
    ("bf16", "line"), [(True, "bf16 (auto), attention eager"), (False, "fp32 (auto), attention sdpa")]
)
def test_auto_is_decided_once_said_in_one_line_and_recorded_as_what_it_came_to(
    config: FinetuneConfig, tmp_path: Path, tracker: Any, processor: Any, capsys: Any, bf16: bool, line: str
) -> None:
    processor(bf16=bf16)
    asked = replace(config, output=str(tmp_path / "glue"), epochs=1, max_train_samples=16, speed=False)
    (results,) = run_suite(asked, tracker.open)
    assert re.findall(r"^computing in .*$", capsys.readouterr().out, re.M) == [f"computing in {line}, on cpu"]
    assert results.precision == line[:4]


def test_bf16_without_instructions_for_it_is_warned_of(
    suites: dict[str, tuple], tmp_path: Path, processor: Any, capsys: Any
) -> None:
    processor(bf16=False)
    (tmp_path / "texts.txt").write_text("a good film")
    predict_file(PredictConfig(str(suites["bf16"][0]), str(tmp_path / "texts.txt"), precision="bf16"))
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first == "computing in bf16, attention eager, on cpu"
    assert second.startswith("WARNING: this CPU has no bf16 instructions")


def test_what_the_machine_lacks_is_refused_before_any_work(
    config: FinetuneConfig, suites: dict[str, tuple], glue_dir: Path, tmp_path: Path, tracker: Any, processor: Any
) -> None:
    processor(fp16=False)
    output, folder = str(tmp_path / "out"), str(suites["fp32"][0])
    (tmp_path / "texts.txt").write_text("a good film")
    asked: list[Callable[[], Any]] = [
        lambda: run_suite(replace(config, output=output, precision="fp16"), tracker.open),
        lambda: run_studies(StudyConfig("lesion", folder, output, precision="fp16"), tracker.open),
        lambda: compress_model(CompressConfig(folder, output, precision="fp16")),
        lambda: predict_file(PredictConfig(folder, str(tmp_path / "texts.txt"), f"{output}.csv", precision="fp16")),
    ]
    for run in asked:
        with pytest.raises(EvalError, match="precision=fp16: this CPU has no fp16 arithmetic: use bf16, fp32 or auto"):
            run()
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["texts.txt"]
    assert not tracker.opened


def test_training_in_fp16_needs_a_gpu_where_answering_does_not(processor: Any) -> None:
    """Or accelerate would train in fp32, and say nothing."""
    processor(fp16=True)
    assert precision_problems("fp16") == []
    (problem,) = precision_problems("fp16", trains=True)
    assert str(problem) == "precision=fp16: training in it needs a GPU: use bf16, fp32 or auto"
    assert precision_problems("auto", trains=True) == precision_problems("bf16", trains=True) == []


def test_ranks_that_would_compute_in_different_precision_do_not_start(
    config: FinetuneConfig, tmp_path: Path, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eval.ranks.gather", lambda value: [value, "fp32"] if value == "bf16" else [value])
    with pytest.raises(EvalError, match="precision=auto is bf16 and fp32 on the machines of this job: name one"):
        run_suite(replace(config, output=str(tmp_path / "glue"), precision="bf16"), tracker.open)
    assert not tracker.opened


def _without_precision(path: Path) -> None:
    """Make a result one of before there was a choice."""
    content = json.loads(path.read_text())
    content.pop("precision", None)
    for inner in ("settings", "speed"):
        (content.get(inner) or {}).pop("precision", None)
    path.write_text(json.dumps(content))


def test_results_that_do_not_say_their_precision_are_fp32_and_others_do_not_join_them(
    config: FinetuneConfig, doubtful: str, suites: dict[str, tuple], tmp_path: Path, tracker: Any
) -> None:
    folder = tmp_path / "glue" / "sst2"
    shutil.copytree(suites["fp32"][0], folder)
    for path in folder.rglob("results.json"):
        _without_precision(path)
    results = read_results(folder)
    assert results.precision == results.speed.precision == "fp32"
    more = replace(config, glue_dir=doubtful, output=str(tmp_path / "glue"), seeds="1,2,3,4")
    with pytest.raises(EvalError, match=r"made with other settings \(precision was fp32, now bf16\)"):
        run_suite(replace(more, precision="bf16"), tracker.open)
    (joined,) = run_suite(replace(more, precision="fp32", speed=False), tracker.open)
    assert joined.seeds == [1, 2, 3, 4]


def test_a_precision_that_no_run_has_is_no_result(suites: dict[str, tuple], tmp_path: Path) -> None:
    folder = tmp_path / "sst2"
    shutil.copytree(suites["fp32"][0], folder)
    content = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(content | {"precision": "auto"}))
    with pytest.raises(EvalError, match="precision none of fp32, bf16, fp16"):
        read_results(folder)


# what is computed


def _examples(vocab_size: int, size: int) -> datasets.Dataset:
    rng = np.random.default_rng(3)
    ids = [[2, *rng.integers(5, vocab_size, rng.integers(1, 15)).tolist(), 3] for _ in range(size)]
    labels = rng.integers(0, 2, size).tolist()
    return datasets.Dataset.from_dict(
        {"input_ids": ids, "attention_mask": [[1] * len(i) for i in ids], "labels": labels}
    )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("connectivity", ["acn", "residual"])
def test_a_sweep_in_bf16_says_bit_for_bit_what_every_truncated_copy_does(
    classifier: MakeClassifier, tokenizer: Any, connectivity: str, attention: str
) -> None:
    overrides: dict[str, Any] = {"connectivity": connectivity, "attn_implementation": attention}
    model, task, collate = classifier(**overrides), TASKS["sst2"], DataCollatorWithPadding(tokenizer)
    data = _examples(model.config.vocab_size, 21)
    sweep, plain = (depth_sweep(model, data, task, collate, 4, precision=p) for p in ("bf16", "fp32"))
    for depth in range(4):
        copy = classifier(**overrides).truncate(depth)
        np.testing.assert_array_equal(
            depth_sweep(copy, data, task, collate, 4, precision="bf16").logits[-1], sweep.logits[depth]
        )
    assert sweep.logits.dtype == np.float32
    assert 1e-4 < np.abs(sweep.logits - plain.logits).max() < 0.1, "it is half precision, and not nonsense"


def test_predictions_are_those_of_the_sweep(
    suites: dict[str, tuple], glue_dir: Path, tmp_path: Path, tokenizer: Any
) -> None:
    folder = str(suites["bf16"][0])
    texts = load_task(TASKS["sst2"], str(glue_dir))["validation"]
    (tmp_path / "texts.txt").write_text("\n".join(texts["sentence"]))
    data, names = encode(TASKS["sst2"], texts, tokenizer, 16), TASKS["sst2"].labels
    model = load_finetuned(folder, "bf16")
    sweep = depth_sweep(model, data, TASKS["sst2"], DataCollatorWithPadding(tokenizer), precision="bf16")
    for depth in range(4):
        output = tmp_path / f"{depth}.jsonl"
        predict_file(PredictConfig(folder, str(tmp_path / "texts.txt"), str(output), depth, precision="bf16"))
        answers = [json.loads(line)["label"] for line in output.read_text().splitlines()]
        assert answers == [names[label] for label in sweep.predictions[depth]]


def test_probes_read_features_of_the_precision(classifier: MakeClassifier, tokenizer: Any) -> None:
    model, collate = classifier(), DataCollatorWithPadding(tokenizer)
    data = _examples(model.config.vocab_size, 12)
    half, plain = (depth_features(model, data, collate, precision) for precision in ("bf16", "fp32"))
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half[0], plain[0])  # no product makes x_0
    assert 1e-4 < np.abs(half[1:] - plain[1:]).max() < 0.2


@pytest.mark.parametrize("loss", [None, weighted_depth_loss])
@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_trainings_compute_in_the_precision_and_leave_the_model_as_it_was(
    classifier: MakeClassifier, tokenizer: Any, tmp_path: Path, monkeypatch: Any, precision: str, dtype: Any, loss: Any
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # as `accelerate launch` sets it: ours is what counts
    model, seen = classifier(), set()
    hook = model.acn.layers[0].mlp.up_proj.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    arguments = trainer_arguments(precision, output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4)
    data, collate = _examples(model.config.vocab_size, 8), DataCollatorWithPadding(tokenizer)
    run_trainer(StudyTrainer(model, arguments, data_collator=collate, train_dataset=data, loss=loss))
    assert seen == {dtype}
    hook.remove()
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not {"forward", "_original_forward"} & vars(model).keys()
    with torch.no_grad():
        ids = torch.tensor([[2, 6, 3]])
        assert model.cpu()(ids).logits.dtype == torch.float32


def test_a_step_that_a_loss_scale_drops_leaves_no_trace_in_what_studies_add_up() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    intelligence = SynapticIntelligence([weight], strength=1.0, damping=1e-3)
    linear = torch.nn.Linear(2, 1, bias=False)
    pruning = MovementPruning([linear], rate=0.5, steps_per_epoch=2)
    weight.grad, linear.weight.grad = torch.tensor([torch.inf, 1.0]), torch.tensor([[torch.nan, 1.0]])
    intelligence.before_step()
    intelligence.after_step()
    pruning.accumulate()
    assert torch.equal(intelligence.path[0], torch.zeros(2))
    assert torch.equal(pruning.scores[0], torch.zeros(1, 2))


# cutting


def test_a_cut_is_checked_in_the_precision_of_its_scores(suites: dict[str, tuple], tmp_path: Path) -> None:
    """The very same number: other precision would differ by examples that lie between the classes."""
    folder, results, _ = suites["bf16"]
    own = compress_model(CompressConfig(str(folder), str(tmp_path / "own"), precision="bf16"))
    fast = compress_model(CompressConfig(str(folder), str(tmp_path / "fast"), precision="fp32"))
    for cut, speed in ((own, "bf16"), (fast, "fp32")):
        assert cut.checked_score == cut.score == results.depth_scores[cut.depth]
        assert (cut.precision, cut.speed.precision) == ("bf16", speed)
        assert find_cut(Path(cut.output)).precision == "bf16"
        assert f"threads, {speed})" in "\n".join(cut.lines())
    assert "computed in bf16" in (tmp_path / "own" / "README.md").read_text()


def test_a_difference_that_rounding_to_half_precision_makes_is_no_other_model(
    classifier: MakeClassifier, tokenizer: Any, tmp_path: Path
) -> None:
    """Of another device for instance: as many examples may turn as differ from fp32 here."""
    model, collate, task = classifier(seed=3), DataCollatorWithPadding(tokenizer), TASKS["sst2"]
    with torch.no_grad():  # the classes' answers lie so near each other that rounding decides
        model.classifier.weight[1] = model.classifier.weight[0] * (1 + 2**-9)
    model.save_pretrained(tmp_path)
    data = _examples(model.config.vocab_size, 60)
    half, plain = (
        depth_sweep(load_finetuned(str(tmp_path), p), data, task, collate, precision=p) for p in ("bf16", "fp32")
    )
    turned = float(np.mean(half.predictions[-1] != plain.predictions[-1]))
    assert turned > 0.05
    rescorer = Rescorer(task, data, collate, "bf16")
    assert rescorer.rounding(tmp_path) == turned
    measured = rescorer.score(tmp_path)
    assert check_score(rescorer, tmp_path, measured + turned, "source") == measured
    with pytest.raises(EvalError, match="source: the cut model scores"):
        check_score(rescorer, tmp_path, measured + 1.0, "source")
    with pytest.raises(EvalError, match="source: the cut model scores"):
        check_score(replace(rescorer, precision="fp32"), tmp_path, measured + 1.0, "source")


def test_a_cut_is_timed_in_the_precision_of_its_scores_where_the_machine_has_it(processor: Any) -> None:
    processor(bf16=True)
    assert [own_precision("auto", recorded) for recorded in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp32"]
    processor(bf16=False, fp16=True)
    assert [own_precision("auto", recorded) for recorded in ("fp32", "bf16", "fp16")] == ["fp32", "fp32", "fp16"]
    assert own_precision("bf16", "fp32") == "bf16"


def test_scores_that_this_machine_cannot_compute_again_are_not_compared_with_others(
    suites: dict[str, tuple], tmp_path: Path, processor: Any
) -> None:
    folder = tmp_path / "sst2"
    shutil.copytree(suites["fp32"][0], folder)
    content = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(content | {"precision": "fp16"}))
    processor(fp16=False)
    config = CompressConfig(str(folder), str(tmp_path / "small"))
    with pytest.raises(
        EvalError, match="was scored in fp16, and this CPU has no fp16 arithmetic: check it where it was"
    ):
        compress_model(config)
    cut = compress_model(replace(config, check=False))
    assert (cut.precision, cut.speed.precision, cut.checked_score) == ("fp16", "fp32", None)


# studies


def _study(model: Path, glue_dir: str, output: Path, studies: str, precision: str) -> StudyConfig:
    few: dict[str, Any] = {"max_train_samples": 16, "max_eval_samples": 12, "seeds": "1", "precision": precision}
    config = StudyConfig(studies, str(model), str(output), glue_dir=glue_dir, **few)
    config.geometry.samples, config.geometry.lanczos_steps, config.geometry.exact_up_to = 1, 8, 0
    return config


def test_studies_record_their_precision_and_old_ones_are_fp32(
    suites: dict[str, tuple], doubtful: str, tmp_path: Path, tracker: Any, capsys: Any
) -> None:
    folder = suites["fp32"][0]
    half = _study(folder, doubtful, tmp_path / "half", "lesion,geometry", "bf16")
    lesion, geometry = run_studies(half, tracker.open)
    assert lesion["precision"] == lesion["settings"]["precision"] == tracker.settings["precision"] == "bf16"
    assert geometry["precision"] == geometry["settings"]["precision"] == "fp64", "whatever was asked for"
    assert capsys.readouterr().out.startswith("computing in bf16, attention eager, on cpu\n")

    plain = _study(folder, doubtful, tmp_path / "plain", "lesion,geometry", "fp32")
    before = run_studies(plain, tracker.open)
    for name in ("lesion", "geometry"):
        _without_precision(tmp_path / "plain" / name / "study.json")
    assert [content["curves"] for content in run_studies(plain, tracker.open)] == [one["curves"] for one in before]
    with pytest.raises(EvalError, match="lesion exists and is of other settings"):
        run_studies(replace(plain, precision="bf16"), tracker.open)
    (kept,) = run_studies(replace(plain, studies="geometry", precision="bf16"), tracker.open)
    assert kept["curves"] == before[1]["curves"], "of float64 either way"


# compiled layers


@pytest.mark.slow  # compilers take their time
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_layers_learn_what_plain_ones_do_and_the_model_is_the_same_kind(
    config: FinetuneConfig, doubtful: str, tmp_path: Path, tracker: Any, precision: str
) -> None:
    """Batches are of many lengths: one compilation serves them."""
    asked = replace(config, glue_dir=doubtful, precision=precision, best_epoch=True, epochs=2, speed=False)
    found = {}
    for compile in (False, True):
        output = tmp_path / str(compile)
        (found[compile],) = run_suite(replace(asked, output=str(output), compile=compile), tracker.open)
        names = load_file(output / "sst2" / "model.safetensors").keys()
        assert not [name for name in names if "_orig_mod" in name]
        assert found[compile].train["compile"] is compile
    assert found[True].depth_scores == pytest.approx(found[False].depth_scores, abs=found[False].standard_error)
    assert found[True].train["mean_loss"] == pytest.approx(found[False].train["mean_loss"], rel=0.05)


def test_layers_are_compiled_for_the_training_alone(
    config: FinetuneConfig, doubtful: str, tmp_path: Path, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is scored computes as the written model does when it is loaded: plainly."""
    seen: list[tuple[bool, bool]] = []

    def compiled(layer: AcnLayer, dynamic: bool, mode: str | None) -> None:
        layer._compiled_call_impl = lambda *args, **kwargs: (
            seen.append((layer.training, dynamic)) or layer._call_impl(*args, **kwargs)
        )

    monkeypatch.setattr(AcnLayer, "compile", compiled)
    asked = replace(config, glue_dir=doubtful, output=str(tmp_path / "glue"), compile=True, max_train_samples=16)
    run_suite(replace(asked, epochs=1, speed=False), tracker.open)
    assert set(seen) == {(True, True)}


def test_a_compiler_is_asked_for_before_the_training(
    config: FinetuneConfig, tmp_path: Path, tracker: Any, processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EvalError, match=r"compile=true needs a C\+\+ compiler: there is no no-such-compiler"):
        run_suite(replace(config, output=str(tmp_path / "glue"), compile=True), tracker.open)
    assert not tracker.opened
