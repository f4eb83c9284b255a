"""Cut a fine-tuned model at a depth and write the small model as a Hugging Face folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .depth import cut_depth
from .errors import EvalError
from .files import check_absent, new_folder, write_json
from .models import load_finetuned, load_tokenizer, read_model_config, save_model
from .results import RESULTS_FILE, Results, read_results, size_mb


@dataclass
class CompressConfig:
    """Cutting a fine-tuned model at the smallest depth that still meets the tolerance, or at a given depth."""

    model: str
    """Folder of the fine-tuned model, with its results.json (OUTPUT/TASK of `acn glue`)."""
    output: str
    """Folder to write the small model into; must not exist yet."""
    tolerance: float = 0.005
    """Score that may be lost: cut at the smallest depth with score >= full score - tolerance."""
    depth: int | None = None
    """Cut at this depth instead, 0..L."""

    def problems(self) -> list[str]:
        """Everything that is wrong with the values, each with its mend."""
        problems = []
        if not self.tolerance >= 0:
            problems.append(f"tolerance={self.tolerance}: give 0 or more, the score that may be lost")
        if self.depth is not None and self.depth < 0:
            problems.append(f"depth={self.depth}: give 0 or more, or leave it out to cut by tolerance")
        return problems


@dataclass(frozen=True)
class CutSummary:
    """What a cut did. FLOPs are forward, for one sequence of the length that results.json states."""

    task: str
    metric: str
    layers: int
    depth: int
    full_score: float
    score: float
    full_params: int
    params: int
    full_flops: int
    flops: int
    output: str

    def lines(self) -> list[str]:
        """For a person: before and after."""
        return [
            f"{self.task}: {self.layers} -> {self.depth} layers, "
            f"{self.metric} {self.full_score:.4f} -> {self.score:.4f}",
            f"parameters {self.full_params / 1e6:.2f}M -> {self.params / 1e6:.2f}M "
            f"({self.params / self.full_params:.0%}), {size_mb(self.full_params):.1f} -> {size_mb(self.params):.1f} MB "
            f"in float32, forward GFLOPs {self.full_flops / 1e9:.3f} -> {self.flops / 1e9:.3f}",
            f"the small model is in {self.output}",
        ]


def _pick_depth(config: CompressConfig, results: Results) -> int:
    if config.depth is None:
        return cut_depth(results["depth_scores"], results["full_score"], config.tolerance)
    layers = len(results["depth_scores"]) - 1
    if config.depth > layers:
        raise EvalError(f"depth={config.depth} is outside 0..{layers}, the depths of {config.model}: give one of these")
    return config.depth


def _cut_results(config: CompressConfig, results: Results, depth: int) -> dict[str, Any]:
    kept = {name: results[name] for name in ("task", "metric", "seed", "connectivity")}
    return kept | {
        "source": config.model,
        "depth": depth,
        "layers": len(results["depth_scores"]) - 1,
        "tolerance": config.tolerance if config.depth is None else None,
        "score": results["depth_scores"][depth],
        "full_score": results["full_score"],
        "params": results["params_by_depth"][depth],
        "full_params": results["params_by_depth"][-1],
        "flops": results["flops_by_depth"][depth],
        "full_flops": results["flops_by_depth"][-1],
        "seq_length": results.get("seq_length"),
    }


def compress(config: CompressConfig) -> CutSummary:
    """Write `config.model` cut at the picked depth into `config.output`: weights, tokenizer, results.json.

    The written model computes, bit for bit, what the source computes at that depth.

    Raises:
        EvalError: a wrong value, an output that exists, or a source that is not a complete fine-tuned folder.
    """
    if problems := config.problems():
        raise EvalError("\n".join(problems))
    output = Path(config.output)
    check_absent(output, "output")
    results = read_results(Path(config.model))
    depth = _pick_depth(config, results)
    model_config = read_model_config(config.model)
    layers = len(results["depth_scores"]) - 1
    if model_config.num_hidden_layers != layers:
        raise EvalError(
            f"{config.model}: {RESULTS_FILE} speaks of {layers} layers, config.json of "
            f"{model_config.num_hidden_layers}: run `acn glue` again"
        )
    tokenizer = load_tokenizer(config.model, model_config)
    model = load_finetuned(config.model)
    cut = _cut_results(config, results, depth)
    with new_folder(output) as aside:
        model.truncate(depth)
        save_model(aside, model, tokenizer)
        write_json(aside / RESULTS_FILE, cut)
    shared = (
        "task",
        "metric",
        "layers",
        "depth",
        "full_score",
        "score",
        "full_params",
        "params",
        "full_flops",
        "flops",
    )
    return CutSummary(**{name: cut[name] for name in shared}, output=config.output)
