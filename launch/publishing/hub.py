"""Sending a publication to the Hub: one repository, updated in place, and errors that name the fix.

`upload_folder` skips files whose content is there already and makes no commit of nothing. Weights and shards are stored
by their hash before the commit that names them, so an interrupted upload goes on where it was: the same command
again sends only what is missing.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from huggingface_hub.utils import logging as hub_logging

from ..errors import HubError, LaunchError
from .config import token_origin
from .files import RECEIPT, REVISIONS, SIBLINGS, Publication, Target, files_of

# The HTTP client's base class of errors, failed connections included: of httpx in huggingface_hub 1, httpx2 in 2.
_TRANSPORT_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
_AGAIN = "run the same command again: what has arrived is not sent twice"
# What this program writes and a later publication may lack. Everything else in a repository is somebody's own.
STALE = {
    "model": ["*.safetensors", "*.safetensors.index.json", "*.onnx", "figures/depth-*.png", "results/*.json"],
    "dataset": ["train/*.parquet", "validation/*.parquet"],
}


class Hub:
    """The repositories of one user, as far as publishing needs them.

    Args:
        repo_type: "model" or "dataset".
        say: tells the user a line.
    """

    def __init__(self, repo_type: str, say: Callable[[str], None]) -> None:
        self.api = HfApi()
        self.repo_type = repo_type
        self.say = say

    def publish(self, publication: Publication, public: bool) -> str:
        """Create or update every repository and revision; returns the address of the first repository.

        Raises:
            LaunchError: the token is refused, may not write, or the repository is another owner's, or is public already
                and `public` was not said.
            HubError: the Hub cannot be reached, or failed.
        """
        repositories = list(dict.fromkeys(target.repo_id for target in publication.targets))
        with self._explained(repositories[0]):
            self._check_owner(repositories[0])
            # all of them, before anything is sent
            hidden = {repo_id: self._is_hidden(repo_id) for repo_id in repositories}
        if seen := [repo_id for repo_id, private in hidden.items() if private is False and not public]:
            raise LaunchError(f"{', '.join(seen)} is public: add --public to update it for everybody to see")
        urls = [self._create(repo_id) for repo_id in repositories]
        for target in publication.targets:
            self._send(target)
        if public:  # last, so that nobody sees half of it
            for repo_id in repositories:
                self._show(repo_id)
        return urls[0]

    def _check_owner(self, repo_id: str) -> None:
        """The token is asked whose it is: a mistake is said before anything is created."""
        me = self.api.whoami()
        owner, names = repo_id.partition("/")[0], [me["name"], *(org["name"] for org in me.get("orgs", []))]
        if owner not in names:
            raise LaunchError(
                f"repo_id={repo_id}: the token of {token_origin()} is {me['name']}'s, who is not {owner} and no member "
                f"of it: publish as {', '.join(names)}, or log in as {owner} (`hf auth login`)"
            )
        if me.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise LaunchError(_no_permission(repo_id, "it is a token for reading"))

    def _is_hidden(self, repo_id: str) -> bool | None:
        """Whether a repository is private; None where there is none yet."""
        try:
            return bool(self.api.repo_info(repo_id, repo_type=self.repo_type).private)
        except RepositoryNotFoundError:
            return None

    def _create(self, repo_id: str) -> str:
        with self._explained(repo_id):
            return str(self.api.create_repo(repo_id, repo_type=self.repo_type, private=True, exist_ok=True))

    def _show(self, repo_id: str) -> None:
        with self._explained(repo_id):
            self.api.update_repo_settings(repo_id, private=False, repo_type=self.repo_type)

    def _send(self, target: Target) -> None:
        """Bring one revision up to date."""
        files = files_of(target.folder)
        size = sum((target.folder / name).stat().st_size for name in files) / 1e6
        where = f"{target.repo_id} {target.revision}"
        self.say(f"{where}: {len(files)} files, {size:,.1f} MB")
        started = time.monotonic()
        with self._explained(target.repo_id), _quiet():
            if target.revision != "main":
                self.api.create_branch(target.repo_id, branch=target.revision, repo_type=self.repo_type, exist_ok=True)
            before = self._head(target)
            self.api.upload_folder(
                repo_id=target.repo_id,
                repo_type=self.repo_type,
                folder_path=target.folder,
                revision=target.revision,
                commit_message="Publish with acn-lm",
                ignore_patterns=[RECEIPT, f"{REVISIONS}/**", f"{SIBLINGS}/**"],
                delete_patterns=STALE[self.repo_type],
            )
            after = self._head(target)
        self.say(f"{where}: {'as it was' if after == before else f'sent in {time.monotonic() - started:.1f} s'}")

    def _head(self, target: Target) -> str | None:
        return self.api.repo_info(target.repo_id, repo_type=self.repo_type, revision=target.revision).sha

    @contextmanager
    def _explained(self, repo_id: str) -> Iterator[None]:
        """Errors of the Hub, its client and the network in words, with the fix."""
        try:
            yield
        except (LaunchError, HubError):
            raise
        except Exception as error:  # the client has many classes of its own, and its threads wrap them
            cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ is not None else error
            explained = _explain(cause, repo_id, self.api.endpoint)
            if explained is None:
                raise
            raise explained from error


def _explain(error: BaseException, repo_id: str, endpoint: str) -> Exception | None:
    """The error for the user, or None for one that nobody foresaw."""
    if isinstance(error, HfHubHTTPError):
        return _explain_answer(error, repo_id, endpoint)
    if isinstance(error, _TRANSPORT_ERROR | ConnectionError):
        why = _without_token(error)
        return HubError(f"{endpoint} cannot be reached ({why}): check the network and HF_ENDPOINT, then {_AGAIN}")
    if isinstance(error, ValueError):
        return HubError(f"{endpoint} refused the publication: {_without_token(error)}")
    if isinstance(error, RuntimeError):
        return HubError(f"the upload to {endpoint} failed ({_without_token(error)}): {_AGAIN}")
    return None


def _explain_answer(error: HfHubHTTPError, repo_id: str, endpoint: str) -> Exception:
    """The error for the user, by the status that the Hub answered."""
    status, message = error.response.status_code, _without_token(error.server_message or error)
    if status == 401:
        return LaunchError(
            f"{endpoint} does not accept the token of {token_origin()}: run `hf auth login`, or set HF_TOKEN to one of "
            f"{endpoint}/settings/tokens"
        )
    if status == 403:
        return LaunchError(_no_permission(repo_id, message))
    if status == 404:
        return LaunchError(
            f"repo_id={repo_id}: {endpoint} knows nothing of the kind, or hides it from this token ({message})"
        )
    if status in (409, 412):
        return HubError(f"{repo_id} was changed by somebody else meanwhile ({message}): {_AGAIN}")
    if status == 429 or status >= 500:
        return HubError(f"{endpoint} answered {status} ({message}): wait a little, then {_AGAIN}")
    return HubError(f"{endpoint} answered {status}: {message}")


def _no_permission(repo_id: str, message: str) -> str:
    return (
        f"the token of {token_origin()} may not write to {repo_id} ({message}): make one with write permission for it "
        "at https://huggingface.co/settings/tokens and run `hf auth login`, or set HF_TOKEN"
    )


def _without_token(error: object) -> str:
    """The first lines of an error's text; should it hold the token, that is taken out."""
    text = " ".join(str(error).split())[:300]
    token = get_token()
    return text.replace(token, "(the token)") if token else text


@contextmanager
def _quiet() -> Iterator[None]:
    """No remarks of the client on commits of nothing, which `_send` says itself; progress bars on a screen only."""
    before, hide_bars = hub_logging.get_verbosity(), not sys.stderr.isatty() and not are_progress_bars_disabled()
    hub_logging.set_verbosity_error()
    if hide_bars:
        disable_progress_bars()
    try:
        yield
    finally:
        hub_logging.set_verbosity(before)
        if hide_bars:
            enable_progress_bars()
