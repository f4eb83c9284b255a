"""What `acn VERB --help` prints: the options that people set; with `--help all` every one, by group."""

import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Iterable, Sequence

from jsonargparse import DefaultHelpFormatter

from .options import OptionParser


class _Formatter(DefaultHelpFormatter):
    """Without the environment variable of every option: their names follow from the options'."""

    types = True
    """Whether an option's type is shown."""

    def _get_help_string(self, action: Action) -> str:
        notes = ["required"] if action.required else []
        type_name = self._get_type_str(action)
        if self.types and action.option_strings and type_name and not type_name.startswith(("Literal", "bool")):
            notes.append("type: %(type)s")  # the others' values stand beside the option
        if action.default not in (None, "", {}):
            notes.append("default: %(default)s")
        return f"{action.help} ({', '.join(notes)})" if notes else action.help or ""

    def _format_action_invocation(self, action: Action) -> str:
        if not action.option_strings:
            return action.dest.upper() if action.nargs == "?" else self._format_args(action, action.dest.upper())
        return f"{action.option_strings[0]} {self._format_args(action, self._get_default_metavar_for_optional(action))}"

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "".join(indent + line for line in text.splitlines(keepends=True))


def format_help(parser: OptionParser, description: str, example: str, common: Sequence[str] | None = None) -> str:
    """The help of a verb.

    Args:
        description: what the verb does, in a line.
        example: a command that could be typed.
        common: the options to show; None shows all of them, by group.
    """
    shown = [action for action in parser._actions if action.default != SUPPRESS]
    formatter = _Formatter(parser.prog, max_help_position=30)
    formatter.types = common is None
    formatter.add_text(_usage(parser.prog, shown))
    formatter.add_text(description[0].upper() + description[1:] + ".")
    if common is None:
        for group in parser._action_groups:
            _add_section(formatter, group.title or "", [action for action in group._group_actions if action in shown])
    else:
        by_name = {action.dest: action for action in shown}
        _add_section(formatter, "options", [by_name[name] for name in common])
    formatter.add_text(f"example:\n  {example}")
    formatter.add_text(_ending(parser, shown, common))
    return formatter.format_help()


def _usage(command: str, actions: Iterable[Action]) -> str:
    words = [command]
    for action in actions:
        name = action.dest.upper()
        if not action.option_strings:
            words.append({"+": f"{name} [{name} ...]", "?": f"[{name}]"}.get(str(action.nargs), name))
        elif action.required:
            words.append(f"{action.option_strings[0]} {name}")
    return " ".join(["usage:", *words, "[options]"])


def _add_section(formatter: _Formatter, title: str, actions: list[Action]) -> None:
    formatter.start_section(title)
    formatter.add_arguments(actions)
    formatter.end_section()


def _ending(parser: OptionParser, shown: list[Action], common: Sequence[str] | None) -> str:
    """Where there is more, and other ways to set an option."""
    option = next(action for action in reversed(shown) if action.option_strings)
    variable = parser.variable(option.dest)
    if common is not None:
        return f"{len(shown) - len(common)} more options, by group: {parser.prog} --help all"
    return (
        f"Every option can stand in the environment too: {variable}=...\n"
        "The command line wins over it, it over the files of --config, and these over the defaults;\n"
        "--print_config outputs what results, as YAML."
    )
