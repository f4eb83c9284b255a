"""A recipe and the cluster it is planned for."""

from dataclasses import dataclass, field
from typing import Literal

from data_pipeline import Problem, number_problems
from pretrain import PretrainConfig

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass
class ClusterConfig:
    """A cluster, and the size of the tokens where there is no corpus yet that says it."""

    vocab_size: int = 32768
    """Tokens of the vocabulary, where `data` does not say."""
    seq_length: int = 128
    """Tokens of a block, where `data` does not say."""
    nodes: int = 1
    """Machines."""
    gpus: int = 8
    """GPUs of each machine."""
    gpu: str = "H100"
    """Kind of GPU; for one that is not in the table give gpu_memory, gpu_tflops, node_bandwidth and network_bandwidth
    too."""
    gpu_memory: float | None = None
    """Memory of one GPU in GB (1e9 bytes), instead of the table's."""
    gpu_tflops: float | None = None
    """Dense TFLOP/s of one GPU in the run's precision, instead of the table's."""
    node_bandwidth: float | None = None
    """GB/s (1e9 bytes) that one GPU sends to the others of its machine while it receives as many: the bus bandwidth of
    an all-reduce there, as `acn preflight` and nccl-tests measure it. Default: 0.8 of the table's links."""
    network_bandwidth: float | None = None
    """The same between machines, for each GPU while all GPUs of the machine do so: network cards of 400 Gbit/s per GPU
    are 50. Default: 0.8 of the table's."""
    mfu: float = 0.4
    """Assumed model FLOPs utilization of one GPU by itself: the share of its peak that the training makes use of while
    it computes. Communication that does not hide behind the computation comes on top."""
    price_per_gpu_hour: float | None = None
    """What one GPU costs per hour, in any currency."""

    @property
    def ranks(self) -> int:
        """GPUs in all."""
        return self.nodes * self.gpus

    def problems(self) -> list[Problem]:
        found = number_problems({name: getattr(self, name) for name in ClusterConfig.__dataclass_fields__})
        for name in ("nodes", "gpus", "vocab_size", "seq_length"):
            if getattr(self, name) < 1:
                found.append(Problem(name, getattr(self, name), "must be at least 1"))
        for name in ("gpu_memory", "gpu_tflops", "node_bandwidth", "network_bandwidth", "price_per_gpu_hour"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                found.append(Problem(name, value, "must be above 0"))
        if not 0 < self.mfu <= 1:
            found.append(Problem("mfu", self.mfu, "must be in (0, 1]"))
        return found


@dataclass
class PlanConfig(ClusterConfig):
    """A cluster, and what is to be trained on it."""

    recipe: PretrainConfig = field(default_factory=lambda: PretrainConfig(data="", output=""))
    """As `acn pretrain` takes it; its `data` may be empty, and nothing is written to its `output`."""

    @property
    def arithmetic(self) -> Precision:
        """The precision planned for: GPUs that matter here have bf16, which `auto` takes."""
        return "bf16" if self.recipe.precision == "auto" else self.recipe.precision

    def problems(self) -> list[Problem]:
        found = self.recipe.problems() + super().problems()
        batch = self.recipe.global_batch_size
        if min(self.nodes, self.gpus, batch) > 0 and batch % self.ranks:
            found.append(Problem("global_batch_size", batch, f"is not a multiple of the {self.ranks} GPUs"))
        return found
