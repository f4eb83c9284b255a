"""What can be known to be wrong with a run in a moment: from its options and folders alone, without torch."""

from pathlib import Path

from data_pipeline import folder_problem, is_url

from .config import PretrainConfig
from .overrides import override_problems


def plain_problems(config: PretrainConfig) -> list[str]:
    """Every problem that shows without torch, each naming the field and the mend; `check_run` finds the others."""
    found = config.problems() + override_problems(config.deepspeed)
    return found + _output_problems(Path(config.output)) + data_problems(config.data)


def data_problems(data: str) -> list[str]:
    """Why a local folder is no prepared corpus; nothing is asked of the network."""
    problem = None if is_url(data) else folder_problem(data)
    return [] if problem is None else [problem]


def _output_problems(output: Path) -> list[str]:
    if not output.exists() or (output / "config.yaml").exists() or not _has_files(output):
        return []
    return [f"output={output} exists and is not a run of `acn pretrain`: choose another folder or remove it"]


def _has_files(folder: Path) -> bool:
    """Whether a folder (or a file in its place) holds anything but our lock."""
    return not folder.is_dir() or any(path.name != ".lock" for path in folder.iterdir())
