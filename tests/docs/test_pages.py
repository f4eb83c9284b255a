"""Every shell and Python block of README and docs runs as it stands there, on small data.

A page's blocks of shell run in their order in a folder where the README's have run before, then its blocks of Python.
What needs more than this machine has (`<!-- needs: a cluster -->` above a block) is read instead of run.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import NEEDS, PAGES, ROOT, Block, read_blocks, unfenced_commands
from tests.docs.world import Shell, make_world, open_shell

BLOCKS = {page: read_blocks(page) for page in PAGES}
OTHERS = [page for page in PAGES if page != "README.md" and any(block.language for block in BLOCKS[page])]
ALL = [block for blocks in BLOCKS.values() for block in blocks]
READ = [block for block in ALL if block.needs is not None and not block.runs]


def run_page(shell: Shell, blocks: list[Block]) -> None:
    for block in blocks:
        if block.language == "bash" and block.runs:
            done = shell.run(block)
            assert done.returncode == 0, f"{block}\n{done.stderr[-3000:]}"
    if python := [block for block in blocks if block.language == "python" and block.runs]:
        done = shell.run_python(python)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def after_readme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of somebody who has followed the README."""
    folder = tmp_path_factory.mktemp("world") / "world"
    make_world(folder)
    with open_shell(folder, folder.parent / "commands") as shell:
        run_page(shell, BLOCKS["README.md"])
    return folder


@pytest.fixture
def shell(after_readme: Path, tmp_path: Path) -> Iterator[Shell]:
    """A shell in a copy of that folder, where the pages' RUN, DATA and other words for the reader's own stand, too."""
    folder = tmp_path / "world"
    shutil.copytree(after_readme, folder)
    for word, made in (("RUN", "runs/acn"), ("DATA", "runs/tokens"), ("me/acn-sst2", "runs/glue-acn/sst2")):
        shutil.copytree(folder / made, folder / word)
    with ExitStack() as stack:
        yield stack.enter_context(open_shell(folder, tmp_path / "commands"))


def test_the_readme_goes_from_text_to_a_small_model(after_readme):
    made = {path.name for path in (after_readme / "runs").iterdir()}
    assert {"tokens", "acn", "small", "report", "hub"} <= made


@pytest.mark.parametrize("page", OTHERS)
def test_the_blocks_of_a_page_run_one_after_another(page, shell):
    run_page(shell, BLOCKS[page])


@pytest.mark.parametrize("block", READ, ids=str)
def test_what_cannot_run_here_is_written_right(block, shell):
    assert block.needs in NEEDS
    if block.language == "python":
        compile(block.code, str(block), "exec")
    else:
        subprocess.run(["bash", "-n", "-c", block.code], check=True)
    for words in block.commands:
        done = shell.read_options(words)
        assert done.returncode == 0, f"{block}: acn {' '.join(words)}: {done.stderr}"


def test_fragments_are_run_by_the_tests_that_they_name():
    fragments = [block for block in ALL if block.run_by is not None]
    assert fragments
    for block in fragments:
        assert block.page in (ROOT / block.run_by).read_text(), str(block)


@pytest.mark.parametrize("page", PAGES)
def test_no_command_stands_where_nothing_runs_it(page):
    assert unfenced_commands(page) == []
    for block in BLOCKS[page]:
        assert block.language in ("bash", "python", "text", "yaml", ""), str(block)
        if block.language == "yaml":
            yaml.safe_load(block.code)
