"""The nine tasks of GLUE, as GLUE defines them (Wang et al. 2019): columns, labels, splits, metrics, submission.

Labels and columns are those of `nyu-mll/glue` on the Hub. Tasks that are not GLUE's belong into `registry`.
"""

from .task import PAIR, Task

_HUB_DATASET = "nyu-mll/glue"
_ENTAILMENT = ("entailment", "not_entailment")
_PARAPHRASE = ("accuracy", "f1")


def _task(
    name: str,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
    metrics: tuple[str, ...] = ("accuracy",),
    validation_splits: tuple[str, ...] = ("validation",),
    test_splits: tuple[str, ...] = ("test",),
) -> Task:
    return Task(name, columns, labels, metrics, validation_splits, test_splits, _HUB_DATASET, hub_config=name)


GLUE_TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _task("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
        _task("sst2", ("sentence",), ("negative", "positive")),
        _task("mrpc", PAIR, ("not_equivalent", "equivalent"), _PARAPHRASE),
        _task("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), _PARAPHRASE),
        _task("stsb", PAIR, (), ("pearson", "spearman")),
        _task(
            "mnli",
            ("premise", "hypothesis"),
            ("entailment", "neutral", "contradiction"),
            ("accuracy",),
            ("validation_matched", "validation_mismatched"),
            ("test_matched", "test_mismatched"),
        ),
        _task("qnli", ("question", "sentence"), _ENTAILMENT),
        _task("rte", PAIR, _ENTAILMENT),
        _task("wnli", PAIR, ("not_entailment", "entailment")),
    )
}

# GLUE's diagnostic set: test data only, answered by the model of MNLI
DIAGNOSTIC = _task("ax", GLUE_TASKS["mnli"].columns, GLUE_TASKS["mnli"].labels, ("matthews",), ())

# the files that gluebenchmark.com takes, by task, or by task and split where there are several
SUBMISSION_FILES = {
    "cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B", "qqp": "QQP", "qnli": "QNLI", "rte": "RTE",
    "wnli": "WNLI", "ax": "AX", "mnli/test_matched": "MNLI-m", "mnli/test_mismatched": "MNLI-mm",
}  # fmt: skip
# it wants class ids for these, names for the others
SUBMITTED_AS_IDS = ("cola", "sst2", "mrpc", "qqp", "wnli")
