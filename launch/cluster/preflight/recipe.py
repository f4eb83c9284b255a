"""Would `acn pretrain` start with this recipe on this many ranks?"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pretrain import PretrainError, check_run

from .checks import Answer, Check, Facts, Site
from .findings import Finding, fault, fine

_FIX = "change the recipe"


def _recipe(site: Site) -> Facts:
    config = site.config
    if not config.data:
        return {"problems": []}
    if not config.output:
        config = replace(config, output=str(Path.cwd() / f".acn-preflight-{os.getpid()}"))  # a folder that is new
    try:
        check_run(config, len(site.job.places))
    except PretrainError as error:
        return {"problems": [(problem.seen, problem.fix) for problem in error.problems]}
    return {"problems": []}


def _judge_recipe(answers: Sequence[Answer], site: Site) -> list[Finding]:
    (answer,) = answers
    ranks = len(site.job.places)
    if problems := answer.facts["problems"]:
        return [fault("recipe", f"{ranks} ranks", seen, fix or _FIX) for seen, fix in problems]
    if not site.config.data:
        return [Finding("recipe", "", "skipped", "no corpus was named", "give --data to have it checked")]
    return [fine("recipe", f"{ranks} ranks", "`acn pretrain` would start")]


RECIPE = Check("recipe", "job", _recipe, _judge_recipe, seconds=20.0)
