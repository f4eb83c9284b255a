"""The `acn` command: one parser per verb, built from the verb's typed dataclass.

Only the chosen verb is imported, so `acn --help` and a mistyped verb answer at once.
"""

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from jsonargparse import ArgumentParser, set_parsing_settings

from . import ranks
from .errors import reported


@dataclass(frozen=True)
class Verb:
    """A verb lives in `launch.verbs.NAME`, which defines `Args` (a dataclass) and `run(args) -> exit code`."""

    help: str
    positionals: tuple[str, ...] = ()
    """Fields of `Args` given without a flag; a list takes one or more."""
    ranks_import: tuple[str, ...] = ()
    """Of a verb that starts ranks: what they need and takes seconds to import, so that it begins before all else."""


VERBS = {
    "prepare": Verb("stream a corpus, train or load a tokenizer, write token shards"),
    "data": Verb("look into a prepared corpus: `data show DIR`, `data stats DIR`", positionals=("action", "data")),
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
    "report": Verb("tables and figures from one or several result folders", positionals=("results",)),
    "launch": Verb(
        "write, and submit, the script of an engine: slurm, torchrun, deepspeed, kubernetes or skypilot",
        positionals=("engine",),
    ),
    "publish": Verb("publish a model or a corpus on the Hugging Face Hub, with its card", positionals=("model",)),
    "plan": Verb("memory, time, disk and price of a recipe on a cluster, before paying for it"),
    "track": Verb("send the records of runs to an MLflow server: `track sync RUN`", positionals=("action", "runs")),
    "demo": Verb("the whole chain in minutes on this machine, offline"),
}


def build_parser(chosen: str | None) -> ArgumentParser:
    """The parser of `acn`, with all options of the verb `chosen` and the one-line help of the others."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog="acn",
        env_prefix="ACN",
        default_env=True,
        description="Pretrain, fine-tune and compress Auto-Compressing Network language models.",
    )
    verbs = parser.add_subcommands(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        verbs.add_subcommand(name, _verb_parser(name, verb) if name == chosen else ArgumentParser(), help=verb.help)
    return parser


def _verb_parser(name: str, verb: Verb) -> ArgumentParser:
    args_class = _module(name).Args
    parser = ArgumentParser(description=verb.help)
    types = {field.name: str(field.type) for field in fields(args_class)}
    if "config" not in types:  # a verb whose --config is another verb's has it as a field
        parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    for name in verb.positionals:
        parser.add_argument(name, nargs="+" if types[name].startswith("list") else None, type=str)
    parser.add_class_arguments(args_class, skip=set(verb.positionals))
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:  # `--dry_run` alone says true
            action.nargs, action.const = "?", True
    return parser


def _module(verb: str) -> Any:
    return importlib.import_module(f"launch.verbs.{verb}")


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns its exit code: 0 done, 1 it failed, 2 a mistake in the input, 75 stopped and resumable."""
    atexit.register(gc.freeze)  # or the exit searches all that the libraries have made for garbage, most of a second
    argv = sys.argv[1:] if argv is None else argv
    chosen = next((word for word in argv if word in VERBS), None)
    if chosen is None:
        build_parser(None).parse_args(argv)  # prints the help, or what is wrong, and exits
    assert chosen is not None, "the parser requires a verb"
    with _ranks_importing(chosen, argv):
        return run_verb(chosen, read_args(chosen, argv))


@contextmanager
def _ranks_importing(verb: str, argv: list[str]) -> Iterator[None]:
    """Meanwhile a server imports what the verb's ranks need, where this process is going to start ranks."""
    modules = VERBS[verb].ranks_import
    if not modules or "WORLD_SIZE" in os.environ or any(word in argv for word in ("-h", "--help", "--print_config")):
        yield
        return
    print(f"acn {verb}: starting", file=sys.stderr, flush=True)
    ranks.start_server(modules)
    try:
        yield
    finally:
        ranks.stop_server()


def read_args(verb: str, argv: list[str]) -> Any:
    """The `Args` of a verb from the whole command line after `acn`."""
    parser = build_parser(verb)
    values = vars(parser.instantiate(parser.parse_args(argv))[verb])
    args_class = _module(verb).Args
    return args_class(**{field.name: values[field.name] for field in fields(args_class)})


def run_verb(verb: str, args: Any) -> int:
    """Run a verb on its parsed arguments; errors that are written for the user are printed without a traceback."""
    return reported(verb, lambda: _module(verb).run(args))


if __name__ == "__main__":
    sys.exit(main())
