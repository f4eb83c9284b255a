"""What `acn publish` writes: every number of a card is that of its file, cut models are the whole one's depths, and
mistakes are said together before anything is written or sent."""

import json
import shutil
import socket
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import DatasetCard, ModelCard
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from data_pipeline import Manifest, verify_corpus
from modeling.configuration_acn import AUTO_MAP
from tests.launch.publishing.lab import (
    ACCURACY_BY_DEPTH,
    CUT_DEPTH,
    LAYERS,
    SECONDS,
    SECRET,
    SEEDS,
    TASK,
    TOKENS,
)

CODE = {"configuration_acn.py", "modeling_acn.py", "reversible.py", "conversion.py"}


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch, tmp_path):
    """Writing a publication asks nobody: any connection is a failure."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))

    def refuse(*arguments):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def written(publish, tmp_path):
    """Write a publication and return its folder."""

    def write(model: str, *options: str, repo_id: str = "tester/acn-small") -> Path:
        output = tmp_path / "hub"
        code, out, err = publish(model, "--repo_id", repo_id, "--dry_run", "--output", output, *options)
        assert code == 0, err
        assert "nothing was sent" in out
        return output

    return write


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def row(text: str, name: str) -> list[str]:
    """The cells of a table's row after the first, which is `name`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_a_published_run_is_a_whole_model_folder(written, lab):
    folder = written("runs/acn")
    assert {path.name for path in folder.iterdir()} >= CODE | {"README.md", "model.safetensors", "recipe.yaml"}
    assert (folder / "model.safetensors").read_bytes() == (lab / "runs/acn/model/model.safetensors").read_bytes()
    assert json.loads((folder / "config.json").read_text())["auto_map"] == AUTO_MAP
    with torch.no_grad():
        inputs = AutoTokenizer.from_pretrained(folder)("the cat sat", return_tensors="pt")
        ours, theirs = (AutoModelForMaskedLM.from_pretrained(f) for f in (folder, lab / "runs/acn/model"))
        assert torch.equal(ours(**inputs).logits, theirs(**inputs).logits)


def test_a_folder_without_code_gets_it(written, lab, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(lab / "runs/acn/model", bare, ignore=shutil.ignore_patterns("*.py"))
    config = json.loads((bare / "config.json").read_text())
    del config["auto_map"]
    (bare / "config.json").write_text(json.dumps(config))
    folder = written(str(bare))
    assert {path.name for path in folder.glob("*.py")} == CODE
    assert json.loads((folder / "config.json").read_text())["auto_map"] == AUTO_MAP


def test_the_numbers_of_the_pretraining_are_those_of_its_files(written, lab):
    text = (written("runs/acn") / "README.md").read_text()
    assert row(text, "tokens seen") == [f"{TOKENS:,.0f} (1.2 epochs)"]
    assert row(text, "time of training") == ["2:01:05 (hours:minutes:seconds)"]
    assert row(text, "hardware") == ["8 x NVIDIA H100 80GB HBM3 on 2 machines"]
    assert row(text, "precision, ZeRO stage") == ["bf16, 1"]
    assert row(text, "global batch") == ["256 blocks"]
    assert row(text, "seed") == ["7"]
    assert row(text, "validation loss") == ["2.7182"]
    for depth, score in enumerate(ACCURACY_BY_DEPTH):
        assert row(text, str(depth)) == [f"{score:.4f}"]
    train = json.loads((lab / "runs/tokens/manifest.json").read_text())["splits"]["train"]
    assert row(text, "its size")[0].startswith(f"{train['documents']:,} documents, {train['tokens']:,} tokens")
    recipe = yaml.safe_load((lab / "runs/acn/config.yaml").read_text())
    assert f"lr {recipe['optim']['lr']}, betas {recipe['optim']['betas']}" in text


def test_energy_is_mean_power_times_time_and_otherwise_not_measured(written, lab, tmp_path):
    text = (written("runs/acn") / "README.md").read_text()
    kwh = ((300 + 310) + (500 + 490)) / 2 / 1000 * SECONDS / 3600
    assert row(text, "energy")[0].startswith(f"about {kwh:.3g} kWh, an estimate")
    assert "the GPUs (800 W) of the first machine" in row(text, "energy")[0]
    run = tmp_path / "runs" / "acn"
    shutil.copytree(lab / "runs/acn", run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in line.items() if "power" not in name} for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    text = (written(str(run)) / "README.md").read_text()
    assert row(text, "energy") == ["not measured"]


def test_the_table_of_results_has_every_seed(written):
    scores = [by_depth[-1] for by_depth in SEEDS.values()]
    mean = sum(scores) / 2
    deviation = (sum((score - mean) ** 2 for score in scores) / 1) ** 0.5
    for model in ("runs/acn", f"runs/glue/{TASK}", "runs/small"):
        text = (written(model) / "README.md").read_text()
        metric, full, seeds, _, constant, scored_on = row(text, TASK)
        assert (metric, full) == ("accuracy", f"{mean:.4f} ± {deviation:.4f}")
        assert seeds == ", ".join(f"{seed}: {by_depth[-1]:.4f}" for seed, by_depth in SEEDS.items())
        assert constant == "0.5125"
        assert "[nyu-mll/glue](https://huggingface.co/datasets/nyu-mll/glue) sst2, split validation" in scored_on
        assert "figures/depth-sst2.png" in text


def test_the_cards_metadata_are_complete_and_read_back(written):
    folder = written(f"runs/glue/{TASK}", "--license", "cc-by-4.0", "--language", "en", "--base_model", "tester/acn")
    data = ModelCard.load(folder / "README.md").data
    assert (data.license, data.language, data.base_model) == ("cc-by-4.0", "en", "tester/acn")
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-classification")
    values = {result.metric_name: result.metric_value for result in data.eval_results}
    assert values == {"accuracy, 3 of 3 layers": SEEDS[12][-1], "accuracy, 2 of 3 layers": SEEDS[12][CUT_DEPTH]}
    assert {result.dataset_type for result in data.eval_results} == {"nyu-mll/glue"}
    data = ModelCard.load(written("runs/acn") / "README.md").data
    assert [result.metric_value for result in data.eval_results] == [round(ACCURACY_BY_DEPTH[-1], 4)]
    assert "license" not in data.to_dict()


def test_the_card_of_a_cut_model_keeps_what_acn_compress_wrote(written, lab):
    before = ModelCard.load(lab / "runs/small/README.md")
    after = ModelCard.load(written("runs/small") / "README.md")
    for line in before.text.split("Fine-tuned from")[0].strip().splitlines():
        assert line in after.text
    assert [r.metric_value for r in after.data.eval_results] == [r.metric_value for r in before.data.eval_results]


def test_what_is_not_known_is_said_to_be_missing(written, publish, lab, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(lab / "runs/acn/model", elsewhere / "model")
    text = (written(str(elsewhere / "model")) / "README.md").read_text()
    assert "nothing is known of it here" in text
    assert "No licence was given" in text
    assert "No results of fine-tuning on GLUE were at hand" in text
    assert "The language of its text was not stated" in text
    assert "model-index" not in text
    results = json.loads((lab / "runs/small/cut.json").read_text())
    shutil.copytree(lab / "runs/small", elsewhere / "small")
    lost = results | {"source": "runs/gone/sst2", "model": "runs/gone/model"}
    (elsewhere / "small" / "cut.json").write_text(json.dumps(lost))
    code, out, _ = publish(elsewhere / "small", "--repo_id", "a/b", "--dry_run", "--output", elsewhere / "hub")
    assert code == 0
    assert "runs/gone/sst2, which this model was cut from, is not there any more" in out
    text = (elsewhere / "hub" / "README.md").read_text()
    assert "scores of the other depths were not at hand" in text
    assert "record of the fine-tuning was not at hand" in text


def test_a_model_that_an_old_version_cut_is_published_alike(written, lab, tmp_path):
    new = files(written("runs/small"))
    old = tmp_path / "old"
    shutil.copytree(lab / "runs/small", old)
    (old / "cut.json").rename(old / "results.json")
    assert files(written(str(old))) == new


DAMAGED = ["{", "", "\0", "\xff", '{"depth_scores": 1}', '{"depth_scores": [0.5], "settings": []}', "[" * 100_000]
FOREIGN = ["[]", "3", "null", '"depth_scores"', '["depth_scores"]', "{}", '{"accuracy": 1}', '{"settings": null}']


@pytest.mark.parametrize("content", [*DAMAGED, *FOREIGN])
def test_an_odd_folder_beside_a_run_is_no_obstacle(publish, lab, tmp_path, content):
    """What is not ours is passed over; what is damaged, with a word."""
    shutil.copytree(lab / "runs", tmp_path / "runs")
    for suite in ("broken", "glue"):  # the run's own suite, too
        (tmp_path / "runs" / suite / "odd").mkdir(parents=True)
        (tmp_path / "runs" / suite / "odd" / "results.json").write_text(content, encoding="latin-1")
    code, out, err = publish(tmp_path / "runs/acn", "--repo_id", "a/b", "--dry_run", "--output", tmp_path / "hub")
    assert code == 0, err
    for suite in ("broken", "glue"):
        assert (f"{suite}/odd/results.json" in out) == (content in DAMAGED), out
    assert row((tmp_path / "hub" / "README.md").read_text(), TASK)[0] == "accuracy"


def test_a_run_is_not_claimed_for_weights_that_it_did_not_make(written, lab, tmp_path):
    place = tmp_path / "copy"
    shutil.copytree(lab / "runs", place / "runs")
    other = place / "runs/acn/model/model.safetensors"
    shutil.copy(place / "runs/acn/models/step-0000040/model.safetensors", other)
    path = place / f"runs/glue/{TASK}/results.json"
    path.write_text(path.read_text().replace(str(lab), str(place)))
    text = (written(str(path.parent)) / "README.md").read_text()
    assert "nothing is known of it here" in text
    text = (written(str(path.parent), "--run", str(place / "runs/acn")) / "README.md").read_text()
    assert f"{TOKENS:,.0f}" in text
    assert "The weights here are not those that it ended with" in text


def test_cut_models_are_revisions_with_the_same_card_and_the_whole_models_predictions(written, lab):
    folder = written(f"runs/glue/{TASK}", "--depths", "1,2")
    assert {path.name for path in (folder / "revisions").iterdir()} == {"depth-01", "depth-02"}
    whole = AutoModelForSequenceClassification.from_pretrained(lab / f"runs/glue/{TASK}").eval()
    inputs = AutoTokenizer.from_pretrained(folder)(["the cat sat on the mat", "dog"], return_tensors="pt", padding=True)
    for depth in (1, 2):
        there = folder / "revisions" / f"depth-{depth:02d}"
        assert (there / "README.md").read_bytes() == (folder / "README.md").read_bytes()
        cut = AutoModelForSequenceClassification.from_pretrained(there).eval()
        assert cut.config.num_hidden_layers == depth
        assert {path.name for path in there.iterdir()} >= CODE
        with torch.no_grad():
            assert torch.equal(cut(**inputs).logits, whole(**inputs, depth=depth).logits)
        params = sum(parameter.numel() for parameter in cut.parameters())
        card = (folder / "README.md").read_text()
        assert row(card, f"`depth-{depth:02d}`") == [
            "the first " + ("1 layer" if depth == 1 else f"{depth} layers"),
            f"{params:,}",
        ]


def test_a_task_folder_is_cut_at_its_cut_depth_unless_none_is_wanted(written):
    folder = written(f"runs/glue/{TASK}")
    assert [path.name for path in (folder / "revisions").iterdir()] == [f"depth-{CUT_DEPTH:02d}"]
    assert not (written(f"runs/glue/{TASK}", "--depths", "none") / "revisions").exists()
    assert not (written("runs/acn") / "revisions").exists()


def test_a_model_at_chance_is_published_whole_and_called_that(written, lab, tmp_path):
    shutil.copytree(lab / "runs/glue", tmp_path / "glue")
    path = tmp_path / "glue" / TASK / "results.json"
    results = json.loads(path.read_text())
    results["aggregate"] |= {"standard_error": 0.2}
    path.write_text(json.dumps(results | {"standard_error": 0.2}))
    folder = written(str(path.parent))
    assert not (folder / "revisions").exists()
    text = (folder / "README.md").read_text()
    assert "**At chance**: this model does not answer better than a constant answer." in text
    _, full, _, cut, *_ = row(text, TASK)
    assert full.endswith(", at chance")
    assert cut == "not cut"


def test_the_metadata_name_what_was_scored(written, lab, tmp_path):
    shutil.copytree(lab / "runs/glue", tmp_path / "glue")
    path = tmp_path / "glue" / TASK / "results.json"
    scored_on = {"split": "validation", "examples": 200, "of": 872, "place": "/home/me/glue/sst2"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scored_on": scored_on}))
    folder = written(str(path.parent))
    data = ModelCard.load(folder / "README.md").data
    entries = {(score.dataset_type, score.dataset_split, score.dataset_config) for score in data.eval_results}
    assert entries == {("local", "validation (200 of 872 examples)", None)}
    assert data.datasets is None
    text = (folder / "README.md").read_text()
    assert "Scored on 200 of 872 examples of the local `glue/sst2`, split validation, in fp32." in text
    assert "/home/me" not in text + (folder / "results" / f"{TASK}.json").read_text()


def test_siblings_are_repositories_of_their_own_that_name_the_whole_one(written):
    folder = written("runs/acn", "--depths", "1", "--cuts", "siblings")
    card = ModelCard.load(folder / "siblings" / "depth-01" / "README.md")
    assert card.data.base_model == "tester/acn-small"
    assert "This repository holds the first 1 of 3 layers" in card.text
    assert 'name = "tester/acn-small-depth-01"' in card.text
    assert [result.metric_value for result in card.data.eval_results] == [round(ACCURACY_BY_DEPTH[1], 4)]
    assert "https://huggingface.co/tester/acn-small-depth-01" in (folder / "README.md").read_text()


def test_intermediate_checkpoints_are_revisions(written, lab):
    folder = written("runs/acn", "--steps", "40")
    there = folder / "revisions" / "step-0000040"
    source = lab / "runs/acn/models/step-0000040"
    assert (there / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert row((there / "README.md").read_text(), "`step-0000040`")[0] == "all layers, after 40 steps of pretraining"


def test_a_corpus_is_published_whole_with_its_card(written, lab):
    folder = written("runs/tokens", "--license", "cc0-1.0", "--language", "en", repo_id="tester/tokens")
    assert verify_corpus(folder, 1) == []
    manifest = Manifest.load(folder)
    card = DatasetCard.load(folder / "README.md")
    assert (card.data.license, card.data.language) == ("cc0-1.0", ["en"])
    train = manifest.split("train")
    assert row(card.text, "train")[:3] == [f"{train.documents:,}", f"{train.blocks:,}", f"{train.tokens:,}"]
    assert row(card.text, "vocabulary") == [f"{manifest.tokenizer.vocab_size:,} tokens"]
    assert {entry["path"] for entry in card.data.configs[0]["data_files"]} == {
        "train/*.parquet",
        "validation/*.parquet",
    }


def test_nothing_of_this_machine_is_published(written, lab):
    for model, options in (("runs/acn", ("--steps", "40")), (f"runs/glue/{TASK}", ()), ("runs/small", ())):
        for name, content in files(written(model, *options)).items():
            assert str(lab).encode() not in content, name
            assert SECRET.encode() not in content, name


def test_the_sources_are_left_as_they_were(written, lab):
    before = files(lab)
    for model, options in (("runs/acn", ("--depths", "1", "--steps", "40")), ("runs/small", ()), ("runs/tokens", ())):
        written(model, *options)
    assert files(lab) == before


def test_an_output_is_replaced_only_while_nobody_touched_it(written, publish, tmp_path):
    first = files(written("runs/small"))
    again = files(written("runs/small"))
    assert first == again
    output = ["--dry_run", "--output", tmp_path / "hub"]
    code, _, err = publish("runs/small", "--repo_id", "tester/other", *output)
    assert code == 2
    assert "is a publication of tester/acn-small" in err
    (tmp_path / "hub" / "README.md").write_text("mine")
    code, _, err = publish("runs/small", "--repo_id", "tester/acn-small", *output)
    assert code == 2
    assert "was changed by hand (README.md)" in err
    assert (tmp_path / "hub" / "README.md").read_text() == "mine"


REPO = ["--repo_id", "tester/acn-small"]
DRY = [*REPO, "--dry_run", "--output", "OUT"]


@pytest.mark.parametrize(
    ("command", "messages"),
    [
        (["./absent", *DRY], ["model=./absent is not there: give a folder, or NAME"]),
        (["runs", *DRY], ["runs holds no model"]),
        (["runs/glue", *DRY], ["runs/glue is a suite", f"runs/glue/{TASK}"]),
        (["runs/acn", "--repo_id", "acn-small", "--dry_run", "--output", "OUT"], ["OWNER/NAME"]),
        (["runs/acn", "--repo_id", "a/b--c", "--dry_run", "--output", "OUT"], ["no name the Hub takes"]),
        (["runs/acn", *DRY, "--license", "apache"], ["license='apache' is unknown", "apache-2.0"]),
        (["runs/acn", *DRY, "--license", "other"], ["license_name and --license_link"]),
        (["runs/acn", *DRY, "--license", "mit", "--license_link", "https://x"], ["are for --license other"]),
        (["runs/acn", *DRY, "--language", "English"], ["ISO 639"]),
        (["runs/acn", *DRY, "--depths", "3"], ["0..2"]),
        (["runs/acn", *DRY, "--depths", "a"], ["depths=a"]),
        (["runs/acn", *DRY, "--steps", "41"], ["it has 40, 120"]),
        (["runs/small", *DRY, "--steps", "all"], ["is not a run"]),
        (["runs/acn", *DRY, "--run", "runs/small"], ["run=runs/small is no run"]),
        (["runs/acn", *DRY, "--glue", "runs/tokens"], ["glue=runs/tokens holds no results"]),
        (["runs/acn", *DRY, "--base_model", "x"], ["base_model='x'", "is for a fine-tuned model"]),
        (["runs/tokens", *DRY, "--depths", "1"], ["depths: for models only"]),
        (["runs/acn", *DRY, "--cuts", "siblings"], ["there is nothing to cut", "--depths"]),
        (["runs/tokens", *DRY, "--cuts", "siblings"], ["cuts: for models only"]),
        (["runs/acn", *REPO, "--dry_run"], ["name it with --output"]),
        (["runs/acn", *DRY, "--public"], ["leave one of dry_run and public out"]),
        (["runs/acn", *REPO], ["there is no token for the Hub", "hf auth login", "HF_TOKEN"]),
        (["runs/acn", *REPO, "--token", "hf_x"], ["--token"]),
    ],
)  # fmt: skip
def test_a_mistake_is_said_with_its_mend_and_nothing_is_written(publish, tmp_path, command, messages):
    output = tmp_path / "out"
    code, out, err = publish(*(str(output) if word == "OUT" else word for word in command))
    assert code == 2
    for message in messages:
        assert message in err
    assert "Traceback" not in out + err
    assert not output.exists()


def test_all_problems_are_said_at_once(publish, lab, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(lab / "runs/acn/model", broken, ignore=shutil.ignore_patterns("*.safetensors", "tokenizer*"))
    code, _, err = publish(broken, "--repo_id", "small", "--license", "free", "--depths", "9")
    assert code == 2
    for part in ("repo_id", "license='free'", "no token", "no weights", "tokenizer", "depths=9"):
        assert part in err
    assert "6 problems" in err


def test_weights_of_another_configuration_are_refused(publish, lab, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(lab / "runs/acn/model", broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"num_hidden_layers": LAYERS + 1}))
    code, _, err = publish(broken, *REPO, "--dry_run", "--output", tmp_path / "out")
    assert code == 2
    assert "its weights cannot be loaded" in err or "weights are missing" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_corpus_with_a_damaged_shard_is_refused(publish, lab, tmp_path, damage):
    shutil.copytree(lab / "runs/tokens", tmp_path / "tokens")
    shard = next((tmp_path / "tokens" / "train").iterdir())
    shard.unlink() if damage == "missing" else shard.write_bytes(shard.read_bytes()[:-1])
    code, _, err = publish(tmp_path / "tokens", *REPO, "--dry_run", "--output", tmp_path / "out")
    assert code == 2
    assert shard.name in err
    assert not (tmp_path / "out").exists()
