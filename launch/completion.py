"""What the shell offers at TAB: verbs, the options of a verb, recipes, and what a choice can be.

A shell that has run `eval "$(register-python-argcomplete acn)"` calls `acn` with the line typed so far in the
environment (argcomplete's protocol). Nothing heavy is imported, and jsonargparse only once a verb has been typed.
"""

import argparse
import os
from argparse import Action
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from .recipes import recipe_names

ASKED = "_ARGCOMPLETE"
"""The variable by which a shell asks."""

Words = Sequence[str] | Callable[[], Sequence[str]]


def complete(verbs: Mapping[str, Any], load: Callable[[str], Any]) -> None:
    """Answer the shell, and end this process.

    Args:
        verbs: `launch.cli.VERBS`.
        load: gives the module of a verb.
    """
    import argcomplete

    parser = completion_parser(verbs, load, os.environ.get("COMP_LINE", "").split()[1:])
    argcomplete.autocomplete(parser, always_complete_options=False)


def completion_parser(
    verbs: Mapping[str, Any], load: Callable[[str], Any], words: Sequence[str]
) -> argparse.ArgumentParser:
    """A parser of `acn` that has the options of the verb in `words`, the words typed so far, and of no other."""
    parser = argparse.ArgumentParser(prog="acn", add_help=False)
    parser.add_argument("--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    names = parser.add_subparsers()
    for name, verb in verbs.items():
        options = names.add_parser(name, help=verb.help, add_help=False)
        if words and words[0] == name:
            _add_options(options, name, verb.positionals, load(name))
    return parser


def _add_options(parser: argparse.ArgumentParser, verb: str, positionals: Collection[str], module: Any) -> None:
    from .options import build_parser

    parser.add_argument("--help", action="store_true", help="what the verb does, and its options")
    choices: dict[str, Words] = {"config": recipe_names, **getattr(module, "CHOICES", {})}
    for action in build_parser(f"acn {verb}", module.Args, positionals)._actions:
        if action.default == argparse.SUPPRESS and action.dest != "print_config":
            continue
        names = action.option_strings[:1] or [action.dest]
        # positionals one after the other, also those that may be left out; a flag may be followed by its value
        optional = action.option_strings and action.nargs in ("?", 0)
        nargs = "?" if optional else "+" if action.nargs == "+" else None
        added = parser.add_argument(*names, nargs=nargs, help=action.help)
        words = _words(action, choices)
        if words is not None:
            added.completer = _Offer(words, files=action.dest == "config")  # type: ignore[attr-defined]


def _words(action: Action, choices: Mapping[str, Words]) -> Sequence[str] | None:
    """What the value of an option can be; None where anything can, a path for instance."""
    if (named := choices.get(action.dest)) is not None:
        return named() if callable(named) else named
    hint = getattr(action, "_typehint", None)
    if hint is bool:
        return ("true", "false")
    literals = [word for part in (hint, *get_args(hint)) if get_origin(part) is Literal for word in get_args(part)]
    return [str(word) for word in literals] or None


class _Offer:
    """argcomplete's idea of a completer: what begins with the word typed so far."""

    def __init__(self, words: Sequence[str], files: bool) -> None:
        self._words, self._files = words, files

    def __call__(self, prefix: str, **_: Any) -> list[str]:
        from argcomplete.completers import FilesCompleter

        *before, last = prefix.split(",")  # several names with commas between, as `--tasks` takes them
        start = "".join(f"{word}," for word in before)
        found = [start + word for word in self._words if word.startswith(last)]
        return found + (list(FilesCompleter()(prefix)) if self._files else [])
