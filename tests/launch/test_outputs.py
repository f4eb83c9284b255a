"""Where a command is to write: what stands in the way is an error before the work, for every verb."""

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline import OutputLock
from tests.launch.tiny import TINY
from tests.processes import run, run_acn

LOCAL = ("--tracking.mlflow", "null")


@pytest.fixture(scope="module")
def place(trained: Path, prepared: Path, tmp_path_factory) -> Path:
    """A folder with what the verbs read, and places that cannot be written."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("run", "tuned", "glue"):
        shutil.copytree(trained / name, folder / name)
    (folder / "text.txt").write_text("the cat sat on the mat\n\n" * 200)
    (folder / "lines.txt").write_text("the cat sat on the mat\n" * 9)
    (folder / "tokens").symlink_to(prepared)
    (folder / "file").write_text("mine")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "circle").symlink_to(folder / "circle")
    return folder


VERBS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "prepare": lambda output: (
        "prepare", "--corpus.train", "text.txt", "--corpus.validation_fraction", "0.2", "--vocab_size", "80",
        "--seq_length", "16", "--output", output,
    ),
    "data": lambda output: ("data", "stats", "tokens", "--output", output),
    "export": lambda output: ("export", "run", output),
    "glue": lambda output: (
        "glue", "--model", "run/model", "--glue_dir", "glue", "--tasks", "cats", "--output", output, *LOCAL,
    ),
    "compress": lambda output: ("compress", "--model", "tuned/cats", "--output", output, "--force", *LOCAL),
    "study": lambda output: (
        "study", "lesion", "--model", "tuned/cats", "--glue_dir", "glue", "--output", output, *LOCAL,
    ),
    "report": lambda output: ("report", "tuned", "--output", output),
    "publish": lambda output: ("publish", "tuned/cats", "--repo_id", "me/it", "--dry_run", "--output", output),
    "demo": lambda output: ("demo", "--output", output, "--mlflow", "null"),
}  # fmt: skip
FILES: dict[str, Callable[[str], tuple[str, ...]]] = {
    "plan": lambda file: ("plan", "--config", "acn-tiny", "--gpus", "1", "--json", file),
    "launch": lambda file: (
        "launch", "torchrun", "--data", "tokens", "--output", "runs", "--preflight", "false", "--dry_run",
        "--script", file,
    ),
    "predict": lambda file: ("predict", "tuned/cats", "lines.txt", "--output", file, "--output_format", "csv"),
    "recipes": lambda file: ("recipes", "copy", "acn-tiny", file),
    "preflight": lambda file: ("preflight", "--data", "tokens", "--json", file, *TINY, *LOCAL),
}  # fmt: skip
PLACES = ["file", "file/below", "dangling", "dangling/below", "circle/below", "x" * 300, "/proc/acn"]


@pytest.mark.parametrize("output", PLACES, ids=lambda name: name[:20])
@pytest.mark.parametrize("verb", [*VERBS, *(verb for verb in FILES if verb != "preflight")])
def test_a_place_that_cannot_be_written_is_a_mistake(acn, place, monkeypatch, verb, output):
    monkeypatch.chdir(place)
    before = sorted(path.name for path in place.iterdir())
    code, out, err = acn(*(VERBS | FILES)[verb](output))
    assert code == 2, (out, err)
    assert f"acn {verb}: error: " in err
    assert Path(output).parts[0] in err, "the path is named"
    assert ": choose " in err or ": is there a link" in err or "its links" in err or "one of its folders" in err, err
    assert sorted(path.name for path in place.iterdir()) == before
    assert (place / "file").read_text() == "mine"


@pytest.mark.parametrize("output", ["file/below", "dangling/below", "x" * 300], ids=lambda name: name[:20])
@pytest.mark.parametrize("verb", ["pretrain", "preflight"])
def test_ranks_report_such_a_place_once(place, verb, output):
    pretrain = ("pretrain", "--data", "tokens", "--output", output, *TINY, *LOCAL)
    words = FILES[verb](output) if verb in FILES else pretrain
    done = run_acn(*words, "--nproc_per_node", "2", folder=place)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count(f"acn {verb}: error: ") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_the_second_job_says_who_holds_the_folder(acn, place, monkeypatch, tmp_path, verb):
    monkeypatch.chdir(place)
    output = tmp_path / "output"
    beside = verb in ("export", "compress", "report", "publish")
    with OutputLock(output, beside=beside):
        before = sorted(path.name for path in tmp_path.rglob("*"))
        code, out, err = acn(*VERBS[verb](str(output)))
        assert code == 2, (out, err)
        assert f"acn {verb}: error: output={output} is in use by pid " in err
        assert sorted(path.name for path in tmp_path.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


def test_several_ranks_say_it_once(place, tmp_path):
    with OutputLock(tmp_path / "output"):
        done = run_acn(*VERBS["glue"](str(tmp_path / "output")), "--nproc_per_node", "2", folder=place)
    assert done.returncode == 2
    assert done.stderr.count("is in use by pid") == 1
    assert "Traceback" not in done.stderr


def _with_small_files(size: int, *words: str) -> int:
    """`acn WORDS` where no file may grow above so many bytes, which looks like a full disk."""
    from launch import cli

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return cli.main(list(words))


# without the demo, which collects its text, for a minute and more, before it writes
@pytest.mark.parametrize("verb", [*(verb for verb in VERBS if verb != "demo"), "plan"])
def test_a_full_disk_is_a_failure_that_names_the_place(place, tmp_path, verb):
    output = tmp_path / "output"
    size = 3000 if verb == "glue" else 100
    done = run(_with_small_files, size, *(VERBS | FILES)[verb](str(output)), folder=place)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert f"{output}" in done.stderr.splitlines()[-1]
    assert "File too large" in done.stderr
    assert "make room there" in done.stderr
    left = [path.name for path in tmp_path.rglob("*") if ".partial-" in path.name or path.name.endswith(".lock")]
    assert left == []


@pytest.mark.parametrize("verb", ["plan", "preflight"])
def test_a_report_replaces_its_like_and_nothing_else(acn, place, monkeypatch, tmp_path, verb):
    monkeypatch.chdir(place)
    for content in ("mine", "{}", "[]", '"layouts preflight"', "[" * 100_000):
        (tmp_path / "file.json").write_text(content)
        code, _, err = acn(*FILES[verb](str(tmp_path / "file.json")))
        assert code == 2, err
        assert "exists and is no" in err
        assert (tmp_path / "file.json").read_text() == content
    if verb == "plan":
        (tmp_path / "file.json").unlink()
        for _ in range(2):
            assert acn(*FILES[verb](str(tmp_path / "file.json")))[0] == 0
