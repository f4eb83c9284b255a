"""`publish`, from MODEL to its address."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from data_pipeline import DataError, OutputLock, new_folder
from eval import write_model

from ..errors import LaunchError
from .config import PublishConfig
from .corpus import shard_problems, write_corpus_publication
from .files import Publication, Target, files_of, output_problems, write_receipt
from .hub import Hub
from .models import write_model_publication
from .source import Source, find_source


def publish_source(config: PublishConfig) -> None:
    """Write the publication of `config.model` and send it, or with `dry_run` only write it.

    Raises:
        LaunchError: a mistake in the options, the folder or the token; all that can be known without the network is
            said together, before the network is asked.
        HubError: the Hub cannot be reached, or failed; the same call goes on.
        DataError: OUTPUT is being written by another job, or cannot be written.
    """
    with OutputLock(Path(config.output), beside=True) if config.output is not None else nullcontext():
        _publish(config)


def _publish(config: PublishConfig) -> None:
    source = _check(config)
    with _folder(config) as folder, _of_this_family(source) as source:
        write = write_corpus_publication if source.kind == "dataset" else write_model_publication
        publication = write(folder, config, source)
        if config.output is not None:
            write_receipt(folder, config.repo_id)
        for note in publication.notes:
            _say(f"note: {note}")
        if not config.dry_run and config.output is None:
            _send(config, source, publication)
    if config.output is None:
        return
    moved = _moved(publication, folder, Path(config.output))
    if config.dry_run:
        _say_contents(moved)
        _say(f"nothing was sent; the publication: {config.output}   its card: {config.output}/README.md")
    else:
        _send(config, source, moved)


def _check(config: PublishConfig) -> Source:
    source, problems = find_source(config)
    problems = config.problems() + problems
    if config.output is not None:
        problems += output_problems(Path(config.output), config.repo_id)
    if source is not None and source.kind == "dataset":
        try:
            problems += shard_problems(source.folder)
        except DataError as error:
            problems += error.problems
    if problems or source is None:
        raise LaunchError(*problems)
    return source


@contextmanager
def _folder(config: PublishConfig) -> Iterator[Path]:
    """Where the publication is put together: beside OUTPUT, which it becomes when whole, or in a scratch folder."""
    if config.output is not None:
        with new_folder(Path(config.output), replace=True) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="acn-publish-") as scratch:
            yield Path(scratch)


@contextmanager
def _of_this_family(source: Source) -> Iterator[Source]:
    """`source`, or what it becomes as a model of this family, for the time being."""
    if source.convert is None:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="acn-publish-") as scratch:
        write_model(source.convert, Path(scratch) / "model")
        yield replace(source, folder=Path(scratch) / "model")


def _moved(publication: Publication, old: Path, new: Path) -> Publication:
    """The publication after its folder was renamed."""
    targets = [Target(new / t.folder.relative_to(old), t.repo_id, t.revision) for t in publication.targets]
    return Publication(targets, publication.notes)


def _send(config: PublishConfig, source: Source, publication: Publication) -> None:
    hub = Hub("dataset" if source.kind == "dataset" else "model", _say)
    url = hub.publish(publication, config.public)
    _say(f"published: {url}" + ("" if config.public else " (private; --public shows it to everybody)"))


def _say_contents(publication: Publication) -> None:
    for target in publication.targets:
        files = files_of(target.folder)
        size = sum((target.folder / name).stat().st_size for name in files) / 1e6
        _say(f"{target.repo_id} {target.revision}: {len(files)} files, {size:,.1f} MB")
        _say("  " + "  ".join(map(str, files)))


def _say(line: str) -> None:
    print(line, flush=True)
