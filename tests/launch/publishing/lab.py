"""A folder as pretraining, fine-tuning and cutting leave it, with made-up numbers that are easy to find again."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

from data_pipeline import Manifest, file_sha256, write_json
from eval import CompressConfig, TaskResults, TrialResults, compress_model, flops_by_depth
from eval.glue.aggregate import aggregate_seeds
from launch.config_file import write_config
from launch.tracking.tracker import TrackingConfig, open_tracker
from launch.verbs.pretrain import Args as PretrainArgs
from modeling import AcnConfig, AcnForMaskedLM, AcnForSequenceClassification, parameters_by_depth
from pretrain import ModelConfig
from pretrain.checkpoints.folder import MARKER, Progress
from pretrain.config import CheckpointConfig

LAYERS, HIDDEN, POSITIONS = 3, 32, 16
SECRET = "mysecretpassword"
SECONDS, TOKENS = 7265.0, 491_520.0
ACCURACY_BY_DEPTH = [0.0625, 0.1125, 0.2125, 0.3125]
SEEDS = {11: [0.5, 0.71, 0.8, 0.81], 12: [0.5, 0.73, 0.79, 0.83]}
TASK, CUT_DEPTH = "sst2", 2


def make_lab(folder: Path, corpus: Path) -> Path:
    """`runs/tokens`, `runs/acn` (a run with a model of step 40 and one at its end), `runs/glue/sst2`, `runs/small`."""
    runs = folder / "runs"
    shutil.copytree(corpus, runs / "tokens")
    _write_run(runs)
    _write_suite(runs)
    # the task's data is made up as well: there is nothing to score the cut model on again
    compress_model(CompressConfig(str(runs / "glue" / TASK), str(runs / "small"), tolerance=0.04, check=False))
    return folder


def _config(corpus: Path) -> AcnConfig:
    tokenizer = Manifest.load(corpus).tokenizer
    return AcnConfig(
        vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_token_id, hidden_size=HIDDEN,
        num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=48, max_position_embeddings=POSITIONS,
        initializer_range=0.2,
    )  # fmt: skip


def _save(model: Any, corpus: Path, folder: Path) -> None:
    model.save_pretrained(folder)
    shutil.copytree(corpus / "tokenizer", folder, dirs_exist_ok=True)


def _picture(path: Path) -> None:
    figure = plt.figure(figsize=(1, 1))
    figure.text(0, 0, path.stem)
    figure.savefig(path)
    plt.close(figure)


def _write_run(runs: Path) -> None:
    run, corpus = runs / "acn", runs / "tokens"
    args = PretrainArgs(
        data="runs/tokens", output="runs/acn", steps=120, global_batch_size=256, seed=7,
        model=ModelConfig(hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=48,
                          max_position_embeddings=POSITIONS),
        checkpoint=CheckpointConfig(every=40, export_every=40),
        tracking=TrackingConfig(mlflow=f"postgresql://me:{SECRET}@db/acn"),
    )  # fmt: skip
    tracking = TrackingConfig(mlflow=None, system_seconds=0)
    tags = {"verb": "pretrain", "hosts": "n1, n2", "world_size": "8", "device": "NVIDIA H100 80GB HBM3"}
    with open_tracker(tracking, run, "acn", asdict(args), tags) as tracker:
        write_config(args, run / "config.yaml")
        for step, first, second in ((60, 300.0, 310.0), (120, 500.0, 490.0)):
            power = {"system/gpu_0_power_usage_watts": first, "system/gpu_1_power_usage_watts": second}
            tracker.log_metrics({"train/tokens": step * TOKENS / 120, "train/epoch": step / 100, **power}, step)
        depths = {f"validation/accuracy_depth_{k:02d}": score for k, score in enumerate(ACCURACY_BY_DEPTH)}
        tracker.log_metrics({"validation/loss": 2.7182, "validation/accuracy": ACCURACY_BY_DEPTH[-1], **depths}, 120)
    progress = Progress(120, 30_720, 8, 1, "bf16", model={}, order={}, seconds=SECONDS)
    checkpoint = run / "checkpoints" / "step-0000120"
    checkpoint.mkdir(parents=True)
    (checkpoint / MARKER).write_text(json.dumps({"progress": asdict(progress), "files": {}}))
    for seed, place in ((1, "models/step-0000040"), (2, "model")):
        torch.manual_seed(seed)
        _save(AcnForMaskedLM(_config(corpus)), corpus, run / place)
    _picture(run / "pretraining.png")


def _write_suite(runs: Path) -> None:
    folder, corpus = runs / "glue" / TASK, runs / "tokens"
    torch.manual_seed(3)
    model = AcnForSequenceClassification(_config(corpus)).eval()
    _save(model, corpus, folder)
    trials = [_trial(runs, model, seed) for seed in SEEDS]
    results = TaskResults(
        **vars(trials[1]),
        seeds=list(SEEDS),
        selection="seed 12, the best of 2 by validation score; the last epoch",
        aggregate=aggregate_seeds(trials, 0.005),
    )
    write_json(folder / "results.json", results.to_json())
    _picture(folder / "depth.png")


def _trial(runs: Path, model: Any, seed: int) -> TrialResults:
    """The results of one seed, with an absolute path in it as a user may have typed it."""
    scores = SEEDS[seed]
    digest = file_sha256(runs / "acn" / "model" / "model.safetensors")
    settings = {"model": str(runs / "acn" / "model"), "glue_dir": None, "max_train_samples": 640,
                "max_eval_samples": None, "weights": [digest], "dataset": None}  # fmt: skip
    train = {"samples": 640, "epochs": 3.0, "learning_rate": 0.00048, "batch_size": 32, "seconds": 12.5}
    return TrialResults(
        task=TASK, metric="accuracy", seed=seed, model=str(runs / "acn" / "model"), connectivity="acn",
        full_score=scores[-1], depth_scores=scores, cut_depth=CUT_DEPTH, tolerance=0.03,
        params_by_depth=parameters_by_depth(model.config, model.config.num_labels),
        flops_by_depth=flops_by_depth(model, POSITIONS),
        seq_length=POSITIONS, majority_score=0.5125, standard_error=0.02, train=train,
        metrics={"validation": {"accuracy": scores}},
        settings=settings,
    )  # fmt: skip
