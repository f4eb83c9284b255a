"""Is it the same program everywhere: packages, sources, configuration, environment?"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch

from pretrain import PretrainConfig

from ...provenance import provenance_tags
from ...tracking import flatten
from .checks import Answer, Check, Facts, Site, groups, named, usual
from .findings import Finding, fault, fine, listed, warning

_ROOMS = ("modeling", "data_pipeline", "pretrain", "eval", "launch")
_SECTIONS = ("NCCL_", "TORCH_NCCL_", "GLOO_", "UCX_", "FI_", "TORCH_DISTRIBUTED_", "OMP_NUM_THREADS")
# Variables that rightly differ from node to node.
_OWN = ("NCCL_HOSTID", "NCCL_TOPO_FILE")


def _versions(site: Site) -> Facts:
    tags = provenance_tags()
    facts = {name.removeprefix("version."): value for name, value in tags.items() if name.startswith("version.")}
    if "git.commit" in tags:
        facts["commit"] = tags["git.commit"][:10] + (" with changes" if tags["git.dirty"] == "true" else "")
    facts["sources"] = source_hash(Path(__file__).parents[3])
    if torch.version.cuda is not None:
        facts["CUDA"] = torch.version.cuda
    if site.device.type == "cuda" and torch.version.hip is None:
        facts["NCCL"] = ".".join(map(str, torch.cuda.nccl.version()))
    return facts


def source_hash(root: Path) -> str:
    """The first digits of a sha256 over the Python files of all rooms: tells apart what has the same version number."""
    total = hashlib.sha256()
    for room in _ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            total.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()[:10]


def _judge_versions(answers: Sequence[Answer], site: Site) -> list[Finding]:
    findings, common = [], {}
    for name in dict.fromkeys(name for answer in answers for name in answer.facts):
        by_version = groups(answers, _value(name, "missing"))
        common[name] = expected = usual([answer.facts.get(name, "missing") for answer in answers])
        for version, places in by_version.items():
            if version != expected:
                seen = f"{name} {version}, elsewhere {expected}"
                findings.append(fault("versions", named(places, answers), seen, _version_fix(name, expected)))
    said = ", ".join(f"{name} {version}" for name, version in common.items())
    return findings or [fine("versions", named(answers, answers), said)]


def _value(name: str, otherwise: str) -> Callable[[Facts], str]:
    return lambda facts: facts.get(name, otherwise)


def _version_fix(name: str, expected: object) -> str:
    if name in ("commit", "sources"):
        return "bring the same checkout to all nodes, or install the same build there"
    if name in ("CUDA", "NCCL"):
        return "install the same build of torch everywhere, best from one environment or image"
    return f"install {name} {expected} there, best by using one environment or image everywhere"


def _settings(site: Site) -> Facts:
    given = asdict(site.config)
    recipe = {field.name: given[field.name] for field in fields(PretrainConfig)}  # without options of preflight's own
    config = flatten({**recipe, "tracking": asdict(site.tracking)})
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    return {"hash": digest, "config": config}


def _judge_settings(answers: Sequence[Answer], site: Site) -> list[Finding]:
    by_hash = groups(answers, lambda facts: facts["hash"])
    expected = usual([answer.facts["hash"] for answer in answers])
    reference = by_hash[expected][0].facts["config"]
    findings = []
    for digest, places in by_hash.items():
        if digest != expected:
            config = places[0].facts["config"]
            differing = [name for name in {**reference, **config} if config.get(name) != reference.get(name)]
            seen = listed((f"{name}={config.get(name)}, elsewhere {reference.get(name)}" for name in differing), most=3)
            fix = "start all ranks with the same --config file and the same options"
            findings.append(fault("config", named(places, answers), seen, fix))
    return findings or [fine("config", named(answers, answers), f"hash {expected}")]


def _environment(site: Site) -> Facts:
    return {name: value for name, value in os.environ.items() if name.startswith(_SECTIONS) and name not in _OWN}


def _judge_environment(answers: Sequence[Answer], site: Site) -> list[Finding]:
    findings = []
    for name in sorted({name for answer in answers for name in answer.facts}):
        by_value = groups(answers, _value(name, "not set"))
        expected = usual([answer.facts.get(name, "not set") for answer in answers])
        for value, places in by_value.items():
            if value != expected:
                seen = f"{name}={value}, elsewhere {expected}"
                fix = "unless the machines differ, export the same everywhere"
                findings.append(warning("environment", named(places, answers), seen, fix))
    names = sorted({name for answer in answers for name in answer.facts})
    return findings or [fine("environment", named(answers, answers), f"the same {listed(names) or 'defaults'}")]


VERSIONS = Check("versions", "rank", _versions, _judge_versions, seconds=20.0)
CONFIG = Check("config", "rank", _settings, _judge_settings)
ENVIRONMENT = Check("environment", "rank", _environment, _judge_environment)
