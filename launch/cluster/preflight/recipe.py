"""Would `acn pretrain` start with this recipe on this many ranks?"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pretrain import PretrainError, check_run

from .checks import Answer, Check, Facts, Site
from .findings import Finding, fault, fine


def _recipe(site: Site) -> Facts:
    config = site.config
    if not config.data:
        return {"problems": []}
    if not config.output:
        config = replace(config, output=str(Path.cwd() / f".acn-preflight-{os.getpid()}"))  # a folder that is new
    try:
        check_run(config, len(site.job.places))
    except PretrainError as error:
        return {"problems": str(error).splitlines()}
    return {"problems": []}


def _judge_recipe(answers: Sequence[Answer], site: Site) -> list[Finding]:
    (answer,) = answers
    ranks = len(site.job.places)
    if problems := answer.facts["problems"]:
        return [fault("recipe", f"{ranks} ranks", *_split(problem)) for problem in problems]
    if not site.config.data:
        return [Finding("recipe", "", "skipped", "no corpus was named", "give --data to have it checked")]
    return [fine("recipe", f"{ranks} ranks", "`acn pretrain` would start")]


def _split(problem: str) -> tuple[str, str]:
    """What a message of ours says is wrong, and after its last colon the mend."""
    seen, colon, mend = problem.rpartition(": ")
    return (seen, mend) if colon else (problem, "change the recipe")


RECIPE = Check("recipe", "job", _recipe, _judge_recipe, seconds=20.0)
