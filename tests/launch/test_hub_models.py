"""A BERT on the Hub through the verbs: exported, fine-tuned, published, cut and asked by its name."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from eval import read_results
from modeling import AcnForMaskedLM
from pretrain import ModelConfig, PretrainConfig, check_run
from tests.launch.tiny import write_task

BERT, OURS = "lab/bert", "tester/acn-cats"
LOCAL = ("--tracking.mlflow", "null")


@pytest.fixture
def commit(hub_server, monkeypatch, tmp_path, prepared) -> str:
    """That of a BERT of the corpus's tokenizer, on the Hub; a folder with the data of a task is here."""
    hub_server.become_the_hub(monkeypatch, tmp_path)
    write_task(tmp_path / "glue" / "cats")
    folder, tokenizer = tmp_path / "sent", AutoTokenizer.from_pretrained(prepared / "tokenizer")
    torch.manual_seed(4)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=24, initializer_range=0.2,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    HfApi().create_repo(BERT, private=False)
    return HfApi().upload_folder(repo_id=BERT, folder_path=folder).oid


def test_a_bert_of_the_hub_is_exported_at_a_depth_and_starts_a_run(acn, commit, prepared, tmp_path):
    code, out, err = acn("export", BERT, "out", "--depth", "2")
    assert code == 0, err
    assert out.splitlines()[-1] == f"{BERT}@{commit}, 2 of 3 layers: out"
    ids = AutoTokenizer.from_pretrained(tmp_path / "out")("the cat sat", return_tensors="pt")["input_ids"]
    theirs = BertForMaskedLM.from_pretrained(tmp_path / "sent")
    with torch.no_grad():
        read_out = theirs(ids, output_hidden_states=True).hidden_states[2]
        logits = AcnForMaskedLM.from_pretrained(tmp_path / "out").eval()(ids).logits
        assert (logits - theirs.cls(read_out)).abs().max() <= 1e-5
    code, _, err = acn("export", BERT, "other", "--depth", "4")
    assert (code, "depth=4 is outside 0..3" in err) == (2, True)
    code, _, err = acn("export", BERT, "other", "--ema", "true")
    assert (code, "ema=true is for a run, and this is a model: leave it out" in err) == (2, True)
    code, _, err = acn("export", "lab/typo", "other")
    assert (code, "source=lab/typo is neither a folder here nor a model on the Hub" in err) == (2, True)
    assert not (tmp_path / "other").exists()

    start = PretrainConfig(str(prepared), str(tmp_path / "run"), ModelConfig(), init_from=BERT, global_batch_size=4,
                           micro_batch_size=4)  # fmt: skip
    config = check_run(start, world_size=1)
    assert (config.init_from, config.model.hidden_size, config.model.connectivity) == (f"{BERT}@{commit}", 32, "acn")


def test_what_is_made_of_a_bert_says_so_and_goes_on_from_the_hub(acn, hub_server, commit, tmp_path):
    code, _, err = acn("glue", "--model", f"{BERT}@main", "--tasks", "cats", "--glue_dir", "glue", "--output", "tuned",
                       "--epochs", "1", "--speed", "false", *LOCAL)  # fmt: skip
    assert code == 0, err
    results = read_results(tmp_path / "tuned" / "cats")
    assert results.model == f"{BERT}@{commit}"
    assert results.origin is not None
    assert vars(results.origin) == {"model_type": "bert", "hub_name": BERT, "revision": commit}
    assert json.loads((tmp_path / "tuned/cats/config.json").read_text())["connectivity"] == "residual"

    code, _, err = acn("publish", "tuned/cats", "--repo_id", OURS, "--depths", "none")
    assert code == 0, err
    code, _, err = acn("compress", "--model", OURS, "--output", "small", "--depth", "1", "--force", *LOCAL)
    assert code == 0, err
    cut = json.loads((tmp_path / "small" / "cut.json").read_text())
    assert cut["source"].startswith(f"{OURS}@")
    assert cut["checked_score"] == results.depth_scores[1]
    assert cut["origin"]["hub_name"] == BERT
    (tmp_path / "texts").write_text("the cat sat\nthe dog ran\n")
    answers = []
    for model in (OURS, "tuned/cats"):
        code, out, err = acn("predict", model, "texts", "--depth", "1")
        assert code == 0, err
        answers.append(out)
    assert answers[0] == answers[1]
    for model in ("tuned/cats", "small"):
        output = f"hub-{Path(model).name}"
        assert acn("publish", model, "--repo_id", "tester/x", "--dry_run", "--output", output)[0] == 0
        assert ModelCard.load(tmp_path / output / "README.md").data.base_model == BERT


def test_a_bert_is_published_as_a_model_of_this_family(acn, commit, tmp_path):
    code, _, err = acn("publish", BERT, "--repo_id", "tester/acn-bert", "--dry_run", "--output", "hub", "--depths", "1")
    assert code == 0, err
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    assert card.data.base_model == BERT
    assert "A masked language model of the Auto-Compressing Network family" in card.text
    assert f"with the weights of `{BERT}`" in card.text
    assert {"modeling_acn.py", "tokenizer.json"} <= {path.name for path in (tmp_path / "hub").iterdir()}
    whole, cut = (
        AcnForMaskedLM.from_pretrained(tmp_path / "hub" / folder).eval() for folder in (".", "revisions/depth-01")
    )
    ids = torch.randint(5, 40, (1, 9))
    with torch.no_grad():
        theirs = BertForMaskedLM.from_pretrained(tmp_path / "sent")(ids).logits
        assert (whole(ids).logits - theirs).abs().max() <= 1e-5
        assert torch.equal(cut(ids).logits, whole(ids, depth=1).logits)
