"""The nine tasks of GLUE, as GLUE defines them: columns, labels, splits and metrics (Wang et al. 2019).

Labels and columns are those of `nyu-mll/glue` on the Hub.
"""

from dataclasses import dataclass

HUB_DATASET = "nyu-mll/glue"
LABEL = "label"


@dataclass(frozen=True)
class GlueTask:
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


PAIR = ("sentence1", "sentence2")


_ENTAILMENT = ("entailment", "not_entailment")


_PARAPHRASE = ("accuracy", "f1")


TASKS: dict[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
        GlueTask("sst2", ("sentence",), ("negative", "positive"), ("accuracy",)),
        GlueTask("mrpc", PAIR, ("not_equivalent", "equivalent"), _PARAPHRASE),
        GlueTask("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), _PARAPHRASE),
        GlueTask("stsb", PAIR, (), ("pearson", "spearman")),
        GlueTask(
            "mnli",
            ("premise", "hypothesis"),
            ("entailment", "neutral", "contradiction"),
            ("accuracy",),
            ("validation_matched", "validation_mismatched"),
            ("test_matched", "test_mismatched"),
        ),
        GlueTask("qnli", ("question", "sentence"), _ENTAILMENT, ("accuracy",)),
        GlueTask("rte", PAIR, _ENTAILMENT, ("accuracy",)),
        GlueTask("wnli", PAIR, ("not_entailment", "entailment"), ("accuracy",)),
    )
}


# GLUE's diagnostic set: test data only, answered by the model of MNLI
DIAGNOSTIC = GlueTask("ax", TASKS["mnli"].columns, TASKS["mnli"].labels, ("matthews",), ())
