"""What an observer makes of a training loop: driven by hand, with a plain model for an engine."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from modeling import AcnConfig, AcnForMaskedLM
from pretrain.observe import ProbesConfig
from pretrain.observe.observer import Observer
from pretrain.observe.profiler import ProfileConfig

CPU = torch.device("cpu")


class Everything:
    """A tracker and a console that remember."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.shown: list[tuple[int, int]] = []
        self.tags: dict[str, str] = {}
        self.files: list[Path] = []
        self.lines: list[str] = []

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.metrics.append((step, values))

    def progress(self, step: int, steps: int, metrics: dict[str, float]) -> None:
        self.shown.append((step, steps))

    def log_tags(self, tags: dict[str, str]) -> None:
        self.tags |= tags

    def log_figure(self, path: Path) -> None:
        self.files.append(path)

    log_model = log_figure

    def say(self, line: str) -> None:
        self.lines.append(line)

    def steps_with(self, name: str) -> list[int]:
        return [step for step, values in self.metrics if any(key.startswith(name) for key in values)]


@pytest.fixture
def one_rank(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def seen() -> Everything:
    return Everything()


@pytest.fixture
def model() -> AcnForMaskedLM:
    torch.manual_seed(0)
    return AcnForMaskedLM(
        AcnConfig(vocab_size=12, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
    )


@pytest.fixture
def observer(one_rank, tiny_run, model, seen, tmp_path):
    (tmp_path / "run").mkdir()
    config = tiny_run(log_every=2, probes=ProbesConfig(every=3), profile=ProfileConfig(start=2, steps=1))
    return Observer(config, model, "fp32", CPU, lambda: seen, seen)


def batch(number: int) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(number)
    labels = torch.randint(0, 12, (4, 3), generator=generator)
    labels[0, number % 3] = -100  # no target
    return SimpleNamespace(
        input_ids=torch.randint(0, 12, (4, 16), generator=generator),
        masked_positions=torch.randint(0, 16, (4, 3), generator=generator),
        labels=labels,
    )


def train(observer: Observer, model: AcnForMaskedLM, step: int, steps: int) -> None:
    observer.begin_step(step, steps)
    batches = [batch(2 * step), batch(2 * step + 1)]
    for micro in batches:
        with observer.micro_batch():
            outputs = model(**vars(micro))
            observer.saw(outputs, micro.labels)
            (outputs.loss / 2).backward()
    observer.end_step(batches, 8)


def test_masked_accuracy_is_that_of_every_micro_batch_of_a_logging_step(observer, model):
    train(observer, model, 1, 9)
    assert observer.take_hits().tolist() == [0, 0], "step 1 is not logged"
    train(observer, model, 2, 9)
    correct = count = 0
    for number in (4, 5):
        micro = batch(number)
        logits = model(input_ids=micro.input_ids).logits
        for row, (positions, labels) in enumerate(zip(micro.masked_positions, micro.labels, strict=True)):
            for position, label in zip(positions.tolist(), labels.tolist(), strict=True):
                if label != -100:
                    correct += int(logits[row, position].argmax() == label)
                    count += 1
    assert count == 22
    assert observer.take_hits().tolist() == [correct, count]
    assert observer.take_hits().tolist() == [0, 0], "they are counted once"


def test_probes_come_every_so_many_steps_and_at_the_last_one(observer, model, seen):
    for step in range(1, 6):
        train(observer, model, step, 5)
    assert seen.steps_with("probe/gradient_norm_layer_02") == [3, 5]
    assert set(seen.shown) == {(3, 5), (5, 5)}


def test_the_profile_is_announced(observer, model, seen, tmp_path):
    for step in (1, 2, 3):
        train(observer, model, step, 9)
    observer.close()
    (line,) = seen.lines
    trace = tmp_path / "run" / "profile" / "trace-rank0-step2.json.gz"
    assert line == f"step 2  profile {trace}"
    assert trace.is_file()


def test_on_a_cpu_the_speed_is_measured_and_mfu_is_not(observer, model):
    train(observer, model, 1, 9)
    lap = observer.meter.lap(1, 9)
    assert lap["train/tokens_per_second"] > 0
    assert lap["train/tflops_per_device"] > 0
    assert "train/mfu" not in lap


def test_the_tags_tell_where_the_job_runs(observer, seen):
    assert seen.tags["world_size"] == "1"
    assert seen.tags["hosts"]
    assert seen.tags["device"].startswith("cpu")


def test_picture_and_model_are_handed_to_the_tracker_and_a_picture_that_fails_stops_nothing(
    observer, seen, tmp_path, caplog
):
    run = tmp_path / "run"
    observer.draw()
    assert seen.files == []
    assert "no picture" in caplog.text, "there are no metrics to draw yet"
    (run / "metrics.jsonl").write_text(json.dumps({"time": 0, "step": 1, "train/loss": 1.0}) + "\n")
    observer.publish(run / "model")
    assert seen.files == [run / "pretraining.png", run / "model"]
