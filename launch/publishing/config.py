"""What `acn publish` takes.

The Hub's library is imported where its rules are asked for: the options are parsed without it.
"""

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from data_pipeline import Problem

from .licences import LICENCES, OTHER

_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
_LINK = re.compile(r"https?://\S+")


@dataclass
class PublishConfig:
    """Publishing a model, whole and cut, or a prepared corpus, on the Hugging Face Hub, with its card.

    The token comes from the environment (HF_TOKEN) or the stored login (`hf auth login`), and from nowhere else.
    """

    model: str
    """A run of `acn pretrain`, any model folder, a TASK folder of `acn glue`, what `acn compress` wrote, or a corpus of
    `acn prepare`. Or NAME[@REVISION] of a model on the Hub. One of the BERT line is published as one of this family."""
    repo_id: str
    """OWNER/NAME of the repository, a user's or an organization's. It is created when missing, updated otherwise."""
    dry_run: bool = False
    """Write the folder that would be published, and send nothing."""
    output: str | None = None
    """Folder to write the publication into, and to keep it; an earlier publication of this repository there gives way.
    Left out: a temporary folder."""
    public: bool = False
    """Let everybody see the repository. Without it a new one is private."""
    license: str | None = None
    """The model's (or corpus's) licence by its Hub identifier: apache-2.0, mit, cc-by-4.0, ... or other. Left out, the
    card says that none was given."""
    license_name: str | None = None
    """With license other: its name."""
    license_link: str | None = None
    """With license other: where its text is."""
    language: str | None = None
    """Language of the text, as ISO 639 writes it: en."""
    depths: str | list[int] | None = None
    """Depths to publish cut models of, with commas between, or none. Left out: the cut depth of a TASK folder, none for
    other models."""
    cuts: Literal["revisions", "siblings"] = "revisions"
    """Where cut models go: revisions depth-03 of the repository, or repositories beside it, OWNER/NAME-depth-03."""
    steps: str | list[int] | None = None
    """Intermediate checkpoints of a run to publish as revisions step-0000500: step numbers with commas between, or all.
    Those that are not in RUN/models are exported from RUN/checkpoints."""
    run: str | None = None
    """The pretraining run (RUN) that the card tells of. Left out: the one that the model folder or its results name."""
    glue: str | list[str] | None = None
    """Suites (OUTPUT of `acn glue`) for the card's table, with commas between. Left out: that of a TASK folder, and
    those beside a run that were fine-tuned from exactly its weights."""
    base_model: str | None = None
    """OWNER/NAME of the published model that this one was made from. Left out: what the results know."""
    trust_checkpoint: bool = False
    """With --steps: load checkpoints that hold more than data, which can run any code: only if you trust where they
    come from. Given on the command line alone, never in a file."""

    @property
    def wanted_depths(self) -> list[int] | None:
        """`depths` as numbers, deepest first; None where they were left out."""
        if self.depths is None:
            return None
        return sorted(set(_numbers(self.depths, "none")), reverse=True)

    @property
    def wanted_steps(self) -> list[int] | Literal["all"]:
        """`steps` as numbers, or all."""
        if self.steps is None:
            return []
        return "all" if self.steps == "all" else sorted(set(_numbers(self.steps, "none")))

    @property
    def suites(self) -> list[Path] | None:
        """`glue` as folders; None where it was left out."""
        if self.glue is None:
            return None
        names = self.glue.split(",") if isinstance(self.glue, str) else self.glue
        return [Path(name.strip()) for name in names if name.strip()]

    def problems(self) -> list[Problem]:
        """Nothing is asked of the network."""
        found = repo_problems("repo_id", self.repo_id)
        if self.base_model is not None:
            found += repo_problems("base_model", self.base_model)
        found += self._licence_problems()
        if self.language is not None and not _LANGUAGE.fullmatch(self.language):
            found.append(Problem("language", repr(self.language), fix="give an ISO 639 code such as en"))
        found += self.number_problems()
        if self.dry_run and self.output is None:
            found.append(Problem("dry_run", wrong="writes a folder", fix="name it with --output"))
        if self.dry_run and self.public:
            found.append(
                Problem(
                    "dry_run",
                    wrong="sends nothing, so nothing becomes public",
                    fix="leave one of dry_run and public out",
                )
            )
        return found if self.dry_run else found + hub_problems()

    def number_problems(self) -> list[Problem]:
        """Depths and steps that are no numbers: nothing can be said of them then."""
        found = []
        for name, wanted in (("depths", "3,6, or none"), ("steps", "500,1000, or all")):
            try:
                value = getattr(self, f"wanted_{name}")
            except ValueError:
                found.append(
                    Problem(name, getattr(self, name), fix=f"give whole numbers with commas between, {wanted}")
                )
                continue
            if value and value != "all" and min(value) < 0:
                found.append(Problem(name, getattr(self, name), fix="give 0 or more"))
        return found

    def _licence_problems(self) -> list[Problem]:
        other = (self.license_name, self.license_link)
        if self.license == OTHER:
            found = (
                [] if all(other) else [Problem("license", "other", fix="give --license_name and --license_link too")]
            )
            if self.license_link and not _LINK.fullmatch(self.license_link):
                found.append(Problem("license_link", self.license_link, fix="give an address, https://..."))
            return found
        if any(other):
            return [Problem("license_name", wrong="and license_link are for --license other", fix="leave them out")]
        if self.license is not None and self.license not in LICENCES:
            near = get_close_matches(self.license.lower().replace(" ", "-"), LICENCES, 3)
            fix = f"did you mean {' or '.join(near)}?" if near else "give one the Hub knows, apache-2.0 for instance,"
            return [
                Problem(
                    "license", repr(self.license), "is unknown to the Hub", f"{fix} or other, with its name and link"
                )
            ]
        return []


def _numbers(value: str | list[int], nothing: str) -> list[int]:
    if isinstance(value, str):
        return [] if value.strip() == nothing else [int(part) for part in value.split(",")]
    return [int(part) for part in value]


def repo_problems(field: str, repo_id: str) -> list[Problem]:
    """Why the Hub would not take this name of a repository."""
    if repo_id.count("/") != 1 or not all(repo_id.split("/")):
        return [
            Problem(
                field, repr(repo_id), fix="give OWNER/NAME, your Hub name or an organization's and the repository's"
            )
        ]
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        return [
            Problem(
                field,
                repr(repo_id),
                "is no name the Hub takes",
                "letters, digits, '-', '_' and '.', neither '--' nor '..', no '-' or '.' at the ends, at "
                "most 96 characters",
            )
        ]
    return []


def hub_problems() -> list[Problem]:
    """What stands between this machine and the Hub, as far as that is known without asking it."""
    from huggingface_hub import constants, get_token

    found = []
    if constants.HF_HUB_OFFLINE:
        found.append(
            Problem("HF_HUB_OFFLINE", wrong="is set, so nothing can be sent", fix="unset it, or say --dry_run")
        )
    token = get_token()
    if token is None:
        found.append(
            Problem(
                "", wrong="there is no token for the Hub", fix="run `hf auth login`, or set HF_TOKEN, or say --dry_run"
            )
        )
    elif not (token.isascii() and token.isprintable()) or " " in token:
        found.append(
            Problem("", wrong=f"the token of {token_origin()} has characters that no token has", fix="set it again")
        )
    return found


def token_origin() -> str:
    """Where the token comes from, for messages; never the token."""
    found = [name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name, "").strip()]
    return found[0] if found else "the stored login"
