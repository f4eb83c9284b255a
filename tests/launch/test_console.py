"""The live panel at a terminal."""

import io

import pytest
from rich.console import Console as Terminal

from launch.console import PanelConsole, open_console
from pretrain.observe.console import LineConsole
from tests.pretrain.observe.test_console import TRAINING, VALIDATION


def panel_text(panel: PanelConsole) -> str:
    terminal = Terminal(file=io.StringIO(), width=110)
    terminal.print(panel.render())
    return terminal.file.getvalue()


@pytest.fixture
def panel():
    with PanelConsole("run: acn", Terminal(file=io.StringIO(), force_terminal=True, width=110)) as panel:
        yield panel


def test_the_panel_shows_the_newest_of_everything(panel):
    panel.progress(10, 1000, TRAINING | {"train/tokens": 1_500_000.0, "train/loss": 9.9})
    panel.progress(20, 1000, TRAINING | {"train/tokens": 3_000_000.0})
    panel.progress(20, 1000, VALIDATION)
    panel.progress(20, 1000, {"checkpoint/seconds": 0.5})
    panel.progress(30, 1000, TRAINING)
    text = panel_text(panel)
    for part in (
        "run: acn", "step 30/1,000", "1h02m left", "tokens 3.0M", "loss 5.4321", "accuracy 0.1230", "12,346 tokens/s",
        "MFU 45.7%", "all layers 0.2500", "best cut: depth 3 at 0.2450", "checkpoint: step 20",
    ):  # fmt: skip
        assert part in text, part
    assert "9.9" not in text


def test_without_a_known_peak_the_panel_has_no_mfu(panel):
    panel.progress(10, 1000, {name: value for name, value in TRAINING.items() if name != "train/mfu"})
    text = panel_text(panel)
    assert "MFU" not in text
    assert "12,346 tokens/s" in text


def test_before_the_first_validation_and_checkpoint_the_panel_says_so(panel):
    panel.progress(10, 1000, TRAINING)
    text = panel_text(panel)
    assert "checkpoint: none yet" in text
    assert "best cut" not in text


def test_what_is_said_stands_above_the_panel(panel):
    panel.progress(10, 1000, TRAINING)
    panel.say("step 10  checkpoint [run]/checkpoints/step-0000010")
    out = panel._live.console.file.getvalue()
    assert "step 10  checkpoint [run]/checkpoints/step-0000010" in out


def test_without_a_terminal_there_are_lines(capsys):
    with open_console("run: acn") as console:
        assert isinstance(console, LineConsole)
        console.progress(5, 9, TRAINING)
    assert capsys.readouterr().out.startswith("step 5/9  loss 5.4321")
