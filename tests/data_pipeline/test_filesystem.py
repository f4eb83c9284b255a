"""Writing: whole or not at all, and nothing is taken away that somebody else made."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline import DataError, new_file, new_folder, os_problem


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _fill(path: Path, meanwhile: Callable[[], object]) -> None:
    with new_folder(path) as folder:
        (folder / "b").touch()
        meanwhile()


def test_two_writers_of_one_place_do_not_meet(tmp_path):
    with new_folder(tmp_path / "out") as first:
        (first / "a").touch()
        with pytest.raises(ZeroDivisionError):
            _fill(tmp_path / "out", lambda: 1 // 0)
        assert names(first) == ["a"], "the clean-up of the second left the first alone"
    assert names(tmp_path / "out") == ["a"]
    with new_file(tmp_path / "file") as one, new_file(tmp_path / "file") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert names(tmp_path) == ["file", "out"]


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path):
    def appear() -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()

    with pytest.raises(OSError, match="not empty"):
        _fill(tmp_path / "out", appear)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["theirs"]


def test_what_is_to_be_replaced_comes_back_when_that_fails(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    rename = os.rename

    def fail_once(source, target) -> None:
        if ".partial-" in str(source):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_once)
    with pytest.raises(OSError, match="Input/output"), new_folder(tmp_path / "out", replace=True) as folder:
        (folder / "new").touch()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["old"]


@pytest.mark.parametrize("name", ["x" * 255, "\u00e4" * 127, "a"])
def test_names_may_be_as_long_as_the_disk_takes(tmp_path, name):
    with new_folder(tmp_path / name) as folder:
        (folder / "a").touch()
    with new_file(tmp_path / name / name) as file:
        file.touch()
    assert (tmp_path / name / name).is_file()


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (Exception("I/O error: No space left on device (os error 28)"), errno.ENOSPC),  # of libraries in Rust
        (RuntimeError("something else"), None),
        (DataError("a sentence that quotes (os error 28)"), None),
    ],
)
def test_an_error_of_the_system_names_the_place(tmp_path, error, number):
    with pytest.raises(Exception) as caught, new_folder(tmp_path / "out"):  # noqa: PT011
        raise error
    if number is None:
        assert caught.value is error
    else:
        assert isinstance(caught.value, OSError)
        assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "out"))
        assert str(os_problem(caught.value)).startswith(
            f"{tmp_path}/out cannot be used (No space left on device): make"
        )
    assert names(tmp_path) == []
