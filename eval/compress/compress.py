"""Cut a fine-tuned model at a depth and write the small model as a Hugging Face folder, with its card."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_pipeline import OutputLock, Problem, file_sha256, find_model, new_folder, write_json
from modeling import AcnForSequenceClassification, precision_refusal

from ..chance import AT_CHANCE, ERRORS, constant_score, is_at_chance, is_cut_at_chance
from ..depth import cut_depth
from ..errors import EvalError
from ..files import check_absent
from ..models import best_device, load_finetuned, load_tokenizer, name_model, pin_model, read_model_config, save_model
from ..precision import own_precision, precision_problems, say_precision
from ..results import CUT_FILE, RESULTS_FILE, CutResults, TaskResults, find_results, size_mb
from .card import CARD_FILE, card
from .config import TARGETS, CompressConfig
from .onnx_model import check_installed
from .rescore import Rescorer, check_score, onnx_variants, rescorer
from .speed import measure_speed


@dataclass(frozen=True, kw_only=True)
class CutSummary(CutResults):
    """What a cut did, and where the small model is."""

    output: str

    @property
    def _chance(self) -> str:
        return f" ({AT_CHANCE})" if is_cut_at_chance(self) else ""

    def lines(self) -> list[str]:
        """For a person: before and after."""
        lines = [
            f"{self.task}: {self.layers} -> {self.depth} layers, "
            f"{self.metric} {self.full_score:.4f} -> {self.score:.4f}{self._chance} ({self.rule})",
            f"parameters {self.full_params / 1e6:.2f}M -> {self.params / 1e6:.2f}M "
            f"({self.params / self.full_params:.0%}), {size_mb(self.full_params):.1f} -> {size_mb(self.params):.1f} MB "
            f"in float32, forward GFLOPs {self.full_flops / 1e9:.3f} -> {self.flops / 1e9:.3f}",
        ]
        if self.speed is not None:
            full, small = (self.speed.depths[str(depth)] for depth in (self.layers, self.depth))
            lines.append(
                f"one sequence in {full.latency_ms:.1f} -> {small.latency_ms:.1f} ms, "
                f"{full.sequences_per_second:.0f} -> {small.sequences_per_second:.0f} sequences/s in batches "
                f"of 32 ({self.speed.device}, {self.speed.threads} threads, {self.speed.precision})"
            )
        if self.checked_score is not None:
            again = f"the written model, run again on the validation split in {self.precision}"
            lines.append(f"{again}: {self.checked_score:.4f}")
        else:
            lines.append("the written model was not run again (--check false, or results.json names no data)")
        for name, variant in (self.variants or {}).items():
            score = f"{self.metric} {variant['score']:.4f}, " if "score" in variant else ""
            lines.append(f"{name}: {score}{variant['mb']:.1f} MB, {variant['latency_ms']:.1f} ms for one sequence")
        return [*lines, f"the small model is in {self.output}"]


def _best_within(config: CompressConfig, results: TaskResults, latencies: Mapping[int, float]) -> int:
    """The depth with the best score that keeps all limits; of equal scores the smallest depth."""
    costs: dict[str, Sequence[float]] = {
        "max_params": results.params_by_depth,
        "max_mb": [size_mb(params) for params in results.params_by_depth],
        "max_gflops": [flops / 1e9 for flops in results.flops_by_depth],
        "max_latency_ms": [latencies.get(depth, math.inf) for depth in range(len(results.depth_scores))],
    }
    scores = results.depth_scores
    fit = [d for d in range(len(scores)) if all(costs[name][d] <= limit for name, limit in config.targets.items())]
    if not fit:
        least = "; ".join(f"depth 0 has {costs[name][0]:.4g} {TARGETS[name]}" for name in config.targets)
        raise EvalError(f"{', '.join(f'{n}={v}' for n, v in config.targets.items())}: no depth is that small ({least})")
    return max(fit, key=lambda depth: (scores[depth], -depth))


def _pick_depth(
    config: CompressConfig, results: TaskResults, model: AcnForSequenceClassification, precision: str
) -> tuple[int, str]:
    """The depth, and the rule in words.

    Args:
        precision: of what is measured.
    """
    layers = len(results.depth_scores) - 1
    if config.depth is not None:
        if config.depth > layers:
            raise EvalError(
                f"depth={config.depth} is outside 0..{layers}, the depths of {config.model}: give one of these"
            )
        return config.depth, "the depth that was asked for"
    if config.one_standard_error:
        error = results.standard_error if results.aggregate is None else results.aggregate.standard_error
        if error is None:
            raise EvalError(f"one_standard_error: {config.model} states no standard error: run `acn glue` again")
        depth = cut_depth(results.depth_scores, results.full_score, error)
        return depth, f"the smallest depth within one standard error ({error:.4f}) of the full score"
    if config.targets:
        latencies: dict[int, float] = {}
        if config.max_latency_ms is not None:
            measured = measure_speed(model, range(layers + 1), _seq_length(results, model), precision).depths
            latencies = {int(depth): value.latency_ms for depth, value in measured.items()}
        limits = ", ".join(f"{value:g} {TARGETS[name]}" for name, value in config.targets.items())
        return _best_within(config, results, latencies), f"the best depth within {limits}"
    depth = cut_depth(results.depth_scores, results.full_score, config.tolerance)
    return depth, f"the smallest depth that loses at most {config.tolerance:g}"


def _seq_length(results: TaskResults, model: AcnForSequenceClassification) -> int:
    return results.seq_length or model.config.max_position_embeddings


def _cut_results(config: CompressConfig, results: TaskResults, depth: int, rule: str) -> CutResults:
    together = results.aggregate
    deviations = together.depth_std if together is not None else None
    return CutResults(
        task=results.task,
        metric=results.metric,
        seed=results.seed,
        model=results.model,
        connectivity=results.connectivity,
        precision=results.precision,
        source=name_model(config.model),
        depth=depth,
        layers=len(results.depth_scores) - 1,
        rule=rule,
        selection=results.how_selected,
        tolerance=config.tolerance if config.by_tolerance else None,
        score=results.depth_scores[depth],
        full_score=results.full_score,
        seeds=results.all_seeds,
        seed_mean=together.depth_mean[depth] if together is not None and deviations is not None else None,
        seed_std=deviations[depth] if deviations is not None else None,
        params=results.params_by_depth[depth],
        full_params=results.params_by_depth[-1],
        flops=results.flops_by_depth[depth],
        full_flops=results.flops_by_depth[-1],
        seq_length=results.seq_length,
        scored_on=results.data,
        majority_score=results.majority_score,
        standard_error=results.standard_error,
        origin=results.origin,
    )


def _check_learned(config: CompressConfig, results: TaskResults) -> None:
    """Refuse a model that has learned nothing: the curve by which it would be cut is noise."""
    if config.force or not is_at_chance(results):
        return
    wrong = (
        f"is {AT_CHANCE} on {results.task}: its {results.metric} of {results.full_score:.4f} is not more than "
        f"{ERRORS:g} standard errors above a constant answer's {constant_score(results):.4f}"
    )
    raise EvalError(Problem("model", config.model, wrong, "train it longer or on more examples, or say --force"))


def _read_results(model: str) -> TaskResults:
    """The results beside a fine-tuned model."""
    folder = find_model(model).path
    if (results := find_results(folder)) is None:
        wrong = f"has no {RESULTS_FILE}, by which it could be cut"
        fix = f"give OUTPUT/TASK of `acn glue --model {model} --tasks TASK --output OUTPUT`"
        raise EvalError(Problem("model", model, wrong, fix))
    return results


def _check_precision(config: CompressConfig, results: TaskResults) -> None:
    """Refuse a precision that this machine lacks: what was asked for, and what scores can be compared in."""
    problems = precision_problems(config.precision)
    if config.check and (refusal := precision_refusal(results.precision)) is not None:
        wrong = f"was scored in {results.precision}, and {refusal}"
        problems.append(Problem("model", config.model, wrong, "check it where it was fine-tuned, or say --check false"))
    if problems:
        raise EvalError(*problems)


def _load(config: CompressConfig) -> tuple[TaskResults, AcnForSequenceClassification, Any]:
    """Results, model and tokenizer of the source; everything is checked."""
    check_absent(Path(config.output), "output")
    results = _read_results(config.model)
    model_config = read_model_config(config.model)
    layers = len(results.depth_scores) - 1
    if model_config.num_hidden_layers != layers:
        raise EvalError(
            f"{config.model}: {RESULTS_FILE} speaks of {layers} layers, config.json of "
            f"{model_config.num_hidden_layers}: run `acn glue` again"
        )
    _check_learned(config, results)
    _check_precision(config, results)
    if config.onnx or config.int8:
        check_installed()
    precision = own_precision(config.precision, results.precision)
    return results, load_finetuned(config.model, precision), load_tokenizer(config.model, model_config)


def _write(
    folder: Path, config: CompressConfig, cut: CutResults, model: AcnForSequenceClassification, tokenizer: Any,
    scoring: Rescorer | None,
) -> CutResults:  # fmt: skip
    """The small model with everything that belongs to it; returns `cut` with what was measured."""
    cut = replace(cut, files=save_model(folder, model, tokenizer))
    if config.check and scoring is not None:
        cut = replace(cut, checked_score=check_score(scoring, folder, cut.score, config.model))
    if config.onnx or config.int8:
        length = cut.seq_length or model.config.max_position_embeddings
        variants = onnx_variants(folder, model.cpu(), scoring, length, config.int8)
        digests = {name: file_sha256(folder / name) for name in variants}
        cut = replace(cut, variants=variants, files=(cut.files or {}) | digests)
    (folder / CARD_FILE).write_text(card(cut), encoding="utf-8")
    write_json(folder / CUT_FILE, cut.to_json())
    return cut


def compress_model(config: CompressConfig) -> CutSummary:
    """Write `config.model` cut at the picked depth into `config.output`: weights, tokenizer, card, cut.json.

    The written model computes, bit for bit, what the source computes at that depth.

    Raises:
        EvalError: a wrong value, an output that exists, a source that is not a complete fine-tuned folder or is at
            chance, a limit that no depth keeps, or a written model that does not score what the sweep said.
        DataError: OUTPUT is being written by another job, or cannot be written.
    """
    if problems := config.problems():
        raise EvalError(*problems)
    with OutputLock(Path(config.output), beside=True):
        return _compress(config)


def _compress(config: CompressConfig) -> CutSummary:
    config = replace(config, model=pin_model(config.model))
    results, model, tokenizer = _load(config)
    precision = own_precision(config.precision, results.precision)
    say_precision(config.precision, precision)
    if config.check and results.precision != precision:
        print(f"the written model is scored in {results.precision}, as its source was")
    model.to(best_device())
    depth, rule = _pick_depth(config, results, model, precision)
    cut = _cut_results(config, results, depth, rule)
    needed = config.check or config.onnx or config.int8
    scoring = rescorer(config, results, model.config, tokenizer) if needed else None
    speed = measure_speed(model, sorted({depth, cut.layers}), _seq_length(results, model), precision)
    cut = replace(cut, speed=speed)
    with new_folder(Path(config.output)) as aside:
        model.truncate(depth)
        cut = _write(aside, config, cut, model, tokenizer, scoring)
    return CutSummary(**vars(cut), output=config.output)
