"""Every task we know, by its name: GLUE's nine, others that were added here, and folders of the user's.

A folder in `glue_dir` whose name is not in the table is a task too when it has `sentence` or `sentence1`, `sentence2`,
and `label`.
"""

from pathlib import Path

from ..errors import EvalError
from .glue import GLUE_TASKS
from .task import Task

# a new task is one entry below GLUE's: "snli": Task("snli", columns, labels, metrics, hub_dataset="stanfordnlp/snli")
TASKS: dict[str, Task] = {
    **GLUE_TASKS,
}


def find_task(name: str, glue_dir: str | None = None) -> Task:
    """The task of that name, or the one in the folder `glue_dir`/`name`, inferred from its training data (accuracy).

    Raises:
        EvalError: there is no such folder, or no such task; the message lists those that exist.
    """
    from .reading import find_local_tasks, infer_task  # the table is read with the options, which wait for no data set

    if glue_dir is not None and not Path(glue_dir).is_dir():
        raise EvalError(f"glue_dir={glue_dir} is not a folder: give one with TASK/SPLIT.parquet, or leave it out")
    if name in TASKS:
        return TASKS[name]
    local = find_local_tasks(Path(glue_dir)) if glue_dir is not None else []
    if glue_dir is None or name not in local:
        found = f"; in glue_dir={glue_dir}: {', '.join(local) or 'none'}" if glue_dir is not None else ""
        raise EvalError(f"tasks: {name!r} is unknown: use {', '.join(TASKS)}{found}")
    return infer_task(Path(glue_dir) / name)
