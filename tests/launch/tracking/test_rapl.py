"""Power of the processors, read from counters as Linux keeps them."""

import pytest

from launch.tracking import rapl
from launch.tracking.system import SystemMonitor


@pytest.fixture
def counters(tmp_path, monkeypatch):
    """Two packages, a part of the first, and a clock to turn."""
    clock = [100.0]
    monkeypatch.setattr(rapl.time, "monotonic", lambda: clock[0])

    def write(name, energy, most=1_000_000_000):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "energy_uj").write_text(f"{energy}\n")
        (tmp_path / name / "max_energy_range_uj").write_text(f"{most}\n")

    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        write(name, 5_000_000)
    return write, clock


def test_packages_are_added_and_their_parts_are_not(counters, tmp_path):
    write, clock = counters
    power = rapl.PackagePower(tmp_path)
    for name, joules in (("intel-rapl:0", 200), ("intel-rapl:1", 100), ("intel-rapl:0:0", 900)):
        write(name, 5_000_000 + joules * 1_000_000)
    clock[0] += 4
    assert power.watts() == pytest.approx((200 + 100) / 4)
    clock[0] += 4
    assert power.watts() == 0, "only what came since the last reading"


def test_a_counter_that_starts_over_is_followed(counters, tmp_path):
    write, clock = counters
    write("intel-rapl:0", 999_000_000)
    power = rapl.PackagePower(tmp_path)
    write("intel-rapl:0", 2_000_000 - 1)
    clock[0] += 1
    assert power.watts() == pytest.approx(3.0)


def test_without_counters_nothing_is_claimed(tmp_path, monkeypatch):
    assert rapl.PackagePower(tmp_path).watts() is None
    monkeypatch.setattr(rapl.PackagePower, "watts", lambda self: None)
    assert "system/cpu_power_usage_watts" not in SystemMonitor(1e-9).sample()
    monkeypatch.setattr(rapl.PackagePower, "watts", lambda self: 42.0)
    assert SystemMonitor(1e-9).sample()["system/cpu_power_usage_watts"] == 42.0
