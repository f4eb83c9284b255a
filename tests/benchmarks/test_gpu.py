"""benchmarks/gpu.sh writes what it has measured, whatever becomes of the rest."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.aims import all_aims

ROW = {"tokens_per_second": 300.0, "mfu": 0.6, "peak_gib": 1.0}
FOUND: dict[str, dict[str, Any]] = {
    "ours": {"cases": {"acn": ROW}, "time_over_residual": 1.0, "loader_tokens_per_second": 6000.0},
    "trainer": {"cases": {"Hugging Face Trainer": ROW | {"tokens_per_second": 100.0}}},
    "profile": {"costliest": {"gemm": 0.5}},
    "packed": {"cases": {"packed, attention=auto": ROW}},
    "conversion": {"cases": {"annealed, match alone": ROW}},
    "checkpoint": {"save_seconds": 1.0},
    "finetune": {"step_seconds": {"ours": 0.02}, "over_trainer": 1.5, "loss_difference": 0.001},
    "inference": {"tokens_per_second_by_depth": {"0": 1.0}},
}


def test_the_sections_measure_everything_that_was_aimed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "run_section", lambda name, *_: (FOUND[name.split()[0]] | {"machine": {"gpu": "X"}}, ""))
    assert gpu.main(["--json", str(tmp_path / "gpu.json")]) == 0
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert {goal["what"] for goal in written["goals"]} == {aim.what for aim in all_aims()["gpu"]}
    values = {goal["what"].partition(": ")[2]: goal["value"] for goal in written["goals"]}
    assert values["acn over Hugging Face Trainer, tokens/s"] == 3.0
    assert values["fine-tuning over Trainer and BERT in equal batches and precision"] == 1.5
    assert values["loader alone over training, tokens/s"] == 20.0
    assert written["machine"] == {"gpu": "X"}


def test_on_a_gpu_of_unknown_peak_everything_but_mfu_is_measured() -> None:
    sections = {"ours base/128": FOUND["ours"] | {"cases": {"acn": ROW | {"mfu": None}}}}
    found = {goal.what for goal in gpu.goals(sections)}
    assert found == {
        "base/128, bf16: time of acn over residual",
        "base/128, bf16: loader alone over training, tokens/s",
    }
    assert "| base/128, acn |      300 | unknown |      1.0 |" in gpu.details({"sections": sections})


def test_a_section_that_fails_leaves_the_others_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def run(name: str, *rest: Any) -> tuple[dict[str, Any] | None, str]:
        part = name.split()[0]
        return (None, "out of memory") if part == "trainer" else (FOUND[part] | {"machine": {}}, "")

    monkeypatch.setattr(gpu, "run_section", run)
    assert gpu.main(["--json", str(tmp_path / "gpu.json")]) == 1
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert set(written["missing"].values()) == {"out of memory"}
    assert "ours large/128" in written["sections"]
    assert "MISSING  trainer base/512: out of memory" in capsys.readouterr().out


def test_sections_without_time_are_left_out_and_said_to_be(tmp_path: Path) -> None:
    assert gpu.main(["--json", str(tmp_path / "gpu.json"), "--minutes", "0"]) == 1
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["missing"] == dict.fromkeys(gpu.SECTIONS, "no time left")
    assert written["goals"] == []


@pytest.mark.slow  # every section in a process of its own, as the script has it
def test_everything_runs_on_a_cpu(tmp_path: Path) -> None:
    script = Path(gpu.__file__).with_name("gpu.sh")
    command = [
        "bash",
        str(script),
        "--device",
        "cpu",
        "--quick",
        "--minutes",
        "60",
        "--json",
        str(tmp_path / "gpu.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert set(written["sections"]) == set(gpu.QUICK_SECTIONS)
    assert len(written["sections"]["profile base/128"]["costliest"]) == 3
