"""How busy the machine is, and the power of its processors, read from counters as Linux keeps them."""

import os
import re
from pathlib import Path

import pytest

from launch.tracking import system
from launch.tracking.system import PackagePower, SystemMonitor


def test_system_metrics_come_when_due_and_are_plausible():
    monitor = SystemMonitor(every=3600)
    values = monitor.sample()
    assert 0 <= values["system/cpu_utilization_percentage"] <= 100
    assert 0 < values["system/system_memory_usage_percentage"] <= 100
    status = Path(f"/proc/{os.getpid()}/status")
    if status.exists():
        resident = int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1]) * 1024
        assert values["system/process_memory_usage_megabytes"] == pytest.approx(resident / 1e6, rel=0.2)
    assert monitor.sample() == {}
    assert SystemMonitor(every=0).sample() == {}


@pytest.fixture
def counters(tmp_path, monkeypatch):
    """Two packages, a part of the first, and a clock to turn."""
    clock = [100.0]
    monkeypatch.setattr(system.time, "monotonic", lambda: clock[0])

    def write(name, energy, most=1_000_000_000):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "energy_uj").write_text(f"{energy}\n")
        (tmp_path / name / "max_energy_range_uj").write_text(f"{most}\n")

    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        write(name, 5_000_000)
    return write, clock


def test_packages_are_added_and_their_parts_are_not(counters, tmp_path):
    write, clock = counters
    power = PackagePower(tmp_path)
    for name, joules in (("intel-rapl:0", 200), ("intel-rapl:1", 100), ("intel-rapl:0:0", 900)):
        write(name, 5_000_000 + joules * 1_000_000)
    clock[0] += 4
    assert power.read_watts() == pytest.approx((200 + 100) / 4)
    clock[0] += 4
    assert power.read_watts() == 0, "only what came since the last reading"


def test_a_counter_that_starts_over_is_followed(counters, tmp_path):
    write, clock = counters
    write("intel-rapl:0", 999_000_000)
    power = PackagePower(tmp_path)
    write("intel-rapl:0", 2_000_000 - 1)
    clock[0] += 1
    assert power.read_watts() == pytest.approx(3.0)


def test_without_counters_nothing_is_claimed(tmp_path, monkeypatch):
    assert PackagePower(tmp_path).read_watts() is None
    monkeypatch.setattr(PackagePower, "read_watts", lambda self: None)
    assert "system/cpu_power_usage_watts" not in SystemMonitor(1e-9).sample()
    monkeypatch.setattr(PackagePower, "read_watts", lambda self: 42.0)
    assert SystemMonitor(1e-9).sample()["system/cpu_power_usage_watts"] == 42.0
