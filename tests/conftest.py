"""What several rooms' tests need: a prepared corpus of a few kilobytes, made by the real `prepare`."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# a busy machine takes its time
settings.register_profile("acn", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("acn")

# one thread is fastest for models this small, leaves the other cores to the ranks, and makes sums come out alike
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have the server of all processes import while the first tests run, where tests of this session start any.

    Before any of them: whatever forks first in this process, a corpus' workers for instance, decides what its server
    has imported.
    """
    if not session.config.option.collectonly and "tests.processes" in sys.modules:
        sys.modules["tests.processes"].start_server()


def sentences(count: int, seed: int) -> str:
    """Text with a little structure for a model to find."""
    draw = random.Random(seed)
    lines = (
        f"the {draw.choice(['cat', 'dog', 'bird'])} {draw.choice(['sat', 'ran'])} {draw.choice(['on', 'under'])} "
        f"the {draw.choice(['red', 'blue', 'big'])} {draw.choice(['mat', 'log', 'tree'])} and then it was "
        f"{draw.choice(['here', 'there'])}"
        for _ in range(count)
    )
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus: some hundred blocks of 16 tokens, a vocabulary of less than a hundred."""
    from data_pipeline import CorpusConfig, PrepareConfig, prepare_corpus

    folder = tmp_path_factory.mktemp("corpus")
    (folder / "train.txt").write_text(sentences(400, seed=1))
    (folder / "validation.txt").write_text(sentences(60, seed=2))
    corpus = CorpusConfig(train=str(folder / "train.txt"), validation=str(folder / "validation.txt"))
    prepare_corpus(PrepareConfig(corpus=corpus, output=str(folder / "tokens"), vocab_size=120, seq_length=16))
    return folder / "tokens"


@pytest.fixture(scope="module")
def hub_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Hub that runs as a process; `become_the_hub` makes it this process's."""
    from tests.launch.publishing.hub_server import HubServer  # here, because few tests need it

    server = HubServer(tmp_path_factory.mktemp("hub"))
    yield server
    server.stop()
