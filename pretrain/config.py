"""The configuration of a pretraining run, and what can be known to be wrong with it without torch."""

import glob
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from data_pipeline import LOCK_FILE, Problem, folder_problem, is_url, number_problems
from data_pipeline.stream import MaskingConfig, StreamConfig
from modeling import DepthSupervision

from .budget import BatchWarmupConfig, Branch, Budget, Plan
from .checkpoints import CheckpointConfig
from .deepspeed_options import OffloadConfig, override_problems
from .distil import AnnealConfig, TeacherConfig
from .health import HealthConfig
from .observe import ProbesConfig, ProfileConfig
from .optim import EmaConfig, OptimConfig, ScheduleConfig

if TYPE_CHECKING:
    from data_pipeline import Manifest

_COMMON_ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu", "swish", "tanh")


@dataclass
class ModelConfig:
    """The architecture; vocabulary and special tokens come from the prepared corpus."""

    connectivity: Literal["acn", "residual", "feedforward", "hybrid", "reversible"] = "acn"
    """acn; residual for the twin with BERT's short residuals; feedforward for neither residuals nor sum; hybrid for acn
    with short residuals that each layer scales by a learned scalar; reversible for two streams, whose activations are
    computed again in the backward pass: memory does not grow with the layers, a step takes about a third longer."""
    hybrid_init: float = 0.0
    """Initial value of hybrid's scalars: 0 starts as acn, 1 with the residual layers."""
    hidden_size: int = 768
    """Width of the token states."""
    num_hidden_layers: int = 12
    """Number of layers L; the model can later be cut at any depth 0..L."""
    num_attention_heads: int = 12
    """Attention heads; must divide hidden_size."""
    intermediate_size: int = 3072
    """Width of the feed-forward sub-layer."""
    hidden_act: str = "gelu"
    """Activation of the feed-forward sub-layer and of the masked-language-model head (transformers' names)."""
    gated_mlp: bool = False
    """Gated feed-forward: GeGLU with hidden_act gelu, SwiGLU with silu; two thirds of the intermediate_size keep the
    parameter count."""
    hidden_dropout_prob: float = 0.0
    """Dropout after the embeddings and each sub-layer."""
    attention_probs_dropout_prob: float = 0.0
    """Dropout on the attention weights."""
    position_embedding_type: Literal["absolute", "rope"] = "absolute"
    """absolute: learned position embeddings (the paper); rope: queries and keys are rotated by their positions."""
    rope_theta: float = 10000.0
    """Base of rope's wavelengths."""
    max_position_embeddings: int = 512
    """Longest sequence a model with absolute positions can ever take."""
    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""
    identity_attention_init: bool = False
    """Add the identity to the initial query, key, value and output projections: every token then attends to itself
    first, so that a stack without short residuals passes tokens on instead of averaging them."""

    def problems(self) -> list[Problem]:
        """Names that do not exist, and numbers out of range; `AcnConfig` adds what does not fit together."""
        least = dict.fromkeys(("hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings"), 1)
        found = [
            Problem(f"model.{name}", getattr(self, name), f"must be at least {minimum}")
            for name, minimum in {**least, "num_hidden_layers": 0}.items()
            if getattr(self, name) < minimum
        ]
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                found.append(Problem(f"model.{name}", getattr(self, name), "must be in [0, 1)"))
        for name in ("initializer_range", "rope_theta"):
            if not getattr(self, name) > 0:
                found.append(Problem(f"model.{name}", getattr(self, name), "must be above 0"))
        return found + self._name_problems() + ([] if found else self._width_problems())

    def _width_problems(self) -> list[Problem]:
        heads = f"num_attention_heads={self.num_attention_heads}"
        if self.hidden_size % self.num_attention_heads:
            return [
                Problem("model.hidden_size", self.hidden_size, f"is not a multiple of {heads}", "change one of them")
            ]
        if self.position_embedding_type == "rope" and self.hidden_size // self.num_attention_heads % 2:
            wrong = f"over {heads} gives an odd head width, of which rope rotates pairs"
            return [Problem("model.hidden_size", self.hidden_size, wrong, "change one of them")]
        return []

    def _name_problems(self) -> list[Problem]:
        choices = {name: get_args(get_type_hints(ModelConfig)[name])
                   for name in ("connectivity", "position_embedding_type")}  # fmt: skip
        if self.hidden_act not in _COMMON_ACTIVATIONS:
            from transformers.activations import ACT2FN  # seconds, for a rare or a wrong name only

            choices["hidden_act"] = tuple(sorted(ACT2FN))
        return [
            Problem(f"model.{name}", repr(getattr(self, name)), "is unknown", f"use one of {', '.join(known)}")
            for name, known in choices.items()
            if getattr(self, name) not in known
        ]

    def acn_fields(self, manifest: "Manifest") -> dict[str, Any]:
        """The fields of the `AcnConfig` for the corpus of `manifest`."""
        tokenizer = manifest.tokenizer
        return {**asdict(self), "vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_token_id}


@dataclass
class ValidationConfig:
    """Masked accuracy and loss on held-out blocks."""

    every: int = 500
    """Steps between two validations; the end of training always has one. 0: only there."""
    blocks: int = 2048
    """Blocks of the validation split to use (all, if it has fewer)."""

    def problems(self) -> list[Problem]:
        found = []
        if self.every < 0:
            found.append(Problem("validation.every", self.every, "must not be negative"))
        if self.blocks < 1:
            found.append(Problem("validation.blocks", self.blocks, "must be at least 1"))
        return found


@dataclass
class PretrainConfig:
    """Pretrain an encoder on a prepared corpus with DeepSpeed. The defaults are the ACN paper's recipe."""

    data: str
    """Folder written by `acn prepare`, or its URL (s3://, gs://, https://, hf://)."""
    output: str
    """Folder of the run. An interrupted run found there is continued; anything else there is an error."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Architecture."""
    steps: int | None = 100_000
    """Optimizer steps in all. A run has one budget: for another one set this to null."""
    tokens: float | None = None
    """Budget in tokens instead of steps: as many whole global batches as they are enough for."""
    epochs: float | None = None
    """Budget in passes over the corpus instead of steps."""
    hours: float | None = None
    """Budget in hours of training instead of steps, over all restarts; the schedule follows the clock then, and the
    run cannot be repeated exactly."""
    branch_from: str | None = None
    """Begin as a branch of another run, given by its folder or one of its checkpoints: with its weights, optimizer
    states, step and place in the corpus. With schedule.name decay, a finished model from a run that goes on."""
    init_from: str | None = None
    """Begin with the weights of another run (its folder or one of its checkpoints) and nothing else of it: another
    corpus of the same tokenizer, the second phase of BERT's two sequence lengths for instance. Or with those of a
    model, a folder or NAME[@REVISION] of the Hub, of this family or of the BERT line (bert, roberta, xlm-roberta,
    camembert, distilbert, electra): its sizes come along, whatever `model.connectivity` it goes on with."""
    carry_shortcuts: bool = False
    """With init_from a residual model or a BERT: the acn's layers hand on their input by weights of their own, to which
    half of the heads and of the MLP's units are given before the first step. Nothing has to be annealed then."""
    trust_checkpoint: bool = False
    """Load a checkpoint that holds more than data, which can run any code: only if you trust where it comes from. Given
    on the command line alone, never in a file."""
    global_batch_size: int = 2048
    """Blocks per optimizer step over all ranks."""
    batch_warmup: BatchWarmupConfig = field(default_factory=BatchWarmupConfig)
    """Smaller global batches at first."""
    micro_batch_size: int = 32
    """Blocks per forward pass of one rank, at most its whole share of the global batch; the rest of the share is
    accumulated."""
    activation_checkpointing: bool = False
    """Keep only the input of each layer for the backward pass and compute the layer again there: less memory for one
    more forward pass."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the forward and backward passes; the optimizer always keeps fp32 weights. auto: bf16 on GPUs that
    have it and on CPUs with instructions for it, fp32 elsewhere. fp16 scales the loss dynamically."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2", "flex_attention"] = "auto"
    """Implementation of the attention, by transformers' names. auto: sdpa, torch's own choice among its kernels, flash
    attention on GPUs included; eager for bf16 on CPUs, where that is several times faster. flash_attention_2 needs the
    package flash-attn. The model is the same with any of them, and a run may change it when it is resumed."""
    compile: bool | Literal["auto", "graphs"] = "auto"
    """Compile each layer with torch.compile: fewer kernels and less memory traffic, mostly on GPUs, for a wait at the
    first step. Needs a C++ compiler on CPU, Triton on GPUs. With dropout it drops other elements than without. auto:
    on GPUs, with zero_stage below 3. graphs: each layer is one CUDA graph as well, which saves launches where
    micro-batches are small."""
    run_ahead: bool | Literal["auto"] = "auto"
    """The host does not wait for the device between two logging steps: whether a step was finite and whether a rank
    wants to stop is read one step later, and micro-batches are copied from pinned memory. auto: on GPUs, with what
    allows it (fused AdamW, fp32 or bf16, zero_stage below 3, no offload, no health.spike)."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """What DeepSpeed ZeRO shards over the ranks: 0 nothing, 1 optimizer states, 2 gradients too, 3 weights too. A run
    may change it, and its number of ranks, whenever it is resumed."""
    offload: OffloadConfig = field(default_factory=OffloadConfig)
    """Keep optimizer states, or weights, in host memory or on NVMe."""
    deepspeed: dict[str, Any] = field(default_factory=dict)
    """DeepSpeed settings that win over the generated ones, key by key:
    --deepspeed.zero_optimization.reduce_bucket_size 1e7. What results is in RUN/deepspeed.json."""
    seed: int = 0
    """Initial weights and dropout. The order of the data has its own (stream.seed)."""
    log_every: int = 10
    """Steps between two lines of metrics."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Learning rate over the steps."""
    stream: StreamConfig = field(default_factory=StreamConfig)
    """Order of the training blocks."""
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    """Masked-language-model targets."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """Held-out evaluation."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """Saving."""
    anneal: AnnealConfig = field(default_factory=AnnealConfig)
    """Short residuals that an ACN loses while it trains."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """A frozen model whose last hidden states are matched."""
    supervision: DepthSupervision = field(default_factory=DepthSupervision)
    """Depths that are trained beside the whole model, and layers that are left out at random."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """A running average of the weights, validated as validation_ema/ and left in RUN/model-ema."""
    health: HealthConfig = field(default_factory=HealthConfig)
    """What to do about steps that are not finite."""
    probes: ProbesConfig = field(default_factory=ProbesConfig)
    """Gradients inside the network."""
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    """Traces of single steps, in RUN/profile."""
    stop_after_hours: float | None = None
    """Stop after this many hours of this process, as on a signal: a checkpoint and exit code 75. Leave time for writing
    the checkpoint below the limit of your scheduler."""
    timeout_seconds: float = 600.0
    """How long a rank waits for the others in one collective; then it ends with an error."""
    hang_seconds: float = 120.0
    """A rank that waits this long for data, or for other ranks, says so on stderr."""
    sample_log: bool = False
    """Write the ids of the samples of every step to RUN/samples/, to audit the order of the data."""

    def problems(self) -> list[Problem]:
        """Every bad value of the fields themselves; `check_run` adds what depends on the data and the ranks."""
        found = number_problems(self) + self.model.problems()
        positive = ("global_batch_size", "micro_batch_size", "log_every")
        found += [
            Problem(name, getattr(self, name), "must be at least 1") for name in positive if getattr(self, name) < 1
        ]
        if not 0 <= self.seed < 2**32:
            found.append(Problem("seed", self.seed, "must be from 0 to 2^32 - 1"))
        for name in ("stop_after_hours", "timeout_seconds", "hang_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                found.append(Problem(name, value, "must be above 0"))
        parts = (self.optim, self.schedule, self.stream, self.masking, self.validation, self.checkpoint, self.health)
        found += [problem for part in (*parts, self.probes, self.profile) for problem in part.problems()]
        found += self.budget.problems() + self.ema.problems() + self._course_problems()
        found += self.anneal.problems(self.model.connectivity) + self.teacher.problems(self.init_from)
        found += self._supervision_problems() + self._rebuilding_problems()
        return found + self._compile_problems() + self.offload.problems(self.zero_stage)

    def _supervision_problems(self) -> list[Problem]:
        """Bad values, and what does not go with other depths than the whole model's."""
        asked, layers = self.supervision, self.model.num_hidden_layers
        found = [Problem(f"supervision.{name}", value, wrong) for name, value, wrong in asked.mistakes()]
        lacking = []
        if not asked.fits(layers):
            lacking.append((f"needs two layers at least, not {layers}", "leave it out"))
        if asked.kind != "none" and self.probes.every:
            lacking.append(("does not go with probes.every, which reads one loss of all layers", "choose one"))
        if asked.drops and self.offload.optimizer == "nvme":
            lacking.append(
                ("does not go with offload.optimizer nvme, where gradients stay of layers that are left out", "use cpu")
            )
        if asked.kind == "adaptive" and not self.teacher.masked:
            lacking.append(("learns predictions of masked tokens", "set teacher.mlm_weight above 0, or choose deep"))
        return found + [Problem("supervision.kind", asked.kind, wrong, fix) for wrong, fix in lacking]

    def _rebuilding_problems(self) -> list[Problem]:
        """What does not go with layers that compute their activations again."""
        if self.model.connectivity != "reversible":
            return []
        found, where = [], "model.connectivity=reversible"
        if self.activation_checkpointing:
            wrong = f"does not go with {where}, which keeps none of its layers' activations already"
            found.append(Problem("activation_checkpointing", "true", wrong, "leave it out"))
        if self.compile == "graphs":
            wrong = f"does not go with {where}, which computes a layer again outside of its graph"
            found.append(Problem("compile", "graphs", wrong, "use compile=true"))
        return found

    def _compile_problems(self) -> list[Problem]:
        """Why layers cannot be compiled, as far as it does not hang on the machine."""
        found, asked = [], str(self.compile).lower()
        if self.compile in (True, "graphs") and self.zero_stage == 3:
            wrong = "does not go with zero_stage=3, which gathers weights inside the layers"
            found.append(Problem("compile", asked, wrong, "use 0 to 2"))
        if self.compile == "graphs" and self.activation_checkpointing:
            wrong = "does not go with activation_checkpointing, which computes a layer again outside of its graph"
            found.append(Problem("compile", asked, wrong, "use compile=true, or leave activation_checkpointing out"))
        return found

    def _carry_problems(self) -> list[Problem]:
        """Options that do not go with shortcuts that the layers carry."""
        if not self.carry_shortcuts:
            return []
        lacking = []
        if not self.init_from:
            lacking.append(("needs a residual model to start from", "name it in init_from"))
        if self.model.connectivity != "acn":
            lacking.append((f"is for model.connectivity acn, not {self.model.connectivity}", "leave it out"))
        if self.anneal.share:
            lacking.append(("does not go with anneal.share: the shortcuts would be there twice", "choose one"))
        return [Problem("carry_shortcuts", "true", wrong, fix) for wrong, fix in lacking]

    def _course_problems(self) -> list[Problem]:
        """Bad combinations of what the run starts from, its batches and its schedule."""
        found = self.batch_warmup.problems(self.global_batch_size) + self._carry_problems()
        if self.branch_from and self.init_from:
            found.append(
                Problem("branch_from", wrong="and init_from are both given", fix="a run starts from one other at most")
            )
        if self.schedule.name == "decay" and not self.branch_from:
            found.append(
                Problem("schedule.name", "decay", "starts from a checkpoint's rate", "give branch_from, or choose wsd")
            )
        if self.schedule.name == "decay" and self.hours is not None:
            found.append(Problem("schedule.name", "decay", "needs a budget in steps, tokens or epochs, not hours"))
        return found

    def micro_batch(self, world_size: int) -> int:
        """Blocks per forward pass of one rank of `world_size`: on many ranks there may be fewer than allowed."""
        return min(self.micro_batch_size, self.global_batch_size // world_size)

    @property
    def budget(self) -> Budget:
        """How long to train."""
        return Budget(self.steps, self.tokens, self.epochs, self.hours)

    def plan(self, blocks: int, seq_length: int, branch: Branch | None) -> Plan:
        """The course of a run on a corpus of `blocks` blocks of `seq_length` tokens.

        Args:
            branch: where the run left another one, if it did; a decay starts from there.
        """
        plan = Plan(
            global_batch_size=self.global_batch_size,
            peak_rate=self.optim.lr,
            steps=self.steps,
            seconds=None if self.hours is None else self.hours * 3600,
            batch_warmup=self.batch_warmup,
            schedule=self.schedule,
            anneal=self.anneal,
            branch=branch if self.schedule.name == "decay" else None,
        )
        samples = self.budget.samples(blocks, seq_length)
        return plan if samples is None else replace(plan, steps=plan.steps_within(samples))


def plain_problems(config: PretrainConfig) -> list[Problem]:
    """Every problem that shows without torch, each naming the field and the fix; `check_run` finds the others."""
    found = config.problems() + override_problems(config.deepspeed)
    return found + _output_problems(Path(config.output)) + data_problems(config.data)


def data_problems(data: str) -> list[Problem]:
    """Why a local folder is no prepared corpus; nothing is asked of the network."""
    problem = None if is_url(data) else folder_problem(data)
    return [] if problem is None else [problem]


def _output_problems(output: Path) -> list[Problem]:
    if glob.has_magic(str(output)):  # DeepSpeed would not find its own checkpoints there, when the run ends or goes on
        return [Problem("output", output, "has a sign of file name patterns in it", "choose a path without * ? [")]
    if not output.exists() or (output / "config.yaml").exists() or not _has_files(output):
        return []
    return [
        Problem("output", output, "exists and is not a run of `acn pretrain`", "choose another folder or remove it")
    ]


def _has_files(folder: Path) -> bool:
    """Whether a folder (or a file in its place) holds anything but our lock."""
    return not folder.is_dir() or any(path.name != LOCK_FILE for path in folder.iterdir())
