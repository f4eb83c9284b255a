"""The table of hyperparameters, what goes over it, and grids."""

from dataclasses import replace
from pathlib import Path

import pytest

from eval import GLUE_TASKS, TASKS, EvalError
from eval.tasks.hyperparameters import GridConfig, at_point, choose_hyperparameters, point_name, read_table


def test_the_table_has_a_row_for_each_of_the_nine_tasks_and_the_papers_rate() -> None:
    from eval.tasks.hyperparameters import TABLE_FILE

    table = read_table(TABLE_FILE)
    assert {"defaults", *GLUE_TASKS} <= set(table) <= {"defaults", *TASKS}
    assert choose_hyperparameters("sst2", 768, {}).learning_rate == 2e-5
    assert choose_hyperparameters("a task of one's own", 768, {}) == choose_hyperparameters("sst2", 768, {})


def test_options_go_over_the_users_table_and_that_over_ours(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("defaults: {epochs: 5, learning_rate: 1.0e-4}\ntasks: {rte: {epochs: 10}}\n")
    plain = choose_hyperparameters("rte", 384, {})
    assert plain.learning_rate == pytest.approx(4e-5)
    mine = choose_hyperparameters("rte", 384, {"batch_size": 8, "epochs": None}, str(path))
    assert mine == replace(plain, epochs=10, learning_rate=2e-4, batch_size=8)
    assert choose_hyperparameters("sst2", 384, {}, str(path)).epochs == 5
    assert choose_hyperparameters("rte", 384, {"learning_rate": 3e-4, "epochs": 1}, str(path)).learning_rate == 3e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 3", "must hold `defaults` and `tasks` only"),
        ("tasks: {rte: 3}", "rte is not a mapping"),
        ("tasks: {rte: {epoch: 3}}", "rte has no hyperparameter 'epoch'"),
        ("tasks: {rte: {epochs: -1}}", "rte: epochs=-1"),
        ("defaults: {learning_rate: 2e-5}", "give a number"),
        ("tasks: [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(EvalError, match=message) as error:
        choose_hyperparameters("rte", 768, {}, str(path))
    assert "mine.yaml" in str(error.value)


def test_a_grid_is_every_combination() -> None:
    grid = GridConfig(learning_rate="1e-5,2e-5", batch_size=[16, 32])
    points = grid.points()
    assert [tuple(point.values()) for point in points] == [(1e-5, 16), (1e-5, 32), (2e-5, 16), (2e-5, 32)]
    chosen = at_point(choose_hyperparameters("sst2", 768, {}), points[1])
    assert (chosen.learning_rate, chosen.batch_size, chosen.epochs) == (1e-5, 32, 3)
    assert point_name(points[1]) == "learning_rate=1e-05,batch_size=32"
    assert GridConfig().points() == []


def test_a_grid_names_its_wrong_values() -> None:
    problems = GridConfig(learning_rate="1e-5,x", batch_size="16.5", epochs="3,3").problems()
    assert [problem.field for problem in problems] == [
        "grid.learning_rate",
        "grid.batch_size",
        "grid.epochs",
    ]
    assert [str(problem) for problem in GridConfig(epochs="0").problems()] == ["grid.epochs=0.0: give more than 0"]
