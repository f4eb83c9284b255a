"""Checks of every node of a job before it trains: `preflight` makes them, rank 0 has the findings."""

from launch.preflight.config import PreflightConfig
from launch.preflight.findings import Finding
from launch.preflight.job import LostError
from launch.preflight.run import Outcome, preflight, report
from launch.preflight.table import show

__all__ = ["Finding", "LostError", "Outcome", "PreflightConfig", "preflight", "report", "show"]
