"""What a classification task is: its columns, labels, metrics, splits, and where the Hub has it."""

from dataclasses import dataclass

LABEL = "label"
PAIR = ("sentence1", "sentence2")


@dataclass(frozen=True)
class Task:
    """A text classification or regression task on one sentence or a pair."""

    name: str
    columns: tuple[str, ...]
    """The text columns, one or two."""
    labels: tuple[str, ...]
    """The name of each class id; empty for regression."""
    metrics: tuple[str, ...]
    """All metrics of the task. GLUE's average takes their mean; the first one is the `metric` of depth curves."""
    validation_splits: tuple[str, ...] = ("validation",)
    """The first is the one that depth curves are made on and must be there; the others are used where they are."""
    test_splits: tuple[str, ...] = ("test",)
    """Splits to predict, used where they are; their labels, if any, are not looked at."""
    hub_dataset: str | None = None
    """OWNER/NAME on the Hub; None for a task that is in a local folder only."""
    hub_config: str | None = None
    """The configuration of a Hub data set that has several."""
    numbered: bool = True
    """Numbers without names are ids of `labels`, and -1 is no label: GLUE and other tables number their classes. False
    where the classes were found in a training split: a number is the name of a class there."""
    label_column: str = LABEL
    """What `label` is called where the data comes from."""

    @property
    def metric(self) -> str:
        """The primary metric. For MRPC and QQP it is accuracy, as in the paper's tables, for STS-B Pearson's r."""
        return self.metrics[0]

    @property
    def is_regression(self) -> bool:
        return not self.labels

    @property
    def num_labels(self) -> int:
        """Outputs of the classifier: the classes, or one for regression."""
        return len(self.labels) or 1
