"""Where the time of a step goes, what it amounts to, and what the device could do."""

import pytest
import torch

from modeling import AcnConfig, forward_flops
from pretrain.observe import meter as meters
from pretrain.observe.meter import Meter, Peak, peak_memory
from pretrain.observe.peak import known_peak, peak_flops

CPU = torch.device("cpu")
MODEL = AcnConfig(vocab_size=50, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meters, "time", clock)
    return clock


def make_step(meter: Meter, clock: Clock, **phases: float) -> None:
    for name, seconds in phases.items():
        with meter.phase(name):
            clock.now += seconds
    meter.count(samples=32, seq_length=16, masked_positions=3)


def test_a_lap_has_the_mean_time_of_every_phase_and_the_speed(clock):
    meter = Meter(MODEL, Peak(flops=1e9, devices=2), CPU)
    for _ in range(2):
        make_step(meter, clock, data=1.0, forward=2.0, backward=4.0, optimizer=1.0)
        clock.now += 2.0
    lap = meter.lap(step=2, steps=10)
    assert {name: lap[f"time/{name}"] for name in ("step", "data", "forward", "backward", "optimizer")} == {
        "step": 10.0, "data": 1.0, "forward": 2.0, "backward": 4.0, "optimizer": 1.0,
    }  # fmt: skip
    assert lap["train/tokens_per_second"] == pytest.approx(32 * 16 / 10)
    assert lap["train/tokens_per_second_per_device"] == pytest.approx(32 * 16 / 10 / 2)
    assert lap["train/seconds_left"] == pytest.approx(80)
    flops = 3 * forward_flops(MODEL, 16, masked_positions=3) * 32
    assert lap["train/mfu"] == pytest.approx(flops / 10 / 2 / 1e9)
    assert lap["train/tflops_per_device"] == pytest.approx(lap["train/mfu"] * 1e9 / 1e12)


def test_where_the_peak_is_unknown_mfu_alone_is_left_out(clock):
    laps = []
    for flops in (None, 1e9):
        meter = Meter(MODEL, Peak(flops, 2), CPU)
        make_step(meter, clock, forward=3.0)
        laps.append(meter.lap(1, 10))
    unknown, known = laps
    assert known.keys() - unknown.keys() == {"train/mfu"}
    assert unknown["train/tflops_per_device"] == known["train/tflops_per_device"] > 0


def test_validation_and_checkpoints_do_not_slow_the_steps_they_lie_between(clock):
    meter = Meter(MODEL, Peak(1e9, 1), CPU)
    make_step(meter, clock, forward=3.0)
    with meter.phase("validation"):
        clock.now += 500
    lap = meter.lap(1, 10)
    assert lap["time/step"] == pytest.approx(3.0)
    assert lap["time/validation"] == pytest.approx(500)
    make_step(meter, clock, forward=5.0)
    lap = meter.lap(2, 10)
    assert lap["time/forward"] == pytest.approx(5.0)
    assert "time/validation" not in lap


def test_a_restarted_lap_forgets_what_was_before(clock):
    meter = Meter(MODEL, Peak(1e9, 1), CPU)
    make_step(meter, clock, forward=3.0)
    clock.now += 1000
    meter.restart()
    assert meter.lap(0, 10) == {}, "no step was made since"
    make_step(meter, clock, forward=4.0)
    assert meter.lap(1, 10)["time/step"] == pytest.approx(4.0)


def test_steps_of_another_length_count_with_their_own_tokens(clock):
    meter = Meter(MODEL, Peak(1e9, 1), CPU)
    for seq_length in (16, 64):
        clock.now += 1
        meter.count(samples=4, seq_length=seq_length, masked_positions=2)
    lap = meter.lap(2, 2)
    assert lap["train/tokens_per_second"] == pytest.approx(4 * (16 + 64) / 2)
    work = sum(3 * 4 * forward_flops(MODEL, length, masked_positions=2) for length in (16, 64))
    assert lap["train/tflops_per_device"] * 1e12 == pytest.approx(work / 2)


@pytest.mark.parametrize(
    ("name", "precision", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16", 312),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5),
        ("NVIDIA A10G", "fp16", 70),
        ("NVIDIA A10", "bf16", 125),
        ("NVIDIA A40", "bf16", 149.7),
        ("NVIDIA H100 80GB HBM3", "bf16", 989),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA H200", "bf16", 989),
        ("NVIDIA B200", "bf16", 2250),
        ("NVIDIA L40S", "bf16", 362),
        ("NVIDIA L4", "bf16", 121),
        ("Tesla V100-SXM2-32GB", "fp16", 125),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
        ("AMD Instinct MI300X", "bf16", 1307.4),
    ],
)
def test_the_peak_of_a_known_device_is_that_of_its_data_sheet(name, precision, teraflops):
    assert known_peak(name, precision) == teraflops * 1e12


def test_what_no_data_sheet_says_is_unknown():
    assert known_peak("Tesla V100-SXM2-32GB", "bf16") is None
    assert known_peak("Quantum Abacus 3000", "fp32") is None
    assert peak_flops(CPU, "fp32") is None
    assert peak_flops(CPU, "bf16") is None


@pytest.mark.parametrize(
    ("name", "matmul", "precision", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", "highest", "bf16", 312),
        ("NVIDIA A100-SXM4-80GB", "highest", "fp32", 19.5),
        ("NVIDIA A100-SXM4-80GB", "high", "fp32", 156),
        ("Quantum Abacus 3000", "highest", "bf16", None),
    ],
)
def test_the_peak_of_a_gpu_goes_by_its_name_and_what_fp32_may_be_rounded_to(
    monkeypatch, name, matmul, precision, teraflops
):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: matmul)
    assert peak_flops(torch.device("cuda", 0), precision) == (None if teraflops is None else teraflops * 1e12)


def test_peak_memory_sees_what_was_given_back():
    before = peak_memory(CPU)
    block = torch.ones(64 * 2**20)  # 256 MiB
    del block
    assert peak_memory(CPU) >= max(before, 256 * 2**20)
