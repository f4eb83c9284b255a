"""The ranks of the benchmarks are forked from the server of the tests' processes."""

from tests import processes  # noqa: F401  which `tests/conftest.py` has started then
