"""What `acn prepare` says while a library works in silence."""

import threading

from data_pipeline.corpus.progress import Stages


def test_the_stage_is_said_while_nothing_else_is():
    lines: list[str] = []
    heard = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("tokenizer: counting words, 40% of the text, "):
            heard.set()

    with Stages("tokenizer", say, seconds=0.001) as stages:
        stages.tell("counting words", 0.4)
        assert heard.wait(60)
    assert all(line.endswith(" so far") for line in lines)
    assert not stages._thread.is_alive()


def test_quick_work_is_not_spoken_of():
    lines: list[str] = []
    with Stages("tokenizer", lines.append, seconds=60) as stages:
        stages.tell("counting words", None)
    assert lines == []
