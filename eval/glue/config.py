"""The options of a suite of fine-tunings."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from data_pipeline import Problem, name_problem, number_problems
from modeling import DepthSupervision

from ..precision import Precision
from ..tasks import FIELDS, DatasetConfig, GridConfig, read_table, value_problems


@dataclass
class FinetuneConfig:
    """Fine-tuning on GLUE tasks, or on any other classification data. AdamW, linear warm-up and decay.

    Hyperparameters that are left out come from a table by task (eval/tasks/hyperparameters.yaml: the paper's).
    """

    model: str
    """The pretrained model: a folder (RUN/model: weights, configuration and tokenizer), or NAME[@REVISION] of the Hub.
    Of this family, or of the BERT line (bert, roberta, xlm-roberta, camembert, distilbert, electra)."""
    tasks: str | list[str]
    """Tasks, with commas between: cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli, or folders of glue_dir."""
    output: str
    """Folder to write OUTPUT/TASK into. The finished seeds of an interrupted suite are kept, the others start over."""
    glue_dir: str | None = None
    """Local folder with TASK/SPLIT.parquet (or .tsv, .csv, .json, .jsonl), columns as in nyu-mll/glue; left out: the
    Hub."""
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """Any other data set, a folder, files or on the Hub, as the only task."""
    seed: int = 42
    """Seed of the new classifier, the order of examples and dropout."""
    seeds: str | list[int] | None = None
    """Several seeds, with commas between: 1,2,3; left out, the one of `seed`."""
    epochs: float | None = None
    """Passes over the training split; left out, the table's (paper: up to 6)."""
    learning_rate: float | None = None
    """Peak learning rate; left out, the table's, scaled to the model's width: 2e-5 * 768 / hidden_size."""
    batch_size: int | None = None
    """Examples per optimizer step, over all ranks; left out, the table's."""
    weight_decay: float | None = None
    """AdamW's weight decay, on matrices only; left out, the table's."""
    warmup_fraction: float | None = None
    """Share of the steps over which the learning rate rises from 0; left out, the table's."""
    max_length: int | None = None
    """Tokens per example at most, longer ones are cut; also the length that FLOPs are stated for; left out: table's."""
    precision: Precision = "auto"
    """Of matrix products in training, scoring and speed, over float32 weights; auto: bf16 where the device multiplies
    it, else fp32. fp16 needs a GPU."""
    compile: bool = False
    """Train with layers compiled by torch.compile, once for batches of any length: for long trainings, mostly on GPUs.
    Needs a C++ compiler on CPUs, Triton on GPUs. With dropout it drops other elements than without."""
    padding_free: bool | Literal["auto"] = "auto"
    """Train on the texts of a batch one after the other, without padding, which flash attention can; auto: on GPUs
    where flash-attn is installed, in half precision. Elsewhere it gives the same scores, more slowly."""
    supervision: DepthSupervision = field(default_factory=DepthSupervision)
    """Train other depths beside the whole model."""
    hyperparameters: str | None = None
    """YAML file over the table: defaults: {epochs: 5}, tasks: {rte: {epochs: 10}}."""
    grid: GridConfig = field(default_factory=GridConfig)
    """Hyperparameters to choose from."""
    best_epoch: bool = False
    """Keep the epoch with the best validation score instead of the last. Its score is then a maximum over epochs, which
    results.json declares."""
    max_train_samples: int | None = None
    """Use only this many training examples, drawn at random with the seed; left out, all."""
    max_eval_samples: int | None = None
    """Use only this many examples of each validation split, the same for every seed; left out, all."""
    keep_models: bool = False
    """Keep every seed's weights, in OUTPUT/TASK/seed-N, not those of the best seed only (in OUTPUT/TASK)."""
    cut_then_finetune: float | None = None
    """Also cut the fine-tuned model at a quarter and at half of its layers and train each on for this many epochs."""
    probes: bool = False
    """Also score a linear probe (logistic or ridge regression on frozen features) of every depth, before and after."""
    speed: bool = True
    """Measure latency and throughput of the model in OUTPUT/TASK, whole and cut."""
    predict_test: bool = True
    """Write predictions for the test splits that there are into OUTPUT/submission, in GLUE's format."""
    tolerance: float = 0.005
    """Score that the cut model may lose: the cut depth is the smallest with score >= full score - tolerance."""

    @property
    def task_names(self) -> list[str]:
        """`tasks` as a list."""
        names = self.tasks.split(",") if isinstance(self.tasks, str) else self.tasks
        return [name.strip() for name in names if name.strip()]

    @property
    def seed_list(self) -> list[int]:
        """`seeds` as numbers, or the one `seed`."""
        if self.seeds is None:
            return [self.seed]
        parts = self.seeds.split(",") if isinstance(self.seeds, str) else self.seeds
        return [int(part) for part in parts]

    @property
    def own_data(self) -> DatasetConfig | None:
        """The data set of one's own, if it is one: `dataset`, or the folder of `glue_dir` whose columns it names."""
        if self.dataset.is_given or not self.dataset.names_columns or self.glue_dir is None:
            return self.dataset if self.dataset.is_given else None
        return replace(self.dataset, path=str(Path(self.glue_dir) / self.task_names[0]))

    def given(self) -> dict[str, Any]:
        """The hyperparameters that were given as options, None for the others."""
        return {name: getattr(self, name) for name in FIELDS}

    def problems(self) -> list[Problem]:
        problems = number_problems(self)
        names = self.task_names
        if not names:
            problems.append(Problem("tasks", wrong="is empty", fix="name at least one, for example sst2"))
        if len(set(names)) < len(names):
            problems.append(Problem("tasks", ",".join(names), "names a task twice", "name each once"))
        problems += [
            Problem("tasks", repr(name), wrong, "give the task a plain name: its folder is called after it")
            for name in names
            if (wrong := name_problem(name, plain=True)) is not None
        ]
        problems += value_problems(self.given())
        for name in ("max_train_samples", "max_eval_samples", "cut_then_finetune"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                unit = "more than 0" if name == "cut_then_finetune" else "1 or more"
                problems.append(Problem(name, value, fix=f"give {unit}, or leave it out"))
        if not 0 <= self.tolerance < math.inf:
            problems.append(Problem("tolerance", self.tolerance, fix="give 0 or more"))
        problems += [Problem(f"supervision.{name}", value, wrong) for name, value, wrong in self.supervision.mistakes()]
        problems += self._seed_problems() + self.grid.problems() + self.dataset.problems(names, self.glue_dir)
        if self.hyperparameters is not None:
            read_table(Path(self.hyperparameters))
        return problems

    def _seed_problems(self) -> list[Problem]:
        name = "seed" if self.seeds is None else "seeds"
        try:
            seeds = self.seed_list
        except ValueError:
            return [Problem("seeds", self.seeds, fix="give whole numbers with commas between, for example 1,2,3")]
        problems = [Problem(name, seed, fix="give 0 to 2**32 - 1") for seed in seeds if not 0 <= seed < 2**32]
        if not seeds:
            problems.append(Problem("seeds", wrong="is empty", fix="name at least one, or leave it out"))
        if len(set(seeds)) < len(seeds):
            problems.append(Problem("seeds", self.seeds, "names a seed twice", "name each once"))
        return problems
