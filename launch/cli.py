"""The `acn` command: its verbs, each with options from a typed dataclass.

Only the chosen verb is imported, so `acn --help` and a mistyped verb answer at once.
"""

import atexit
import gc
import importlib
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from data_pipeline import CREDENTIALS_VARIABLE

from .errors import LaunchError, did_you_mean, reported
from .interrupt import starting
from .ranks import server_of_ranks
from .streams import guard_streams, lost_output

if TYPE_CHECKING:
    from .options import OptionParser


@dataclass(frozen=True)
class Verb:
    """A verb lives in `launch.verbs.NAME`, which defines `Args` (a dataclass) and `run(args) -> exit code`.

    It also has an `EXAMPLE` for its help, and where it has many options `COMMON`, those that people set.
    """

    help: str
    positionals: tuple[str, ...] = ()
    """Fields of `Args` given without a flag; a list takes one or more."""
    ranks_import: tuple[str, ...] = ()
    """Of a verb that starts ranks: what they need and takes seconds to import, so that it begins before all else."""


VERBS = {
    "prepare": Verb("stream a corpus, train or load a tokenizer, write token shards"),
    "data": Verb(
        "look into a prepared corpus, or check it: `data show DIR`, `data stats DIR`, `data verify DIR`",
        positionals=("action", "data"),
    ),
    "pretrain": Verb(
        "pretrain an ACN or its residual twin with DeepSpeed, or go on with an interrupted run",
        ranks_import=(
            "pretrain.lean_deepspeed",
            "transformers",
            "launch.verbs.pretrain",
            "pretrain.trainer",
            "launch.tracking.tracker",
        ),
    ),
    "preflight": Verb("check every node of a job before it trains, with the recipe of `acn pretrain`"),
    "export": Verb("turn a checkpoint into a Hugging Face model folder", positionals=("source", "output")),
    "glue": Verb("fine-tune on GLUE tasks and score every depth"),
    "compress": Verb("cut a fine-tuned model at the smallest depth within tolerance"),
    "study": Verb(
        "noise, lesions, pruning, early exit, forgetting and other studies of a model", positionals=("studies",)
    ),
    "predict": Verb("label texts with a fine-tuned model, at any depth", positionals=("model", "file")),
    "report": Verb("tables and figures from one or several result folders", positionals=("results",)),
    "launch": Verb(
        "write, and submit, the script of an engine: slurm, torchrun, deepspeed, kubernetes or skypilot",
        positionals=("engine",),
    ),
    "publish": Verb("publish a model or a corpus on the Hugging Face Hub, with its card", positionals=("model",)),
    "plan": Verb("memory, time, disk and price of a recipe on a cluster, before paying for it"),
    "track": Verb("send the records of runs to an MLflow server: `track sync RUN`", positionals=("action", "runs")),
    "recipes": Verb(
        "the recipes that come with acn-lm: `recipes`, `recipes show NAME`, `recipes copy NAME`",
        positionals=("action", "name", "file"),
    ),
    "env": Verb("versions, devices and backends of this machine, to paste into a bug report"),
    "demo": Verb("the whole chain in minutes on this machine, offline"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns its exit code: 0 done, 1 it failed, 2 a mistake in the input, 75 stopped and resumable.

    Raises:
        SystemExit: after help (0), and for a mistake in the words themselves (2).
    """
    argv = sys.argv[1:] if argv is None else argv
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
        from .completion import complete

        complete(VERBS, _module)
    guard_streams()
    try:
        code = _main(argv)
    except SystemExit as end:
        if not end.code and _lost_output():
            sys.exit(1)
        raise
    return 1 if code == 0 and _lost_output() else code


def _lost_output() -> bool:
    """Whether text for stdout is lost that somebody wanted; says so."""
    lost = lost_output()
    if lost is not None:
        print(f"acn: error: stdout cannot be written ({lost.strerror}), text is lost: make room", file=sys.stderr)
    return lost is not None


def _main(argv: list[str]) -> int:
    if not argv:
        print(_overview(), end="", file=sys.stderr)
        return 2
    verb = argv[0]
    if verb not in VERBS:
        _answer(verb)
    if (topic := _help_topic(argv[1:])) is not None:
        print(_help(verb, topic == "all"), end="")
        sys.exit(0)
    atexit.register(gc.freeze)  # or the exit searches all that the libraries have made for garbage, most of a second
    return reported(verb, lambda: _read_and_run(verb, argv))


def _answer(word: str) -> NoReturn:
    """End with what was asked for instead of a verb, or with what is wrong about it."""
    if word in ("-h", "--help"):
        print(_overview(), end="")
        sys.exit(0)
    if word == "--version":
        from .provenance import provenance_tags

        names = {key.removeprefix("version."): value for key, value in provenance_tags().items()}
        for name in sorted(names, key=lambda name: name != "acn-lm"):
            print(name, names[name])
        sys.exit(0)
    wrong = f"{word} stands where a verb is expected" if word.startswith("-") else f"there is no verb {word}"
    verbs = ", ".join(VERBS)
    print(f"acn: error: {wrong}{did_you_mean(word, VERBS)}\nthe verbs: {verbs}\nsee acn --help", file=sys.stderr)
    sys.exit(2)


def _overview() -> str:
    """`acn --help`."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:{width}}  {verb.help}" for name, verb in VERBS.items())
    return (
        "usage: acn VERB [options]\n\n"
        "Pretrain, fine-tune and compress Auto-Compressing Network language models.\n\n"
        f"verbs:\n{verbs}\n\n"
        "acn VERB --help      the options that people set, and an example\n"
        "acn VERB --help all  every option, by group\n"
        "acn --version        the versions of acn-lm and of what it stands on\n"
    )


def _help_topic(words: list[str]) -> str | None:
    """The word after `--help`; empty where there is none, None where no help is asked for."""
    place = next((place for place, word in enumerate(words) if word in ("-h", "--help")), None)
    return None if place is None else "".join(words[place + 1 : place + 2])


def _help(verb: str, everything: bool) -> str:
    from .help import format_help

    module = _module(verb)
    common = None if everything else getattr(module, "COMMON", None)
    return format_help(_parser(verb), VERBS[verb].help, module.EXAMPLE, common)


def read_args(verb: str, argv: list[str]) -> Any:
    """The `Args` of a verb from the whole command line after `acn`.

    Raises:
        SystemExit: with code 2 and everything that is wrong on stderr, if a word, a file or a variable is.
    """
    from .reading import OptionsError, tell_mistakes

    try:
        return _parse_args(verb, argv)
    except OptionsError as error:
        tell_mistakes(f"acn {verb}", error)
        sys.exit(2)


def _parse_args(verb: str, argv: list[str], check: Callable[[Any], list[Any]] | None = None) -> Any:
    """`check` says what else is wrong with the options: the verb's `problems`, of its module or else of its `Args`."""
    from .options import parse_options

    module = _module(verb)
    check = check or getattr(module, "problems", None) or getattr(module.Args, "problems", None)
    return parse_options(f"acn {verb}", module.Args, argv[1:], VERBS[verb].positionals, check)


def _warn_of_variables(verb: str) -> None:
    """Name the variables ACN_... that mean nothing to any verb; those of another verb are that one's."""
    if int(os.environ.get("RANK", "0")):
        return
    strange = [name for name in sorted(os.environ) if name.startswith("ACN_") and name != CREDENTIALS_VARIABLE]
    others = [name for name in strange if not name.startswith(f"ACN_{verb.upper()}__")]  # its own are mistakes
    known = {variable for one in VERBS for variable in _parser(one).variables} if others else set()
    for name in others:
        if name not in known:
            hint = did_you_mean(name.upper(), sorted(known))
            print(f"warning: no verb has an option for the environment variable {name}{hint}", file=sys.stderr)


def _parser(verb: str) -> "OptionParser":
    from .options import build_parser

    return build_parser(f"acn {verb}", _module(verb).Args, VERBS[verb].positionals)


def _read_and_run(verb: str, argv: list[str]) -> int:
    _warn_of_variables(verb)
    if not _starts_ranks(verb, argv):
        with starting():
            args = read_args(verb, argv)
        return run_verb(verb, args)
    print(f"acn {verb}: starting", file=sys.stderr, flush=True)
    with server_of_ranks(VERBS[verb].ranks_import):
        with starting():
            args = read_args(verb, argv)
        return run_verb(verb, args)


def read_recipe(config: str | None, data: str, output: str, options: str = "") -> Any:
    """What `acn pretrain` would be told by a recipe (a file or a name) and further `options`, in one string.

    Raises:
        LaunchError: the recipe or an option is wrong, or `options` cannot be split into words.
    """
    recipe = [] if config is None else ["--config", config]
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise LaunchError(f"options={options!r}: {error}") from error
    argv = ["pretrain", *recipe, "--data", data, "--output", output, *words]
    return _parse_args("pretrain", argv, lambda args: args.problems())  # the folders are on other machines


def run_verb(verb: str, args: Any) -> int:
    """Run a verb on its parsed arguments; errors that are written for the user are printed without a traceback."""
    return reported(verb, lambda: _run_checked(verb, args))


def _run_checked(verb: str, args: Any) -> int:
    output = getattr(args, "output", None)
    if isinstance(output, str):
        from pretrain.checkpoints import checkpoint_around

        if (folder := checkpoint_around(Path(output))) is not None:
            raise LaunchError(f"output={output} lies in the checkpoints {folder}, which it would spoil: choose another")
    run: Callable[[Any], int] = _module(verb).run
    return run(args)


def _module(verb: str) -> Any:
    return importlib.import_module(f"launch.verbs.{verb}")


def _starts_ranks(verb: str, argv: list[str]) -> bool:
    """Whether this process is going to start ranks, as far as that can be known without reading the options."""
    printing = any(word.startswith("--print_config") for word in argv)
    return bool(VERBS[verb].ranks_import) and "WORLD_SIZE" not in os.environ and not printing


if __name__ == "__main__":
    from launch.__main__ import main as command

    sys.exit(command())
