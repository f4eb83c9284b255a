"""How the budgets of a kind are planned and run: of claims, that twins are pretrained, and of conversions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import collect, commands, plan
from .conversion import jobs as conversion


@dataclass(frozen=True)
class Rules:
    """What the driver asks about a job. Each takes the budget that it is of."""

    plan: Callable[..., list[plan.Job]]
    commands: Callable[..., list[list[str]]]
    work: Callable[..., float]
    collect: Callable[..., dict[str, Any]]


CLAIM = Rules(plan.plan, commands.commands, plan.work, collect.collect)
CONVERSION = Rules(conversion.plan, conversion.commands, conversion.work, conversion.collect)
