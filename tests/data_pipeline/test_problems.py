"""What a user's mistake is as data, as a sentence and as an error."""

import pickle

import pytest

from data_pipeline import DataError, Problem, UserError
from eval import EvalError
from launch.errors import LaunchError, mistakes
from pretrain import PretrainError


@pytest.mark.parametrize(
    ("problem", "seen", "sentence"),
    [
        (Problem("optim.lr", 0, "must be above 0"), "optim.lr=0 must be above 0", "optim.lr=0 must be above 0"),
        (Problem("epochs", -1, fix="give more than 0"), "epochs=-1", "epochs=-1: give more than 0"),
        (
            Problem("masking.unit", "letter", "is unknown", "use token, word or span"),
            "masking.unit=letter is unknown",
            "masking.unit=letter is unknown: use token, word or span",
        ),
        (Problem("tasks", wrong="is empty", fix="name one"), "tasks is empty", "tasks is empty: name one"),
        (Problem("nproc_per_node", fix="leave it at 1"), "nproc_per_node", "nproc_per_node: leave it at 1"),
        (
            Problem("tasks", "rte", ", but it is sst2", "go"),
            "tasks=rte, but it is sst2",
            "tasks=rte, but it is sst2: go",
        ),
        (
            Problem("output", wrong=": x is a file", fix="move it"),
            "output: x is a file",
            "output: x is a file: move it",
        ),
        (Problem("", wrong="7 ranks are too many", fix="use 6"), "7 ranks are too many", "7 ranks are too many: use 6"),
    ],
)
def test_a_problem_is_a_sentence_that_begins_with_the_field(problem, seen, sentence):
    assert (problem.seen, str(problem)) == (seen, sentence)


@pytest.mark.parametrize("value", [None, "", 0, False])
def test_an_empty_value_is_shown_and_only_a_missing_one_is_not(value):
    assert str(Problem("depth", value, "is wrong")) == f"depth={value} is wrong"
    assert str(Problem("depth", wrong="is wrong")) == "depth is wrong"


@pytest.mark.parametrize("error_class", mistakes())
def test_an_error_has_its_problems_and_a_line_for_each_also_after_a_process_sent_it(error_class):
    problems = [Problem("steps", -1, "must be above 0"), Problem("output", wrong="is empty", fix="name a folder")]
    error = pickle.loads(pickle.dumps(error_class(*problems)))
    assert type(error) is error_class
    assert error.problems == problems
    assert str(error).splitlines() == ["steps=-1 must be above 0", "output is empty: name a folder"]


def test_an_error_made_of_text_is_one_problem():
    error = DataError("shard 3: it is damaged")
    assert str(error) == "shard 3: it is damaged"
    assert [str(problem) for problem in error.problems] == ["shard 3: it is damaged"]


def test_the_rooms_errors_are_user_errors():
    assert all(issubclass(error, UserError) for error in (DataError, EvalError, LaunchError, PretrainError))
