"""Power of the processors from the energy counters of Linux (RAPL in powercap; mostly for root only to read)."""

import os
import time
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class PackagePower:
    """Mean power of all processor packages between two readings.

    https://www.kernel.org/doc/html/latest/power/powercap/powercap.html

    Args:
        root: where the counters are.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        # intel-rapl:0 is a package (AMD's too), intel-rapl:0:0 a part of it
        zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        self._zones = [zone for zone in zones if os.access(zone / "energy_uj", os.R_OK)]
        self._before, self._when = self._counters(), time.monotonic()

    def watts(self) -> float | None:
        """Since the last call, or since the beginning; None where there are no counters to read."""
        now, when = self._counters(), time.monotonic()
        before, seconds = self._before, when - self._when
        self._before, self._when = now, when
        if not now or len(now) != len(before) or seconds <= 0:
            return None
        spans = [(b - a) % (most + 1) for (a, most), (b, _) in zip(before, now, strict=True)]  # they start over
        return sum(spans) / 1e6 / seconds

    def _counters(self) -> list[tuple[int, int]]:
        """(microjoules, the most before starting over) of every package."""
        try:
            names = ("energy_uj", "max_energy_range_uj")
            values = [[int((zone / name).read_text()) for name in names] for zone in self._zones]
        except (OSError, ValueError):
            return []
        return [(energy, most) for energy, most in values]
