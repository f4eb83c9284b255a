"""Traces of the steps that were asked for."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from pretrain.observe.profiler import ProfileConfig, StepProfiler

CPU = torch.device("cpu")


def train(config: ProfileConfig, folder: Path, steps: range, rank: int = 0) -> list[Path]:
    profiler = StepProfiler(config, folder, rank, CPU)
    found = []
    for step in steps:
        profiler.before_step(step)
        with torch.profiler.record_function(f"step {step}"):
            torch.mm(torch.ones(8, 8), torch.ones(8, 8))
        found.append(profiler.after_step(step))
    found.append(profiler.close())
    return [path for path in found if path]


def steps_in(trace: Path) -> list[str]:
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    return sorted({event["name"] for event in events if event.get("name", "").startswith("step ")})


def test_exactly_the_steps_asked_for_are_traced(tmp_path):
    (trace,) = train(ProfileConfig(start=3, steps=2), tmp_path / "profile", range(1, 7))
    assert trace == tmp_path / "profile" / "trace-rank0-step3.json.gz"
    assert steps_in(trace) == ["step 3", "step 4"]
    table = (tmp_path / "profile" / "table-rank0-step3.txt").read_text()
    assert "aten::mm" in table
    assert "FLOPs" in table
    assert sorted(path.name for path in trace.parent.iterdir()) == ["table-rank0-step3.txt", trace.name]


def test_a_run_that_ends_in_the_middle_leaves_what_was_traced(tmp_path):
    (trace,) = train(ProfileConfig(start=2, steps=9), tmp_path, range(1, 4))
    assert steps_in(trace) == ["step 2", "step 3"]


def test_a_run_resumed_in_the_middle_traces_the_rest_and_one_resumed_after_it_nothing(tmp_path):
    (trace,) = train(ProfileConfig(start=2, steps=3), tmp_path / "middle", range(4, 9))
    assert steps_in(trace) == ["step 4"]
    assert train(ProfileConfig(start=2, steps=3), tmp_path / "after", range(5, 9)) == []


def test_other_ranks_are_traced_only_on_demand(tmp_path):
    assert train(ProfileConfig(start=1, steps=1), tmp_path, range(1, 3), rank=1) == []
    (trace,) = train(ProfileConfig(start=1, steps=1, all_ranks=True), tmp_path, range(1, 3), rank=1)
    assert trace.name == "trace-rank1-step1.json.gz"


def test_nothing_is_traced_by_default(tmp_path):
    assert train(ProfileConfig(), tmp_path, range(1, 20)) == []
    assert not (tmp_path / "profile").exists()


@pytest.mark.parametrize(("config", "field"), [({"start": 0}, "profile.start"), ({"steps": -1}, "profile.steps")])
def test_problems_name_the_field(config, field):
    assert [problem.field for problem in ProfileConfig(**config).problems()] == [field]
