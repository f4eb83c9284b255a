"""Which columns of a data set are its texts and its labels, where nobody named them: the only choice, or an error."""

from collections.abc import Sequence

from data_pipeline import Problem

from ..errors import EvalError
from .glue import GLUE_TASKS
from .task import LABEL

# names that say what a column is: those of GLUE's tasks, and of text sets on the Hub; the longest that fits is meant
_TEXTS = sorted({*(task.columns for task in GLUE_TASKS.values()), ("text",)}, key=lambda names: (-len(names), names))
TEXT_NAMES = tuple(dict.fromkeys(name for names in _TEXTS for name in names))
_LABELS = (LABEL, "labels", "class", "target", "category")
_NUMBERING = {"", "idx", "id", "index", "unnamed: 0", "__index_level_0__"}
NAME_THEM = "name them with --dataset.text_columns and --dataset.label_column"


def choose_columns(
    columns: Sequence[str], texts: Sequence[str], label: str | None, where: str
) -> tuple[tuple[str, ...], str]:
    """The text columns, one or two, and the label column.

    What is not named is the column with a name that says so, in any case, else the only one that is left. Columns that
    number the rows (idx, id) are neither.

    Args:
        columns: all there are.
        texts, label: those that were named; empty and None where they were not.
        where: the file or option, for the message.

    Raises:
        EvalError: there are several choices, or none; the message lists the columns.
    """
    left = [name for name in dict.fromkeys(columns) if name not in texts and name.strip().lower() not in _NUMBERING]
    if label is None:
        label = _label(left, bool(texts), columns, where)
    if not texts:
        texts = _texts([name for name in left if name != label], columns, where)
    if LABEL in texts:
        raise EvalError(Problem(where, wrong=f": its text column is called {LABEL}", fix="rename that column"))
    return tuple(texts), label


def choose_texts(columns: Sequence[str], where: str, fix: str) -> tuple[str, ...]:
    """The text columns, one or two, of rows without labels: those of `TEXT_NAMES` that belong together.

    Args:
        columns: all there are.
        where: the file, for the message.
        fix: how to name them instead.

    Raises:
        EvalError: there are several choices, or none; the message lists the columns.
    """
    return _texts([name for name in dict.fromkeys(columns) if name in TEXT_NAMES], columns, where, fix)


def _label(left: Sequence[str], texts_are_named: bool, columns: Sequence[str], where: str) -> str:
    if LABEL in left:
        return LABEL
    fitting = [name for name in left if name.strip().lower() in _LABELS]
    if not fitting and texts_are_named:
        fitting = list(left)
    elif not fitting and len(left) == 2:  # what is not the text
        fitting = [name for name in left if any((other,) in _TEXTS for other in left if other != name)]
    return _only(fitting, "its labels", columns, where)


def _texts(left: Sequence[str], columns: Sequence[str], where: str, fix: str = NAME_THEM) -> tuple[str, ...]:
    by_name = {name.strip().lower(): name for name in left}
    known = [names for names in _TEXTS if set(names) <= by_name.keys()]
    # "sentence" is a part of what ("question", "sentence") says
    largest = [names for names in known if not any(set(names) < set(others) for others in known)]
    if len(largest) == 1:
        return tuple(by_name[name] for name in largest[0])
    fitting = left if not largest else [name for names in largest for name in names]
    return (_only(fitting, "its text", columns, where, fix),)


def _only(fitting: Sequence[str], what: str, columns: Sequence[str], where: str, fix: str = NAME_THEM) -> str:
    if len(fitting) == 1:
        return fitting[0]
    which = f"several may be {what}" if fitting else f"none is known to be {what}"
    listed = ", ".join(name or "''" for name in columns)
    raise EvalError(Problem(where, wrong=f"has the columns {listed}, of which {which}", fix=fix))
