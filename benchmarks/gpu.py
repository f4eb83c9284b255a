"""Training on one GPU: speed, MFU and memory with each feature switched off in turn, against Hugging Face Trainer.

    bash benchmarks/gpu.sh [--wheels FOLDER] [--json FILE] [--minutes 8.5] [--device cpu --quick]

bf16, BERT's base (768 x 12) and large (1024 x 24), sequences of 128 and 512 made of random words. Then the three
costliest kernels of a step, the loader alone, fine-tuning and the sweep of depths against Trainer with BERT, a
conversion, packed documents, saving and resuming a checkpoint, and inference at every depth. Every section is a process
of its own with what is left of the time; what has been measured is written after each of them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_pipeline import write_json

from .aims import GPU_CASES, GPU_FINETUNE, gpu_finetune, gpu_loader, gpu_mfu, gpu_over_residual, gpu_over_trainer
from .timing import Goal, table

SECTIONS = (
    *("ours base/128", "trainer base/128", "profile base/128", "ours base/512", "trainer base/512"),
    *("ours large/512", "trainer large/512", "finetune base/128", "checkpoint base/128", "inference base/128"),
    "conversion base/128",
    "packed base/512",
    *("ours large/128", "trainer large/128"),
)
"""What matters most comes first."""
QUICK_SECTIONS = tuple(name for name in SECTIONS if name.split()[1] in ("base/128", "large/512") or "packed" in name)
LEAST_SECONDS = 20.0
"""A section that would have less is left out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run every section for which there is time; 0 when all of them came to their end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="file to write (default: gpu.json)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument(
        "--quick", action="store_true", help="tiny models: shows that everything runs, measures nothing"
    )
    parser.add_argument("--minutes", type=float, default=8.5, help="time for everything (default: 8.5)")
    options = parser.parse_args(argv)
    deadline = time.monotonic() + 60 * options.minutes
    record: dict[str, Any] = {"benchmark": "gpu", "quick": options.quick, "rounds": 3, "sections": {}, "missing": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in QUICK_SECTIONS if options.quick else SECTIONS:
            found, why = run_section(name, Path(folder), options, deadline - time.monotonic())
            if found is None:
                record["missing"][name] = why
            else:
                record["machine"] = found.pop("machine")
                record["sections"][name] = found
            record["goals"] = [asdict(goal) | {"met": goal.met} for goal in goals(record["sections"])]
            write_json(options.json, record)
            print(f"{name}: {why or 'done'}; {max(0, deadline - time.monotonic()):.0f} s left", flush=True)
    show(record)
    return int(bool(record["missing"]))


def run_section(
    name: str, folder: Path, options: argparse.Namespace, seconds: float
) -> tuple[dict[str, Any] | None, str]:
    """What a section found, or None and why."""
    if seconds < LEAST_SECONDS:
        return None, "no time left"
    part, case = name.split()
    file = folder / "found.json"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu_sections", part, case, "--folder", str(folder)]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {}
    try:
        done = subprocess.run(
            [*command, "--quick"] if options.quick else command,
            env=os.environ | hidden, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, "out of time"
    if done.returncode:
        return None, next(iter(done.stderr.strip().splitlines()[-1:]), f"exit code {done.returncode}")
    return json.loads(file.read_text()), ""


def goals(sections: dict[str, Any]) -> list[Goal]:
    """What the sections so far say of the aims."""
    found = []
    for case in GPU_CASES:
        ours, trainer = (sections.get(f"{part} {case}") for part in ("ours", "trainer"))
        if ours is None:
            continue
        acn = ours["cases"]["acn"]
        if (aim := gpu_mfu(case)) is not None and acn["mfu"] is not None:
            found.append(aim.measured(acn["mfu"]))
        found.append(gpu_over_residual(case).measured(ours["time_over_residual"]))
        found.append(gpu_loader(case).measured(ours["loader_tokens_per_second"] / acn["tokens_per_second"]))
        if trainer is not None:
            speed = trainer["cases"]["Hugging Face Trainer"]["tokens_per_second"]
            found.append(gpu_over_trainer(case).measured(acn["tokens_per_second"] / speed))
    if (tuned := sections.get(f"finetune {GPU_FINETUNE}")) is not None:
        found.append(gpu_finetune(GPU_FINETUNE).measured(tuned["over_trainer"]))
    return found


def details(record: dict[str, Any]) -> str:
    """What was measured beside the goals: a table of the cases, and lines of the other sections."""
    rows = [
        [
            f"{name.split()[1]}, {case}",
            f"{row['tokens_per_second']:,.0f}",
            "unknown" if row["mfu"] is None else f"{row['mfu']:.1%}",
            f"{row['peak_gib']:.1f}",
        ]
        for name, section in record["sections"].items()
        for case, row in section.get("cases", {}).items()
    ]
    lines = [f"{name}: {_line(section)}" for name, section in record["sections"].items() if "cases" not in section]
    return "\n\n".join([table(["case", "tokens/s", "MFU", "peak GiB"], rows), *lines])


def _line(values: dict[str, Any]) -> str:
    """Names and figures; those of a dictionary inside in brackets."""
    parts = []
    for name, value in values.items():
        inner = f"({_line(value)})" if isinstance(value, dict) else f"{value:,.3g}"
        parts.append(f"`{name}` {inner}")
    return ", ".join(parts)


def show(record: dict[str, Any]) -> None:
    """Everything on the console."""
    print(f"\n{details(record)}\n")
    for goal in record["goals"]:
        print(Goal(goal["what"], goal["value"], goal["bound"], goal["at_least"]))
    for name, why in record["missing"].items():
        print(f"MISSING  {name}: {why}")


if __name__ == "__main__":
    sys.exit(main())
