"""Measurements behind the figures in the documentation; each module is run with `python -m benchmarks.NAME`."""
