"""Names of runs and tasks are text, whatever is in them, and a picture that cannot be drawn ends nothing."""

import shutil
from pathlib import Path

import pytest

from tests.launch.tiny import TINY
from tests.processes import run_acn

LOCAL = ("--tracking.mlflow", "null")


@pytest.mark.parametrize(("name", "precision"), [("a$b$c", "fp32"), (r"_$\frac{1}{0}$%s", "fp32"), ("a+b$(c", "bf16")])
def test_a_run_with_any_name_finishes_with_its_picture(prepared, tmp_path, name, precision):
    """In bf16 its checkpoint is converted to be exported, by names of files."""
    (tmp_path / name).symlink_to(prepared)
    output = tmp_path / name[::-1]
    words = ("--data", name, "--output", str(output), *TINY, *LOCAL, "--precision", precision)
    done = run_acn("pretrain", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no picture" not in done.stderr
    assert (output / "pretraining.png").is_file()


def test_a_run_is_not_begun_where_deepspeed_would_not_find_its_checkpoints(acn, prepared, tmp_path):
    code, _, err = acn("pretrain", "--data", str(prepared), "--output", "run[1]", *TINY, *LOCAL)
    assert code == 2
    assert "output=run[1] has a sign of file name patterns in it: choose a path without * ? [" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [r"$\frac{1}{0}$", "_$[bold]%s{x}"])
def test_statistics_suites_studies_and_reports_take_any_name(acn, trained, prepared, tmp_path, name):
    (tmp_path / name).symlink_to(prepared)
    code, _, err = acn("data", "stats", name, "--output", f"stats-{name}")
    assert (code, "no picture" in err) == (0, False), err
    assert (tmp_path / f"stats-{name}" / "stats.png").is_file()
    shutil.copytree(trained / "glue", tmp_path / "glue")
    suite = f"suite-{name}"
    code, _, err = acn(
        "glue", "--model", f"{trained}/run/model", "--glue_dir", "glue", "--tasks", "cats", "--output", suite,
        "--epochs", "1", *LOCAL,
    )  # fmt: skip
    assert (code, "no picture" in err) == (0, False), err
    code, _, err = acn(
        "study", "lesion", "--model", f"{suite}/cats", "--glue_dir", "glue", "--output", name + "s", *LOCAL
    )
    assert (code, "no picture" in err) == (0, False), err
    code, _, err = acn("report", suite, name + "s", str(trained / "tuned"), "--output", "report")
    assert (code, "no picture" in err) == (0, False), err
    figures = {path.name for path in (tmp_path / "report" / "figures").iterdir()}
    assert {"cats.png", "cats.svg", "study-lesion.png"} <= figures


def test_without_any_picture_everything_else_is_there(acn, trained, prepared, tmp_path, monkeypatch, caplog):
    def fail(_: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr("data_pipeline.pictures._label_plainly", fail)
    shutil.copytree(trained / "glue", tmp_path / "glue")
    for words in (
        ("data", "stats", str(prepared), "--output", "stats"),
        ("glue", "--model", f"{trained}/run/model", "--glue_dir", "glue", "--tasks", "cats", "--output", "suite",
         "--epochs", "1", *LOCAL),
        ("study", "lesion", "--model", "suite/cats", "--glue_dir", "glue", "--output", "studies", *LOCAL),
        ("report", "suite", "studies", "--output", "report"),
        ("report", "suite", "studies", "--output", "report"),
    ):  # fmt: skip
        caplog.clear()
        code, _, err = acn(*words)
        assert code == 0, err
        assert "no font" in caplog.text
    for file in ("stats/stats.json", "suite/cats/results.json", "studies/lesion/study.json", "report/index.html"):
        assert Path(file).is_file()
    assert not list(tmp_path.rglob("*.png"))
    assert "<img" not in Path("report/index.html").read_text()


def test_the_panel_shows_a_name_as_it_is():
    import io

    from rich.console import Console as Terminal

    from launch.console import PanelConsole

    terminal = Terminal(file=io.StringIO(), force_terminal=True, width=110)
    with PanelConsole("a[/b][red]: acn", terminal) as panel:
        panel.progress(1, 2, {"train/loss": 1.0})
    assert "a[/b][red]: acn" in terminal.file.getvalue()  # type: ignore[attr-defined]
