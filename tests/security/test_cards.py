"""What a file says of itself stands in cards as text: no links, pictures, rows, HTML or formulas of its own."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from eval.compress import code, escape, link, markdown_table
from tests.launch.publishing.lab import TASK

EVIL = [
    "[click](https://evil.example)",
    "![x](https://evil.example/pixel.png)",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a | b | c",
    "x\n\n# Heading\n\n| a |\n|---|",
    "`code` ``more`` [x](y)",
    "*bold* _it_ ~~gone~~ $x$ \\[z\\]",
    "&lt;b&gt; &#60;",
    "[a]: https://evil.example",
    "[x]\u2028[y](z)",
]


def shown(text: str) -> str:
    """What Markdown shows of escaped text: backslashes before punctuation are gone."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


@pytest.mark.parametrize("evil", EVIL)
def test_text_is_shown_as_it_is(evil):
    assert shown(escape(evil)) == " ".join(re.split(r"[\n\u2028]+", evil))
    assert not re.search(r"(?<!\\)[<`|$*]|(?<!\\)\]\(", escape(evil))


@pytest.mark.parametrize("evil", [*EVIL, "`", "``", "a`", "plain"])
def test_code_ends_where_it_should(evil):
    text = code(evil)
    fence = re.match("`+", text)[0]
    inner = text[len(fence) : -len(fence)]
    assert fence not in re.findall("`+", inner)
    assert inner.strip() == " ".join(re.split(r"[\n\u2028]+", evil)).strip()


def test_a_name_with_underscores_stays_readable():
    assert escape("my_task-2 (v1.0), 12 %: 0.5 ± 0.1") == "my_task-2 (v1.0), 12 %: 0.5 ± 0.1"


@pytest.mark.parametrize("evil", EVIL)
def test_a_table_has_as_many_cells_as_columns(evil):
    lines = markdown_table(["a", "b"], [[evil, code(evil)], [1.5, None]]).splitlines()
    assert len(lines) == 4
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3] * 4


def test_a_link_leads_where_it_says():
    assert link("a](b", "https://host/x y)(z") == r"[a\](b](https://host/x%20y%29%28z)"


@pytest.mark.parametrize("evil", EVIL[:6])
def test_the_cards_of_foreign_folders(publish, lab, tmp_path, evil):
    """Every value that a card shows comes from a file that somebody may have written by hand."""
    shutil.copytree(lab / "runs", tmp_path / "runs")
    manifest_file = tmp_path / "runs/tokens/manifest.json"
    manifest = json.loads(manifest_file.read_text())
    for source in manifest["source"]["train"]:
        source["path"] = evil
    manifest["source"]["validation"] = [
        {"path": evil, "name": evil, "split": evil, "revision": evil, "text_column": "t"}
    ]
    manifest_file.write_text(json.dumps(manifest))
    results_file = tmp_path / f"runs/glue/{TASK}/results.json"
    results = json.loads(results_file.read_text())
    results |= {"selection": evil, "metric": evil, "model": f"runs/{evil}"}
    results["settings"] |= {"glue_dir": evil, "weights": None}
    results["train"] |= {"optimizer": evil, "device": evil}
    results_file.write_text(json.dumps(results))
    record_file = tmp_path / "runs/acn/record.json"
    record = json.loads(record_file.read_text())
    record["tags"] |= {"device": evil, "version.torch": evil, "git.commit": evil}
    record_file.write_text(json.dumps(record))
    cut_file = tmp_path / "runs/small/cut.json"
    cut_file.write_text(json.dumps(json.loads(cut_file.read_text()) | {"rule": evil, "source": evil, "model": evil}))
    for model in ("tokens", "acn", f"glue/{TASK}", "small"):
        output = tmp_path / f"hub-{Path(model).name}"
        done, _, err = publish(tmp_path / "runs" / model, "--repo_id", "me/acn", "--dry_run", "--output", output)
        assert done == 0, err
        text = (output / "README.md").read_text()
        body = text.split("\n---\n", 1)[1]
        outside_code = re.sub(r"```.*?```|(`+)(?!`).*?(?<!`)\1(?!`)", "", body, flags=re.S)
        for sign in ("](https://evil", "<script", "<img", "\n# Heading", "](y)", "](z)"):
            assert not re.search(r"(?<!\\)" + re.escape(sign), outside_code), (model, sign)
        for block in re.findall(r"(?:^\|.*\n)+", body, flags=re.M):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block
    config_file = tmp_path / "runs/acn/config.yaml"
    config = yaml.safe_load(config_file.read_text())
    config["model"]["connectivity"] = evil
    config_file.write_text(yaml.safe_dump(config))
    done, _, err = publish(tmp_path / "runs/acn", "--repo_id", "me/acn", "--dry_run", "--output", tmp_path / "hub")
    assert (done, "model.connectivity none of acn, residual" in err) == (2, True), "one of a few words is no text"
