"""acn recipes"""

import sys
from dataclasses import dataclass
from pathlib import Path

from data_pipeline import Problem, write_bytes

from ...errors import LaunchError, did_you_mean
from ...recipes import recipe_file, recipe_names, recipe_summary

_ACTIONS = ("list", "show", "copy")
CHOICES = {"action": _ACTIONS, "name": recipe_names}
EXAMPLE = "acn recipes copy acn-mini mine.yaml"


@dataclass
class Args:
    """The recipes that come with acn-lm, to read, and to change copies of."""

    action: str = "list"
    """list: each recipe with what it is for. show: the file of NAME. copy: write it to FILE, for changing."""
    name: str | None = None
    """show, copy: a recipe."""
    file: str | None = None
    """copy: the file to write (default: NAME.yaml here); it must not exist."""

    @property
    def target(self) -> Path:
        """The file that a copy is written to."""
        return Path(self.file if self.file is not None else recipe_file(self.name or "").name)

    def problems(self) -> list[Problem]:
        if self.action not in _ACTIONS:
            meant = did_you_mean(self.action, _ACTIONS)
            wrong = f"{self.action!r} is no action of `acn recipes`{meant}"
            return [Problem("", wrong=wrong, fix="use list, show NAME or copy NAME [FILE]")]
        given = {"name": self.name is not None, "file": self.file is not None}
        found = []
        if self.action != "list" and not given["name"]:
            fix = f"name one of {', '.join(recipe_names())}"
            found.append(Problem("name", wrong=f"is missing: which recipe to {self.action}", fix=fix))
        for field, actions in (("name", ("show", "copy")), ("file", ("copy",))):
            if given[field] and self.action not in actions:
                found.append(Problem(field, getattr(self, field), f"is not for {self.action}", "leave it out"))
        return found


def run(args: Args) -> int:
    """Print the list or a file, or write a copy."""
    if problems := args.problems():
        raise LaunchError(*problems)
    if args.action == "list":
        width = max(map(len, recipe_names()))
        for name in recipe_names():
            print(f"{name:{width}}  {recipe_summary(name)}")
        print("one is used by its name, `--config acn-mini`; `acn recipes show NAME` prints it", file=sys.stderr)
    elif args.action == "show":
        print(recipe_file(args.name or "").read_text(encoding="utf-8"), end="")
    else:
        _copy(recipe_file(args.name or ""), args.target)
        print(f"recipe: {args.target}")
    return 0


def _copy(recipe: Path, target: Path) -> None:
    """Write a file that is not there yet."""
    if target.is_symlink() or target.exists():
        raise LaunchError(Problem("file", str(target), "exists", "choose another file"))
    write_bytes(target, recipe.read_bytes())
