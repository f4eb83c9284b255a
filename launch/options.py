"""The options of a command, from a dataclass: read from the command line, YAML files, recipes and the environment."""

import inspect
import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Collection, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

import docstring_parser
import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, get_loader, set_loader, set_parsing_settings

from data_pipeline import (
    excess_of_yaml,
    fields_with_tokens,
    hide_credentials,
    remember_environment,
    take_credentials,
    where_to_keep,
)

from .errors import LaunchError, did_you_mean
from .recipes import find_recipe

ArgsT = TypeVar("ArgsT")
TRUST = "trust_checkpoint"
"""The option that lets a foreign checkpoint run code."""

_SHOWN = 200  # characters of a wrong value


def read_options(
    command: str, args_class: type[ArgsT], words: Sequence[str], positionals: Collection[str] = ()
) -> ArgsT:
    """The dataclass `args_class` from the `words` after `command` ("acn pretrain") and what stands in the environment.

    Credentials are taken out of its URLs (`data_pipeline.credentials`), and it is said on stderr what becomes of them.

    Raises:
        SystemExit: with code 2 and a message on stderr, if a word, a file or a variable is wrong.
    """
    parser = build_parser(command, args_class, positionals)
    _check_environment(parser)
    for text in (*words, *(value for name, value in os.environ.items() if name.startswith(parser.env_prefix))):
        if any(sign in text for sign in "[{&") and (problem := excess_of_yaml(text)) is not None:
            parser.error(f"{text[:40]}...: {problem}")
    remember_environment("ACN_")
    values = vars(parser.instantiate(parser.parse_args(list(words))))
    _check_trust(parser, values, words)
    given = args_class(**{field.name: values[field.name] for field in fields(args_class)})  # type: ignore[arg-type]
    found: list[tuple[str, str]] = []
    args = take_credentials(given, lambda url, field: found.append((url, field)))
    for url, field in found:
        if field in getattr(args_class, "WITHOUT_CREDENTIALS", ()):
            parser.error(f"{field} has the credentials of {url}, and would not work without: {where_to_keep(url)}")
        _say_where_to_keep(url, field)
    if tokens := fields_with_tokens(args):
        parser.error(f"{', '.join(tokens)}: there is a token of the Hub in it, which would be written: set HF_TOKEN")
    return args


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
        prog=command, env_prefix=f"{command.replace(' ', '_').upper()}_", default_env=True, add_help=False,
        allow_abbrev=False,
    )  # fmt: skip
    types = {field.name: str(field.type) for field in fields(args_class)}
    defaults = {field.name: field.default for field in fields(args_class) if field.default is not MISSING}
    if "config" not in types:  # a verb whose --config is another verb's has it as a field
        help = "YAML file with any of these options, or the name of a recipe that comes with acn-lm: acn-mini."
        parser.add_argument("--config", action=_ConfigFile, help=help)
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
    """jsonargparse's, with messages of a line or two instead of all options."""

    @property
    def names(self) -> list[str]:
        """Every option without its dashes."""
        return [action.option_strings[0].lstrip("-") for action in self._actions if action.option_strings]

    def dump(self, *args: Any, **options: Any) -> str:
        """What `--print_config` shows: as RUN/config.yaml, without credentials."""
        return hide_credentials(super().dump(*args, **options))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with code 2, and say what is wrong, what may have been meant, and where to look."""
        if int(os.environ.get("RANK", "0")) == 0:
            lines = "\n  - ".join(self._explain(message))
            text = hide_credentials(f"{self.prog}: error: {lines}")
            print(f"{text}\nsee {self.prog} --help", file=sys.stderr)
        sys.exit(2)

    def _explain(self, message: str) -> list[str]:
        """The message of jsonargparse in the words of a user; several mistakes with their number first."""
        if match := re.match(r"unrecognized arguments: (.*)", message, re.DOTALL):
            words = match[1].split()
            unknown = [self._unknown(word.partition("=")[0]) for word in words if word.startswith("--")]
            found = unknown or [f"not understood: {match[1]}"]
        elif match := re.match(r"the following arguments are required: (.*)", message):
            keys = match[1].split(", ")
            found = ["missing: " + ", ".join(f"--{key}" if key in self.names else key.upper() for key in keys)]
        elif match := re.search(r"(?:Group '(.*)' does not accept option|Option) '(.*?)'", message):
            key = ".".join(filter(None, match.groups()))
            found = [f"there is no option {key}{did_you_mean(key, self.names)}"]
        elif match := re.match(r'Parser key "(.+?)":.*(?:Got|Given) value: (.*)', message, re.DOTALL):
            given = match[2] if len(match[2]) <= _SHOWN else f"{match[2][:_SHOWN]}..."
            found = [f"{match[1]}={given} must be {self._type_name(match[1])}"]
        else:
            found = [message]
        return found if len(found) == 1 else [f"{len(found)} problems:", *found]

    def _type_name(self, key: str) -> str:
        hint = next((getattr(action, "_typehint", None) for action in self._actions if action.dest == key), None)
        if get_origin(hint) is Literal:
            return f"one of: {', '.join(map(str, get_args(hint)))}"
        return inspect.formatannotation(hint).replace("None", "null") if hint else "something else"

    def _unknown(self, option: str) -> str:
        hint = did_you_mean(option.removeprefix("--"), self.names).replace("mean ", "mean --").replace(" or ", " or --")
        if not hint and "options" in self.names:
            hint = ': options of the recipe go into one string, --options "--steps 1000 --zero_stage 2"'
        return f"there is no option {option}{hint}"


class _ConfigFile(ActionConfigFile):
    """`--config`: a file, or the name of a recipe."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        try:
            file = find_recipe(values)
        except LaunchError as error:
            raise ArgumentError(None, str(error)) from error
        if Path(file).is_file():
            problem = excess_of_yaml(Path(file).read_text(encoding="utf-8", errors="replace"))
            if problem is not None:
                raise ArgumentError(None, f"config={values}: {problem}")
        super().__call__(parser, cfg, file, option_string)


def _check_trust(parser: OptionParser, values: dict[str, Any], words: Sequence[str]) -> None:
    """Trust is declared by whoever types the command: files come along with what is not to be trusted."""
    if values.get(TRUST) is True and not any(word.partition("=")[0] == f"--{TRUST}" for word in words):
        parser.error(f"{TRUST}: say --{TRUST} on the command line, it is not taken from anywhere else")


def _check_environment(parser: OptionParser) -> None:
    """Refuse variables that mean no option, and let the one for `--config` name a recipe too."""
    known = {f"{parser.env_prefix}_{name}".replace(".", "__").upper(): name for name in parser.names}
    known |= {f"{parser.env_prefix}_{action.dest}".upper(): action.dest for action in parser._actions}
    for variable in (name for name in os.environ if name.startswith(f"{parser.env_prefix}_") and name not in known):
        parser.error(f"there is no option for the environment variable {variable}{did_you_mean(variable, known)}")
    config = f"{parser.env_prefix}_CONFIG"
    if config in os.environ:
        try:
            os.environ[config] = find_recipe(os.environ[config])
        except LaunchError as error:
            parser.error(str(error))
