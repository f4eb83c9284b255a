"""What the user reads of a running pretraining."""

import re

from pretrain.observe.console import LineConsole, training_line

TRAINING = {
    "train/loss": 5.4321, "train/accuracy": 0.123, "train/learning_rate": 1e-3, "train/tokens_per_second": 12345.6,
    "train/mfu": 0.4567, "train/seconds_left": 3725.0,
}  # fmt: skip
VALIDATION = {
    "validation/loss": 4.5, "validation/accuracy": 0.25, "validation/cut_depth": 3.0, "validation/cut_accuracy": 0.245,
}  # fmt: skip


def test_a_logging_step_is_one_line_with_speed_and_time_left():
    line = training_line(50, 1000, TRAINING)
    assert line == ("step   50/1000  loss 5.4321  accuracy 0.1230  lr 1.00e-03  12,346 tokens/s  MFU 45.7%  1h02m left")


def test_a_line_without_mfu_leaves_no_gap():
    line = training_line(50, 1000, {name: value for name, value in TRAINING.items() if name != "train/mfu"})
    assert line.endswith("12,346 tokens/s  1h02m left")


def test_steps_that_were_all_left_out_still_have_a_line():
    assert re.match(r"step 7/9  loss nan  lr 1.00e-03$", training_line(7, 9, {"train/learning_rate": 1e-3}))


def test_lines_come_for_training_and_validation_and_not_for_other_measurements(capsys):
    console = LineConsole()
    console.say("a word")
    console.progress(5, 9, TRAINING)
    console.progress(5, 9, VALIDATION)
    console.progress(5, 9, {"checkpoint/seconds": 1.0})
    console.progress(5, 9, {"probe/gradient_norm_layer_00": 1.0})
    said, training, validation = capsys.readouterr().out.splitlines()
    assert said == "a word"
    assert training.startswith("step 5/9  loss 5.4321")
    assert validation == "step 5  validation loss 4.5000  masked accuracy 0.2500  best cut: depth 3 at 0.2450"


def test_a_conversion_says_its_scale_and_its_match(capsys):
    console = LineConsole()
    console.progress(5, 9, TRAINING | {"train/match": 0.25, "train/shortcut_scale": 0.5})
    console.progress(5, 9, VALIDATION | {"validation/match": 0.125})
    console.progress(5, 9, {"validation/match": 0.125})  # no masked tokens are predicted
    training, validation, alone = capsys.readouterr().out.splitlines()
    assert "  match 0.2500  shortcuts 0.500  " in training
    assert validation.endswith("at 0.2450  validation match 0.1250")
    assert alone == "step 5  validation match 0.1250"
