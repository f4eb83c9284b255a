"""Is there a shared folder for the run, and room in it and for temporary files?"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from data_pipeline.stream import TokenStream
from modeling import resolve_precision, tensor_sizes
from pretrain.checkpoints import with_sizes

from ..planning import ModelSize, Precision, architecture, checkpoint_bytes
from .checks import Answer, Check, Facts, Site, groups, name_places
from .findings import Finding, fault, fine, warning

_GB = 1e9
# NCCL's and torch's shared memory of one rank; containers get 64 MB in all unless somebody asks for more.
_SHM_BYTES_PER_RANK = 64 * 2**20
_SHM = "/dev/shm"
_HEAR_SECONDS = 10.0


def run_folder(site: Site) -> Path:
    """Where the run will be written; without an output the working folder, which relative ones are in."""
    return Path(site.config.output).absolute() if site.config.output else Path.cwd()


def existing(path: Path) -> Path:
    """The nearest folder above that is there already."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def size_of_checkpoint(site: Site) -> int | None:
    """Bytes of one checkpoint with AdamW's states; None when the corpus, whose vocabulary counts, cannot
    be read here."""
    config = site.config
    if not config.data:
        return None
    try:
        manifest = TokenStream(config.data, config.stream, config.masking).manifest
        model = architecture(with_sizes(config), manifest.tokenizer.vocab_size)
        size = ModelSize.of(tensor_sizes(model))
    except Exception:  # whatever is wrong with the corpus or the model is said by the checks of theirs
        return None
    return checkpoint_bytes(size, config.zero_stage, cast(Precision, resolve_precision(config.precision)))


def _space(site: Site) -> Facts:
    facts: Facts = {"ranks": len(site.job.on_node(site.job.me.index))}
    if site.job.me.rank == 0:
        facts["checkpoint"] = size_of_checkpoint(site)
    folder = existing(run_folder(site))
    facts["output"] = {"folder": str(folder), "free": shutil.disk_usage(folder).free}
    try:
        scratch = tempfile.gettempdir()
        facts["scratch"] = {"folder": scratch, "free": shutil.disk_usage(scratch).free}
    except FileNotFoundError as error:  # lists the folders it tried
        facts["scratch"] = {"problem": error.args[-1]}
    if "://" in site.config.data:
        cache = existing(Path(site.config.stream.remote.cache).expanduser().absolute())
        facts["cache"] = {"folder": str(cache), "free": shutil.disk_usage(cache).free}
    if os.path.isdir(_SHM) and site.device.type == "cuda":
        facts["shm"] = {"folder": _SHM, "free": shutil.disk_usage(_SHM).free}
    return facts


def _judge_space(answers: Sequence[Answer], site: Site) -> list[Finding]:
    size = next((answer.facts["checkpoint"] for answer in answers if "checkpoint" in answer.facts), None)
    findings = [finding for answer in answers for finding in space_findings(answer, site, size)]
    if findings:
        return findings
    output = min(answer.facts["output"]["free"] for answer in answers)
    scratch = min(answer.facts["scratch"]["free"] for answer in answers)
    of = f"for checkpoints of {size / _GB:.2f} GB" if size is not None else "(size of a checkpoint unknown)"
    seen = f"at least {output / _GB:.1f} GB free {of}, {scratch / _GB:.1f} GB for temporary files"
    return [fine("space", name_places(answers, answers), seen)]


def space_findings(answer: Answer, site: Site, size: int | None) -> list[Finding]:
    """Which folders of a node lack room; `size` is that of a checkpoint in bytes, None when it is unknown."""
    found = []
    facts, keep = answer.facts, site.config.checkpoint.keep
    output = facts["output"]
    if size is not None:
        needed = size * (keep + 1) + size // 3  # the new one before the oldest goes; the finished model's fp32 weights
        if output["free"] < needed:
            seen = f"{output['free'] / _GB:.2f} GB free in {output['folder']}, {needed / _GB:.2f} GB needed"
            fix = f"make room, choose another --output, or lower checkpoint.keep={keep}"
            found.append(fault("space", answer.where, seen, fix))
    scratch, least = facts["scratch"], site.limits.scratch_gb
    if "problem" in scratch:
        fix = "point TMPDIR to a folder on a disk of that node"
        found.append(fault("space", answer.where, f"no temporary folder ({scratch['problem']})", fix))
    elif scratch["free"] < least * _GB:
        seen = f"{scratch['free'] / _GB:.2f} GB free for temporary files in {scratch['folder']}"
        fix = "make room there, point TMPDIR to another disk, or lower preflight.scratch_gb"
        found.append(fault("space", answer.where, seen, fix))
    wanted = site.config.stream.remote.cache_gb
    if "cache" in facts and facts["cache"]["free"] < wanted * _GB:
        seen = f"{facts['cache']['free'] / _GB:.1f} GB free for the cache of shards in {facts['cache']['folder']}"
        fix = f"lower stream.remote.cache_gb={wanted:g}, or point stream.remote.cache to another disk"
        found.append(warning("space", answer.where, seen, fix))
    if "shm" in facts and facts["shm"]["free"] < _SHM_BYTES_PER_RANK * facts["ranks"]:
        seen = f"{facts['shm']['free'] / 2**20:.0f} MiB of shared memory in {_SHM} for {facts['ranks']} ranks"
        found.append(fault("space", answer.where, seen, "start the container with --shm-size=8g, or --ipc=host"))
    return found


def _write_token(site: Site) -> Facts:
    """Leave a file for the other nodes in the run's folder, or above it where that is not there yet.

    How far above is what the first node found, so that a node where the shared folder is missing does not quietly take
    a folder of its own disk that is nearer to the root.
    """
    folder = run_folder(site)
    if site.job.me.rank == 0:
        up = [folder, *folder.parents].index(existing(folder))
        site.job.announce("shared/up", [up, uuid.uuid4().hex])
    target, word = _target(site)
    file = target / f".acn-preflight-{word}-{site.job.me.index}"
    try:
        file.write_text(word)
        with file.open() as written:
            os.fsync(written.fileno())
    except OSError as error:
        return {"folder": str(target), "problem": error.strerror or str(error)}
    finally:
        site.cleanup.callback(_remove, file)
    return {"folder": str(target)}


def _target(site: Site) -> tuple[Path, str]:
    """The folder for the files, and the word that is in each of this job's."""
    up, word = site.job.hear("shared/up", _HEAR_SECONDS)
    folder = run_folder(site)
    return [folder, *folder.parents][min(up, len(folder.parents))], word


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()


def _judge_write(answers: Sequence[Answer], site: Site) -> list[Finding]:
    fix = "mount the shared folder there writable for this user, or choose another --output"
    return [
        fault("writing", answer.where, f"cannot write to {answer.facts['folder']}: {answer.facts['problem']}", fix)
        for answer in answers
        if "problem" in answer.facts
    ] or [fine("writing", name_places(answers, answers), f"{answers[0].facts['folder']} is writable")]


def _read_tokens(site: Site) -> Facts:
    """Which nodes' files are not to be seen here."""
    target, word = _target(site)
    unseen = []
    for place in site.job.firsts:
        try:
            seen = (target / f".acn-preflight-{word}-{place.index}").read_text() == word
        except OSError:
            seen = False
        if not seen:
            unseen.append(place.index)
    return {"folder": str(target), "unseen": unseen}


def judge_shared(answers: Sequence[Answer], site: Site) -> list[Finding]:
    """Nodes that see the same files have the same folder: the biggest such group, of equals the first, is right.

    A file that nobody sees was not written, and `writing` has said so.
    """
    written = set(range(len(site.job.nodes))) - set.intersection(*(set(a.facts["unseen"]) for a in answers))
    views = groups(answers, lambda facts: tuple(sorted(written - set(facts["unseen"]))))
    right = max(views.values(), key=len)
    first = right[0].where
    fix = "mount the shared folder on every node at the same path, or put --output where one is"
    findings = [
        fault(
            "shared folder", name_places(places, answers), f"{places[0].facts['folder']} is not the one of {first}", fix
        )
        for places in views.values()
        if places is not right
    ]
    folder = right[0].facts["folder"]
    same = f"{folder} is the same everywhere" if len(answers) > 1 else f"{folder}: one node, nothing to compare"
    return findings or [fine("shared folder", name_places(answers, answers), same)]


SPACE = Check("space", "node", _space, _judge_space, seconds=20.0)
WRITING = Check("writing", "node", _write_token, _judge_write, seconds=15.0)
SHARED = Check("shared folder", "node", _read_tokens, judge_shared)
