"""The options of a command, from a dataclass: read from the command line, YAML files, recipes and the environment."""

import os
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import docstring_parser
import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, get_loader, set_loader, set_parsing_settings

from data_pipeline import (
    Problem,
    UserError,
    excess_of_yaml,
    fields_with_tokens,
    hide_credentials,
    remember_environment,
    take_credentials,
    where_to_keep,
)

from .errors import LaunchError
from .reading import Mistake, OptionsError, Reading, UnreadableError, tell_mistakes
from .recipes import find_recipe

ArgsT = TypeVar("ArgsT")
TRUST = "trust_checkpoint"
"""The option that lets a foreign checkpoint run code."""


def read_options(
    command: str, args_class: type[ArgsT], words: Sequence[str], positionals: Collection[str] = ()
) -> ArgsT:
    """As `parse_options`, for who has nothing to add to its mistakes.

    Raises:
        SystemExit: with code 2 and a message on stderr, if a word, a file or a variable is wrong.
    """
    try:
        return parse_options(command, args_class, words, positionals)
    except OptionsError as error:
        tell_mistakes(command, error)
        sys.exit(2)


def parse_options(
    command: str,
    args_class: type[ArgsT],
    words: Sequence[str],
    positionals: Collection[str] = (),
    check: Callable[[ArgsT], list[Problem]] | None = None,
) -> ArgsT:
    """The dataclass `args_class` from the `words` after `command` ("acn pretrain"), the environment, and files.

    The command line wins over the environment, that over the files of `--config`, and those over the defaults. Of
    several files, and of an option that is given twice, the last counts.

    Credentials are taken out of its URLs (`data_pipeline.credentials`), and it is said on stderr what becomes of them.

    Args:
        check: what else is wrong with the options; asked only when something is, so that all is told together.

    Raises:
        OptionsError: words, files or variables are wrong.
    """
    parser = build_parser(command, args_class, positionals)
    for text in (*words, *(value for name, value in os.environ.items() if name.startswith(parser.env_prefix))):
        if any(sign in text for sign in "[{&") and (problem := excess_of_yaml(text)) is not None:
            raise OptionsError(f"{text[:40]}...: {problem}")
    remember_environment("ACN_")
    reading = Reading(parser, words)
    values = reading.values()
    if values is None:
        raise OptionsError(*reading.found)
    found = [*reading.found, *_trust_problems(values, words)]
    given = args_class(**{field.name: values[field.name] for field in fields(args_class)})  # type: ignore[arg-type]
    args, wrong = _without_credentials(given)
    if found := [*found, *wrong]:
        raise OptionsError(*found, *reading.others([] if check is None else _problems(check, args)))
    return args


def _problems(check: Callable[[ArgsT], list[Problem]], args: ArgsT) -> list[Problem]:
    try:
        return check(args)
    except UserError as error:
        return error.problems


def _without_credentials(given: ArgsT) -> tuple[ArgsT, list[str]]:
    """The options without credentials, and what is wrong with those that cannot do without."""
    found: list[tuple[str, str]] = []
    wrong: list[str] = []
    args = take_credentials(given, lambda url, field: found.append((url, field)))
    for url, field in found:
        if field in getattr(given, "WITHOUT_CREDENTIALS", ()):
            wrong.append(f"{field} has the credentials of {url}, and would not work without: {where_to_keep(url)}")
            continue
        _say_where_to_keep(url, field)
    if tokens := fields_with_tokens(args):
        wrong.append(f"{', '.join(tokens)}: there is a token of the Hub in it, which would be written: set HF_TOKEN")
    return args, wrong


def _say_where_to_keep(url: str, field: str) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        note = "this command uses the credentials of"
        print(f"note: {note} {url} ({field}) and writes them nowhere; later, {where_to_keep(url, field)}",
              file=sys.stderr)  # fmt: skip


def build_parser(command: str, args_class: type, positionals: Collection[str] = ()) -> "OptionParser":
    """The parser of `command`, an option for every field of `args_class` and of the dataclasses inside it.

    Args:
        command: the words before the options.
        positionals: fields that are given without a flag; a list takes one or more, one with a default may be left out.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    _guard_yaml()
    parser = OptionParser(
        prog=command, env_prefix=f"{command.replace(' ', '_').upper()}_", default_env=False, add_help=False,
        allow_abbrev=False,
    )  # fmt: skip
    types = {field.name: str(field.type) for field in fields(args_class)}
    defaults = {field.name: field.default for field in fields(args_class) if field.default is not MISSING}
    if "config" not in types:  # a verb whose --config is another verb's has it as a field
        help = "YAML file with any of these options, or the name of a recipe that comes with acn-lm: acn-mini."
        parser.add_argument("--config", action=ConfigFile, help=help)
    for name in positionals:
        about: dict[str, Any] = {"nargs": "+"} if types[name].startswith("list") else {}
        about |= {"nargs": "?", "default": defaults[name]} if name in defaults else {}
        parser.add_argument(name, type=str, help=_docs(args_class).get(name), **about)
    parser.add_class_arguments(args_class, skip=set(positionals))
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:  # `--dry_run` alone says true
            action.nargs, action.const = "?", True
    return parser


def _guard_yaml() -> None:
    """Have jsonargparse refuse YAML that would keep it busy for hours, or end it with a traceback."""
    load = get_loader("yaml")
    if getattr(load, "is_guarded", False):
        return

    def load_guarded(text: str) -> Any:
        if (problem := excess_of_yaml(text)) is not None:
            raise yaml.YAMLError(problem)
        return load(text)

    load_guarded.is_guarded = True  # type: ignore[attr-defined]
    set_loader("yaml", load_guarded, exceptions=(yaml.YAMLError,))


def _docs(args_class: type) -> dict[str, str]:
    """What a dataclass and its bases say about their fields, for those that jsonargparse is not given to read."""
    classes = reversed(args_class.__mro__[:-1])
    params = [param for one in classes for param in docstring_parser.parse_from_object(one).params]
    return {param.arg_name: param.description or "" for param in params}


class OptionParser(ArgumentParser):
    """jsonargparse's; a mistake is raised for `Reading` to explain, instead of ending the process."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.unreadable: set[str] = set()
        """Values of --config that have been found wanting."""

    @property
    def names(self) -> list[str]:
        """Every option without its dashes."""
        return [action.option_strings[0].lstrip("-") for action in self._actions if action.option_strings]

    def variable(self, name: str) -> str:
        """The environment variable of an option: ACN_PRETRAIN__OPTIM__LR of optim.lr."""
        return f"{self.env_prefix}_{name}".replace(".", "__").upper()

    @property
    def variables(self) -> list[str]:
        """The environment variable of everything that is given, with or without a flag."""
        return list(map(self.variable, dict.fromkeys([*self.names, *(action.dest for action in self._actions)])))

    def dump(self, *args: Any, **options: Any) -> str:
        """What `--print_config` shows: as RUN/config.yaml, without credentials."""
        return hide_credentials(super().dump(*args, **options))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what jsonargparse has found."""
        raise Mistake(message)


class ConfigFile(ActionConfigFile):
    """`--config`: a file, or the name of a recipe. One that cannot be read is said once, and then passed over."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        if values in parser.unreadable:
            return
        try:
            file = find_recipe(values)
            if Path(file).is_file():
                problem = excess_of_yaml(Path(file).read_text(encoding="utf-8", errors="replace"))
                if problem is not None:
                    raise LaunchError(f"config={values}: {problem}")
            super().__call__(parser, cfg, file, option_string)
        except Mistake as mistake:
            if mistake.is_of_an_option:
                raise
            parser.unreadable.add(values)
            raise UnreadableError(f"config={values}: {mistake}") from mistake
        except LaunchError as error:
            parser.unreadable.add(values)
            raise UnreadableError(str(error)) from error
        except (TypeError, ValueError, OSError) as error:
            parser.unreadable.add(values)
            raise UnreadableError(f"config={values}: {error}") from error


def _trust_problems(values: dict[str, Any], words: Sequence[str]) -> list[str]:
    """Trust is declared by whoever types the command: files come along with what is not to be trusted."""
    if values.get(TRUST) is True and not any(word.partition("=")[0] == f"--{TRUST}" for word in words):
        return [f"{TRUST}: say --{TRUST} on the command line, it is not taken from anywhere else"]
    return []
