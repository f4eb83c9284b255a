"""Does every node have the whole prepared corpus, undamaged as far as a sample tells?"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace

from data_pipeline import MANIFEST_FILE, DataError, Manifest, Shard, is_url
from data_pipeline.corpus import Store, shard_faults
from data_pipeline.stream import PreparedFolder

from .checks import Answer, Check, Facts, Site, groups, named, usual
from .findings import Finding, fault, fine, listed

# One node looks at so many sizes at most: thousands of nodes would otherwise ask a file server for millions.
_MOST_SIZES = 4096
_READ_SECONDS = 8.0
_MB = 1e6
_FIX = "bring the file to that node again, or run `acn prepare` again; `acn data verify` reads every shard"


def _data(site: Site) -> Facts:
    config = site.config
    if not config.data:
        return {"folder": None}
    remote = replace(config.stream.remote, retries=1, timeout=min(config.stream.remote.timeout, _READ_SECONDS))
    try:
        folder = PreparedFolder(config.data, remote)
        manifest = Manifest.load(folder.path)
    except DataError as error:
        return {"folder": config.data, "problems": [(problem.seen, problem.fix) for problem in error.problems]}
    digest = hashlib.sha256((folder.path / MANIFEST_FILE).read_bytes()).hexdigest()[:12]
    shards = _in_turn(manifest, site.job.me.index, len(site.job.nodes))
    faults = [] if is_url(config.data) else _wrong_sizes(folder, [shard for shard, _ in shards[:_MOST_SIZES]])
    known = {name for name, _ in faults}
    read = 0
    until = time.monotonic() + min(_READ_SECONDS, 0.8 * site.left())
    sampled = 0
    for shard, is_last in shards:
        if sampled and (read + shard.bytes > site.limits.sample_mb * _MB or time.monotonic() > until):
            break
        if shard.file not in known:
            faults += [(shard.file, what) for what in shard_faults(Store(config.data), manifest, shard, is_last)]
            sampled, read = sampled + 1, read + shard.bytes
    total = len(shards)
    return {"folder": config.data, "manifest": digest, "faults": faults, "read": read, "sampled": sampled, "of": total}


def _in_turn(manifest: Manifest, index: int, nodes: int) -> list[tuple[Shard, bool]]:
    """All shards, each with whether it ends its split, from node to node beginning at another place: together the
    nodes' samples spread over the corpus, and a small corpus is read whole by each."""
    shards = [(shard, shard is split.shards[-1]) for split in manifest.splits.values() for shard in split.shards]
    start = index * len(shards) // nodes
    return shards[start:] + shards[:start]


def _wrong_sizes(folder: PreparedFolder, shards: Sequence[Shard]) -> list[tuple[str, str]]:
    files, found = folder.files(), []
    for shard in shards:
        try:
            files.check(shard)
        except DataError as error:
            found.append((shard.file, error.problems[0].wrong))
    return found


def judge_data(answers: Sequence[Answer], site: Site) -> list[Finding]:
    """Faults by node and shard, and nodes with another corpus than the others."""
    if answers[0].facts["folder"] is None:
        return [Finding("data", "", "skipped", "no corpus was named", "give --data to have it checked")]
    findings = []
    readable = [answer for answer in answers if "problems" not in answer.facts]
    for answer in answers:
        if "problems" in answer.facts:
            findings += [fault("data", answer.where, seen, fix or _FIX) for seen, fix in answer.facts["problems"]]
        elif answer.facts["faults"]:
            folder, faults = answer.facts["folder"], answer.facts["faults"]
            findings.append(fault("data", answer.where, f"{folder}: {listed((' '.join(f) for f in faults), 3)}", _FIX))
    expected = usual([answer.facts["manifest"] for answer in readable]) if readable else None
    for manifest, places in groups(readable, lambda facts: facts["manifest"]).items():
        if manifest != expected:
            seen = f"another manifest ({manifest}) than elsewhere ({expected})"
            findings.append(fault("data", named(places, answers), seen, "copy the same prepared folder to all nodes"))
    if findings:
        return findings
    least = min(answers, key=lambda answer: answer.facts["sampled"]).facts
    seen = (
        f"manifest {expected}; each node read {least['sampled']} of {least['of']} shards ({least['read'] / _MB:.0f} MB)"
    )
    return [fine("data", named(answers, answers), seen)]


DATA = Check("data", "node", _data, judge_data, seconds=20.0)
