"""acn report"""

from dataclasses import dataclass

from eval.report import ReportConfig

from . import large_imports

EXAMPLE = "acn report runs/glue-acn runs/glue-res --output runs/report"


@dataclass
class Args(ReportConfig):
    """Tables and figures of any number of fine-tunings, as one page."""


def run(args: Args) -> int:
    """Write the page and say where it is."""
    with large_imports():
        from eval.report import write_report

    print(f"report: {write_report(args)}")
    return 0
