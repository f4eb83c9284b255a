"""What a report is made of."""

from dataclasses import dataclass
from pathlib import Path


@dataclass
class ReportConfig:
    """Tables and figures from the results of fine-tunings and studies."""

    results: list[str]
    """Folders to search for results.json and study.json (OUTPUT of `acn glue`, `acn study`, or a folder above)."""
    output: str
    """Folder to write index.html, results.csv, figures/ and tables/ into; an earlier report there is replaced."""

    def problems(self) -> list[str]:
        """Everything that is wrong with the values, each with its fix."""
        problems = [] if self.results else ["results is empty: name at least one folder that `acn glue` wrote"]
        absent = [folder for folder in self.results if not Path(folder).is_dir()]
        problems += [f"results: {folder} is not a folder: give one that `acn glue` wrote" for folder in absent]
        return problems
