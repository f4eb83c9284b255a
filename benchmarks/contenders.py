"""The two sides of a comparison of pretraining: `acn pretrain`'s own loop, and what a user would pick instead.

The other one is transformers' `BertForMaskedLM` under the Hugging Face `Trainer` with
`DataCollatorForLanguageModeling`, as transformers' example run_mlm.py does it, on the same blocks of tokens. Both can
be stopped after a number of steps and go on later, so that they take turns in the same processes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from data_pipeline import Manifest
from launch.tracking import TrackingConfig, open_tracker
from modeling import AcnConfig, AcnForMaskedLM
from pretrain import ModelConfig, PretrainConfig, StopRequest, Training, ValidationConfig
from pretrain.checkpoints import CheckpointConfig
from pretrain.observe import LineConsole
from pretrain.optim import ScheduleConfig

NEVER = 10**6
"""Steps of a run that is stopped by its benchmark."""
CONSTANT = ScheduleConfig(name="wsd", warmup_fraction=0.0, decay_fraction=0.0)


@dataclass(frozen=True)
class Shape:
    """A model, and how much of it a benchmark runs."""

    name: str
    hidden: int
    layers: int
    vocab: int
    micro_batch: int
    turn: int
    """Steps of a turn."""


@dataclass(frozen=True)
class Setting:
    """What both sides have in common."""

    data: str
    """Prepared corpus."""
    hidden: int
    layers: int
    precision: str
    micro_batch: int
    """Blocks per forward pass of one rank."""
    global_batch: int
    """Blocks per optimizer step of all ranks."""
    log_every: int
    """Steps between two logs."""

    @property
    def heads(self) -> int:
        """Of width 64, where that divides the hidden size."""
        return max(1, self.hidden // 64)

    def config(self, output: str, connectivity: str = "acn", **fields: Any) -> PretrainConfig:
        """`acn pretrain`'s configuration: the paper's optimizer at a constant rate, no dropout, nothing saved."""
        model = ModelConfig(
            connectivity=connectivity,  # type: ignore[arg-type]
            hidden_size=self.hidden, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, intermediate_size=4 * self.hidden,
        )  # fmt: skip
        config = PretrainConfig(
            data=self.data, output=output, model=model, steps=NEVER, precision=self.precision,  # type: ignore[arg-type]
            micro_batch_size=self.micro_batch, global_batch_size=self.global_batch, log_every=self.log_every,
            schedule=CONSTANT, validation=ValidationConfig(every=0), checkpoint=CheckpointConfig(every=0),
        )  # fmt: skip
        return replace(config, **fields)


class Quiet(LineConsole):
    """Makes the lines that a user would see, and drops them."""

    def say(self, line: str) -> None:
        """Say nothing."""


@contextmanager
def our_loop(config: PretrainConfig, device: torch.device) -> Iterator[tuple[Training, Callable[[int], None]]]:
    """The training loop of `acn pretrain`, recording to metrics.jsonl, and a function that makes a number of steps."""
    folder = Path(config.output)
    tracker = None

    def start() -> Any:
        nonlocal tracker
        folder.mkdir(parents=True, exist_ok=True)  # the run has locked it
        tracker = open_tracker(TrackingConfig(mlflow=None), folder, folder.name, {}, {})
        return tracker

    training = Training(config, device, start, Quiet())
    with StopRequest(folder, None) as request, training.watchdog:

        def advance(steps: int) -> None:
            for _ in range(steps):
                training.advance(request)

        yield training, advance
    training.micro_batches.close()
    training.observer.close()
    if tracker is not None:
        tracker.close()


def initial_weights(training: Training) -> AcnForMaskedLM:
    """The model that `training` started with, in fp32."""
    set_seed(training.config.seed)
    return AcnForMaskedLM(AcnConfig(**training.progress.model))


def blocks_dataset(data: str) -> datasets.Dataset:
    """The blocks of a prepared corpus as run_mlm.py has its grouped texts, with the columns of a BERT tokenizer."""
    manifest = Manifest.load(data)
    shards = [pq.read_table(Path(data) / shard.file)["tokens"] for shard in manifest.split("train").shards]
    tokens = np.concatenate([np.stack(column.to_numpy()) for column in shards]).astype(np.int64)
    special = ~manifest.tokenizer.is_ordinary[tokens]
    columns = {
        "input_ids": tokens,
        "token_type_ids": np.zeros_like(tokens),
        "attention_mask": np.ones_like(tokens),
        "special_tokens_mask": special.astype(np.int64),
    }
    return datasets.Dataset.from_dict(columns)


def bert(setting: Setting) -> BertForMaskedLM:
    """BERT of the same shape."""
    set_seed(0)
    config = BertConfig(
        vocab_size=Manifest.load(setting.data).tokenizer.vocab_size, hidden_size=setting.hidden,
        num_hidden_layers=setting.layers, num_attention_heads=setting.heads, intermediate_size=4 * setting.hidden,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertForMaskedLM(config)


class AfterSteps(TrainerCallback):
    """Calls `act` after every `steps` optimizer steps; training ends when it answers True."""

    def __init__(self, steps: int, act: Callable[[], bool]) -> None:
        self._steps, self._act = steps, act

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Part of Trainer's interface."""
        if state.global_step % self._steps == 0 and self._act():
            control.should_training_stop = True


def trainer(
    setting: Setting,
    model: BertForMaskedLM,
    dataset: Any,
    callback: TrainerCallback,
    output: str,
    ranks: int,
    **arguments: Any,
) -> Trainer:
    """A Trainer with its own defaults, but for what `Setting.config` also sets.

    Args:
        dataset: rows as of `blocks_dataset`.
        output: a folder of its own.
        arguments: fields of TrainingArguments that win; `data_collator` instead of run_mlm.py's.
    """
    tokenizer = AutoTokenizer.from_pretrained(Path(setting.data) / "tokenizer")
    collator = arguments.pop("data_collator", None) or DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    optim = setting.config("unused").optim
    settings: dict[str, Any] = {
        "output_dir": output,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": setting.precision == "bf16",
        "per_device_train_batch_size": setting.micro_batch,
        "gradient_accumulation_steps": setting.global_batch // ranks // setting.micro_batch,
        "max_steps": NEVER,
        "learning_rate": optim.lr,
        "adam_beta1": optim.betas[0],
        "adam_beta2": optim.betas[1],
        "adam_epsilon": optim.eps,
        "weight_decay": optim.weight_decay,
        "max_grad_norm": optim.grad_clip,
        "lr_scheduler_type": "constant",
        "logging_steps": setting.log_every,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    if ranks > 1:
        settings["ddp_backend"] = "nccl" if torch.cuda.is_available() else "gloo"
        settings["ddp_find_unused_parameters"] = False  # faster, and what DDP's warning advises
    found = Trainer(
        model, TrainingArguments(**(settings | arguments)), data_collator=collator, train_dataset=dataset,
        processing_class=tokenizer, callbacks=[callback],
    )  # fmt: skip
    found.remove_callback(PrinterCallback)
    return found
