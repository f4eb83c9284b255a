"""Reading options on after a mistake, so that all mistakes are told together."""

import inspect
import json
import os
import re
import sys
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import yaml
from jsonargparse import ActionConfigFile, Namespace

from data_pipeline import Problem, hide_credentials

from .errors import LaunchError, did_you_mean

if TYPE_CHECKING:
    from .options import OptionParser

_ABSENT = "(absent)"  # stands for what is missing: whatever is said of it is not said to the user
_SHOWN = 200  # characters of a wrong value
_UNKNOWN_WORDS = re.compile(r"unrecognized arguments: (.*)", re.DOTALL)
_MISSING = re.compile(r"the following arguments are required: (.*)")
_UNKNOWN_KEY = re.compile(r"(?:Group '(?P<group>.*)' does not accept option|Option) '(?P<key>.*?)'")
_WRONG_VALUE = re.compile(r'Parser key "(?P<key>.+?)":.*(?:Got|Given) value: (?P<given>.*)', re.DOTALL)
_NO_VALUE = re.compile(r"argument (?P<option>--[^\s/]+)\S*: expected (?:one|at least one) argument")
_NO_GROUP = re.compile(r'Parser key "(?P<key>.+?)":\s*Unable to load config [\'"](?P<given>[^\n\'"]*)', re.DOTALL)


class Mistake(Exception):
    """What jsonargparse says about the first mistake that it meets."""

    @property
    def is_of_an_option(self) -> bool:
        """Whether it is about one option in a file, rather than the file itself."""
        message = str(self)
        return bool(_UNKNOWN_KEY.search(message) or _WRONG_VALUE.match(message) or _NO_GROUP.match(message))


class UnreadableError(Mistake):
    """A file of `--config` is not there, or no YAML."""


class OptionsError(LaunchError):
    """What is wrong with the words of a command, its files and its variables."""


def tell_mistakes(command: str, error: LaunchError) -> None:
    """Say on stderr what is wrong, on the first of several ranks; several mistakes with their number first."""
    if int(os.environ.get("RANK", "0")) == 0:
        found = [str(problem) for problem in error.problems]
        text = "\n  - ".join(found if len(found) == 1 else [f"{len(found)} problems:", *found])
        print(hide_credentials(f"{command}: error: {text}\nsee {command} --help"), file=sys.stderr)


class Reading:
    """The words of a command, the environment and the files, read by a parser as often as it takes.

    After a mistake the parser is changed so that it takes the wrong word or value, and everything is read again; what
    is wrong is replaced by the default in the end.
    """

    found: list[str]
    """What is wrong, as users see it."""

    def __init__(self, parser: "OptionParser", words: Sequence[str]) -> None:
        self.parser = parser
        self.words = [*_in_order(parser, words)]
        self.found = [*_unknown_variables(parser)]
        self._names = parser.names
        self._types = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
        self._defaults: dict[str, Any] = {action.dest: action.default for action in parser._actions}
        self._given = {word.partition("=")[0].removeprefix("--") for word in words if word.startswith("--")}
        self._unsure: set[str] = set()  # options without a value of the user's that could be looked at
        self._unknown_keys: set[str] = set()
        self._words_are_sure = self._files_are_sure = True

    def values(self) -> dict[str, Any] | None:
        """What the options come to, by the fields of the dataclass; None where it cannot be known after a mistake."""
        while True:
            before = self._state()
            try:
                values = self.parser.parse_args(self.words)
                break
            except Mistake as mistake:
                self._note(mistake)
                if before == self._state():
                    return None
        for key in self._unknown_keys:
            values.pop(key, None)
        for group in (group for group in self._groups if group in values and not _is_group(values[group])):
            self._note_no_group(group, str(values[group]))
            values[group] = self.parser.get_defaults()[group]
        for key in self._unsure - {*self._groups}:
            if self._defaults.get(key) != SUPPRESS:
                values[key] = self._defaults.get(key)
        return vars(self.parser.instantiate(values))

    def _state(self) -> list[Any]:
        """What decides the next reading: it would find the same if nothing of this changed."""
        return [list(self.words), set(self._unsure), set(self._unknown_keys), set(self.parser.unreadable)]

    def others(self, problems: Sequence[Problem]) -> list[Problem]:
        """Those of `problems` that are not a consequence of the mistakes: they say nothing about an option of these."""
        unsure = [
            re.compile(rf"(?<![\w.]){re.escape(key)}(?!\w)" + ("" if key in self._groups else r"(?!\.\w)"))
            for key in self._unsure
        ]  # of a group all that is in it
        known = [problem for problem in problems if _ABSENT not in str(problem)]
        return [problem for problem in known if not any(key.search(_subject(problem)) for key in unsure)]

    def _note(self, mistake: Mistake) -> None:
        """Remember a mistake in the words of a user, and make the parser get past it the next time."""
        message = str(mistake)
        if isinstance(mistake, UnreadableError):
            self._files_are_sure = False
            self.found.append(" ".join(message.split()))
        elif match := _UNKNOWN_WORDS.match(message):
            self._note_unknown_words(match[1])
        elif match := _MISSING.match(message):
            self._note_missing(match[1].split(", "))
        elif match := _NO_GROUP.match(message):
            self._note_no_group(match["key"], match["given"])
            self.words = _without_option(self.words, f"--{match['key']}")
        elif match := _WRONG_VALUE.match(message):
            inner = _UNKNOWN_KEY.search(message)
            self._note_wrong_value(match["key"], match["given"], None if inner is None else inner["key"])
        elif match := _UNKNOWN_KEY.search(message):
            key = ".".join(filter(None, match.groups()))
            self.found.append(f"there is no option {key}{did_you_mean(key, self._names)}")
            if key not in self._unknown_keys:
                self.parser.add_argument(f"--{key}", type=Any)
                self._unknown_keys.add(key)
        elif match := _NO_VALUE.match(message):
            option = match["option"]
            self.found.append(f"{option} has no value: give one, as {option}=VALUE where it begins with a dash")
            self._unsure.add(match["option"].removeprefix("--"))
            self._drop_empty(match["option"])
        else:
            self.found.append(" ".join(message.split()))

    def _note_unknown_words(self, said: str) -> None:
        words = said.split()
        options = [word for word in words if word.startswith("--")]
        self.found += [self._unknown(option.partition("=")[0]) for option in options]
        if not options and self._words_are_sure:
            self.found.append(f"not understood: {said}")
        kept: list[str] = []
        dropping = False
        for word in self.words:
            said_too = set(word.split()) <= set(words)  # one word may have spaces
            is_option = any(word == option or word.startswith(f"{option} ") for option in options)
            dropping = is_option or (said_too and (not options or (dropping and not word.startswith("--"))))
            if not dropping:
                kept.append(word)
        self.words = kept
        self._words_are_sure = False

    def _note_missing(self, keys: list[str]) -> None:
        """Options that are required; not those that a misspelt one may have meant, or a file that cannot be read."""
        for key in keys:
            self._defaults[key] = [_ABSENT] if self._is_list(key) else _ABSENT
            self.parser.set_defaults({key: self._defaults[key]})
        self._unsure |= set(keys)
        meant = " ".join(self.found)
        missing = [
            key
            for key in keys
            if (f"--{key}" in self._flags or self._words_are_sure) and not re.search(rf"--{key}(\?| or )", meant)
        ]
        if missing and self._files_are_sure:
            self.found.append("missing: " + ", ".join(f"--{key}" if key in self._names else key.upper()
                                                      for key in missing))  # fmt: skip

    def _note_wrong_value(self, key: str, given: str, inner: str | None) -> None:
        """`inner` is what a mapping has that it should not have."""
        action = next((action for action in self.parser._actions if action.dest == key), None)
        given = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}..."
        variable = self.parser.variable(key)
        origin = f" ({variable})" if variable in os.environ and key not in self._given else ""
        wrong = f"{key}={given} must be {_type_name(self._types.get(key))}"
        if inner is not None:
            dashes = "--" if f"{key}.{inner}" in self._given else ""
            wrong = f"there is no option {dashes}{key}.{inner}"
        self.found.append(f"{wrong}{origin}")
        if getattr(action, "_typehint", None) not in (None, Any):
            action._typehint = Any  # type: ignore[union-attr]
            self._unsure.add(key)

    def _note_no_group(self, key: str, given: str) -> None:
        self.found.append(f"{key}={given} must be the options of {key}, by name: {key}: {{...}}, or the file of them")
        self._unsure.add(key)

    def _drop_empty(self, option: str) -> None:
        self.words = [
            word
            for word, following in zip(self.words, [*self.words[1:], "--"], strict=True)
            if word != option or not following.startswith("--")
        ]

    @property
    def _groups(self) -> list[str]:
        """Options that hold others."""
        keys = [key for key in self._types if not key.endswith(".help")]
        return [key for key in keys if any(other.startswith(f"{key}.") for other in keys)]

    @property
    def _flags(self) -> set[str]:
        return {f"--{name}" for name in self._names}

    def _is_list(self, key: str) -> bool:
        action = next(action for action in self.parser._actions if action.dest == key)
        return action.nargs == "+" or get_origin(self._types[key]) is list

    def _unknown(self, option: str) -> str:
        names = self._names
        hint = did_you_mean(option.removeprefix("--"), names).replace("mean ", "mean --").replace(" or ", " or --")
        if not hint and "options" in names:
            hint = ': options of the recipe go into one string, --options "--steps 1000 --zero_stage 2"'
        return f"there is no option {option}{hint}"


def _subject(problem: Problem) -> str:
    return f"{problem.field} {problem.wrong}"


def _is_group(value: Any) -> bool:
    return isinstance(value, Namespace)


def _without_option(words: list[str], option: str) -> list[str]:
    """The words without an option, wherever it stands, and its values."""
    kept: list[str] = []
    before = ""
    for word in words:
        if word != option and not word.startswith(f"{option}=") and before != option:
            kept.append(word)
        before = word
    return kept


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of: {', '.join(map(str, get_args(hint)))}"
    return inspect.formatannotation(hint).replace("None", "null") if hint else "something else"


def _in_order(parser: "OptionParser", words: Sequence[str]) -> Iterator[str]:
    """Files first, then the environment, then the command line: what comes later wins."""
    config = next((action for action in parser._actions if isinstance(action, ActionConfigFile)), None)
    files, rest = ([], list(words)) if config is None else _split_files(words)
    if config is not None and (file := os.environ.get(parser.variable(config.dest))) is not None:
        yield f"--config={file}"
    yield from files
    positionals = {}
    for action in parser._actions:
        value = os.environ.get(parser.variable(action.dest))
        if value is None or action is config or action.dest.endswith(("print_config", ".help")):
            continue
        if action.option_strings:
            yield f"{action.option_strings[0]}={value}"
        else:
            positionals[action.dest] = _as_list(value) if action.nargs == "+" else value
    if positionals and config is not None:
        yield f"--config={json.dumps(positionals)}"
    elif positionals:  # nothing but the command line can win over them
        parser.set_defaults(positionals)
    yield from rest


def _split_files(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of `--config`, and the others."""
    files: list[str] = []
    others: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            others += [word, *left]
            break
        if word.startswith("--config="):
            files.append(word)
        elif word == "--config" and left and not left[0].startswith("--"):
            files += [word, left.pop(0)]
        else:
            others.append(word)
    return files, others


def _as_list(value: str) -> list[str]:
    try:
        items = yaml.safe_load(value)
    except yaml.YAMLError:
        items = value
    return [str(item) for item in items] if isinstance(items, list) else [value]


def _unknown_variables(parser: "OptionParser") -> Iterator[str]:
    known = parser.variables
    for variable in sorted(os.environ):
        if variable.startswith(f"{parser.env_prefix}_") and variable not in known:
            yield f"there is no option for the environment variable {variable}{did_you_mean(variable, known)}"
