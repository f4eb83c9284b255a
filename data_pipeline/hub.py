"""Models as users name them, a folder or NAME[@revision] of the Hub: the one place that finds them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from .credentials import hide_credentials
from .errors import DataError
from .problems import Problem

_NAME = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?)(?:@(?P<revision>[^@\s]+))?")
_SAFE = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json")
_BESIDE = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "*.model", "results.json", "cut.json", "results/*.json",
)  # fmt: skip
"""What belongs to a model besides its weights; no code, which is never run from there."""
_FOUND: dict[tuple[str, bool], "ModelFolder"] = {}
"""By what was asked for: one process sees one commit, whatever happens on the Hub meanwhile."""


@dataclass(frozen=True)
class ModelFolder:
    """Where a model is on this machine, and what it is called elsewhere."""

    path: Path
    hub_name: str | None = None
    """OWNER/NAME on the Hub; None for a folder of the user's."""
    revision: str | None = None
    """The commit on the Hub."""

    @property
    def name(self) -> str:
        """OWNER/NAME@COMMIT, or the folder: what finds the same files again."""
        return str(self.path) if self.hub_name is None else f"{self.hub_name}@{self.revision}"


def find_model(model: str, field: str = "model", weights: bool = True) -> ModelFolder:
    """The folder `model`, or that of the model of the Hub that it names, which is downloaded unless it is here already.

    Weights are taken as safetensors; pickles only where there is nothing else. Without a connection, or with
    HF_HUB_OFFLINE=1, what was downloaded before is found again.

    Args:
        model: a folder, or NAME or NAME@REVISION of the Hub (a branch, tag or commit).
        field: the option that asks for it, for messages.
        weights: whether they are wanted, or its tokenizer and configuration only.

    Raises:
        DataError: it is neither; or the Hub does not give it to this user, or cannot be reached.
    """
    if Path(model).exists():
        return ModelFolder(Path(model))
    found = _NAME.fullmatch(model)
    if found is None:
        raise DataError(Problem(field, model, "is not there", "give a folder, or NAME or NAME@REVISION of the Hub"))
    if (model, weights) not in _FOUND:
        folder = _from_hub(found["name"], found["revision"], field, weights)
        _FOUND[model, weights] = _FOUND[folder.name, weights] = folder
    return _FOUND[model, weights]


def _from_hub(name: str, revision: str | None, field: str, weights: bool) -> ModelFolder:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    # the client's base class of errors, failed connections included: of httpx in huggingface_hub 1, httpx2 in 2
    transport_error: type[Exception] = HfHubHTTPError.__bases__[0]
    asked = name if revision is None else f"{name}@{revision}"
    try:
        files = [file.rfilename for file in HfApi().model_info(name, revision=revision).siblings or []]
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_wanted(files, weights)))
    except HFValidationError:
        raise DataError(Problem(field, asked, "is neither a folder nor a name that the Hub takes")) from None
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code < 500:
            raise DataError(_refusal(error, field, asked, name, revision)) from error
        folder = _from_cache(field, asked, name, revision, weights, error)
    except (OfflineModeIsEnabled, transport_error, OSError) as error:
        folder = _from_cache(field, asked, name, revision, weights, error)
    return ModelFolder(folder, name, folder.name)


def _wanted(files: Iterable[str], weights: bool) -> list[str]:
    """Which files of a repository make up the model."""
    files = list(files)
    are_safe = any(fnmatchcase(file, _SAFE[0]) or fnmatchcase(file, _SAFE[1]) for file in files)
    patterns = (*((_SAFE if are_safe else _PICKLED) if weights else ()), *_BESIDE)
    return [file for file in files if any(fnmatchcase(file, pattern) for pattern in patterns)]


def _from_cache(field: str, asked: str, name: str, revision: str | None, weights: bool, error: Exception) -> Path:
    """What was downloaded before, where the Hub does not answer.

    Raises:
        DataError: nothing was.
    """
    from huggingface_hub import constants, snapshot_download

    for kind in (_SAFE, _PICKLED) if weights else (("config.json", "tokenizer.json"),):
        patterns = [*(kind if weights else ()), *_BESIDE]
        try:
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=True))
        except OSError:  # nothing, or a part
            continue
        if any(path for pattern in kind for path in folder.glob(pattern)):
            return folder
    if constants.HF_HUB_OFFLINE:
        wrong = "is no folder here and was not downloaded before, and HF_HUB_OFFLINE is set"
        raise DataError(Problem(field, asked, wrong, "set HF_HUB_OFFLINE=0, or give a folder")) from error
    reason = hide_credentials(" ".join(str(error).split())[:200])
    raise DataError(
        Problem(
            field, asked, f"is no folder here, and the Hub cannot be reached ({reason})", "connect, or give a folder"
        )
    ) from error


def _refusal(error: Exception, field: str, asked: str, name: str, revision: str | None) -> Problem:
    """What the Hub has against it, and the fix."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    page = f"{constants.ENDPOINT}/{name}"
    if isinstance(error, GatedRepoError):
        fix = f"accept its conditions at {page} and log in with `hf auth login`"
        return Problem(field, asked, "is gated on the Hub", fix)
    if isinstance(error, RevisionNotFoundError):
        return Problem(field, asked, f": the Hub has no revision {revision!r} of it", f"choose one at {page}/tree/main")
    if isinstance(error, RepositoryNotFoundError):
        fix = "check the spelling; for a private one log in with `hf auth login`"
        return Problem(field, asked, "is neither a folder here nor a model on the Hub that you may see", fix)
    reason = hide_credentials(" ".join(str(error).split())[:200])
    return Problem(field, asked, f": the Hub refuses it ({reason})", "log in again with `hf auth login`")
