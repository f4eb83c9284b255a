"""The size of the demo."""

from dataclasses import dataclass

from data_pipeline import Problem, number_problems


@dataclass
class DemoConfig:
    """Size and place of the demo."""

    output: str = "runs/demo"
    """Folder of everything the demo writes; an earlier demo there is replaced."""
    nproc_per_node: int = 2
    """Ranks of the two pretrainings."""
    corpus_mb: float = 8.0
    """Megabytes of documentation to use."""
    steps: int = 800
    """Optimizer steps of each pretraining."""
    train_examples: int = 2000
    """Training examples of each task."""
    validation_examples: int = 600
    """Validation examples of each task."""
    mlflow: str | None = "auto"
    """MLflow tracking URI of the runs; null records in their metrics.jsonl only. auto: MLFLOW_TRACKING_URI, or without
    it sqlite:///mlruns.db."""

    def problems(self) -> list[Problem]:
        counts = ("nproc_per_node", "corpus_mb", "steps", "train_examples", "validation_examples")
        found = number_problems(self)
        return found + [
            Problem(name, getattr(self, name), "must be above 0") for name in counts if getattr(self, name) <= 0
        ]
