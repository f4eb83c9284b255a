"""What the model of a run is given of a batch, with a teacher and without."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from data_pipeline.stream import IGNORED_LABEL, MaskedBatch, PackedBatch, TokenStream, validation_batches
from modeling import (
    AcnConfig,
    AcnForMaskedLM,
    DepthWeights,
    choose_attention,
    choose_compile,
    compile_layers,
    resolve_precision,
)

from ..config import PretrainConfig
from ..step import model_inputs, targets_per_micro_batch, tokens_per_micro_batch
from .config import TeacherConfig
from .depths import SupervisedForMaskedLM
from .student import Student
from .teacher import Teacher, find_teacher

MEASURED_BLOCKS = 64
"""Held-out blocks that the variance of a teacher's states is measured on."""


@dataclass(frozen=True)
class Lesson:
    """A micro-batch on the device: what an encoder reads, and what there is to learn from it."""

    inputs: dict[str, torch.Tensor]
    """`input_ids` (B, T), and of packed rows `seq_idx` and `position_ids`."""
    masked_positions: torch.Tensor | None = None
    """(B, M); None where masked tokens are not predicted."""
    labels: torch.Tensor | None = None
    """(B, M), with them."""
    states: torch.Tensor | None = None
    """(B, T, H) what the teacher makes of the same inputs; None without a teacher."""
    real: torch.Tensor | None = None
    """(B, T) tokens that are no padding; None: all are."""

    def sizes(self) -> torch.Tensor:
        """(2,) how many targets there are, and how many tokens that are no padding."""
        ids = self.inputs["input_ids"]
        targets = ids.new_zeros(()) if self.labels is None else (self.labels != IGNORED_LABEL).sum()
        return torch.stack([targets, ids.new_tensor(ids.numel()) if self.real is None else self.real.sum()])

    def arguments(self) -> dict[str, torch.Tensor]:
        """For the `forward` of the run's model."""
        others = {name: value for name, value in vars(self).items() if name != "inputs" and value is not None}
        return self.inputs | others


@dataclass(frozen=True)
class Lessons:
    """Turns batches into lessons, asking the teacher where the run has one.

    Teacher and student read the same tokens: the masked ones where the masked-language-model loss is part of the loss,
    so that one forward pass of each serves both losses and the match can reach 0, and else the corpus as it is.
    """

    device: torch.device
    config: TeacherConfig = field(default_factory=TeacherConfig)
    teacher: Teacher | None = None
    targets_per_block: int | None = None
    """Masked positions that every block is known to have."""
    depths: Callable[[int], DepthWeights] | None = None
    """What a step, from 0, trains; None: the whole model alone in all of them."""

    @property
    def taught_by(self) -> AcnConfig | None:
        """The architecture of the teacher, where there is one."""
        return None if self.teacher is None else self.teacher.model.config

    def read(self, batch: MaskedBatch) -> Lesson:
        """The lesson of a batch."""
        inputs = model_inputs(batch, self.device)
        positions, labels = inputs.pop("masked_positions"), batch.labels.to(self.device, non_blocking=True)
        if self.teacher is None:
            return Lesson(inputs, positions, labels)
        if not self.config.masked:
            inputs["input_ids"] = unmasked(inputs["input_ids"], positions, labels)
        told = {"states": self.teacher.states(**inputs), "real": self._real(batch)}
        return Lesson(inputs, positions, labels, **told) if self.config.masked else Lesson(inputs, **told)

    def _real(self, batch: MaskedBatch) -> torch.Tensor | None:
        """(B, T) what is neither padding nor in a row that only fills a validation batch; None: everything."""
        fills = batch.samples < 0
        if not isinstance(batch, PackedBatch) and not fills.any():
            return None
        real = batch.document_ids > 0 if isinstance(batch, PackedBatch) else torch.ones_like(batch.input_ids).bool()
        return (real & ~fills[:, None]).to(self.device, non_blocking=True)

    def of_step(self, step: int, batches: Sequence[MaskedBatch]) -> dict[str, Any]:
        """What the model is told of a step beside its lessons: by what the summed losses of each micro-batch are
        divided, and which depths it trains. A collective.

        Args:
            step: from 0.
            batches: all of this rank's in it.
        """
        shares: dict[str, Any] = {} if self.depths is None else {"depths": self.depths(step)}
        if self.config.masked:
            shares["num_items_in_batch"] = targets_per_micro_batch(batches, self.device, self.targets_per_block)
        if self.teacher is not None and (tokens := tokens_per_micro_batch(batches, self.device)) is not None:
            shares["num_tokens_in_batch"] = tokens
        return shares


def open_lessons(
    config: PretrainConfig, stream: TokenStream, device: torch.device
) -> tuple[Lessons, Callable[[AcnConfig], AcnForMaskedLM]]:
    """The lessons of a run, and what makes its model. A collective.

    Loads the teacher, if there is one, and measures it on held-out blocks: the same ones on every rank, so that all
    divide the match by the same number, however many ranks there are.
    """
    supervised = config.supervision.kind != "none"
    depths = partial(config.supervision.weights, config.model.num_hidden_layers, config.seed) if supervised else None
    if (name := config.teacher.source(config.init_from)) is None:
        lessons = Lessons(device, targets_per_block=stream.targets_per_block, depths=depths)
        return lessons, SupervisedForMaskedLM if supervised else AcnForMaskedLM
    model = find_teacher(name, config.trust_checkpoint).load()
    model.set_attn_implementation(choose_attention(config.precision, config.attention, stream.packed))
    if choose_compile(config.compile):
        compile_layers(model)
    teacher = Teacher(model, device, resolve_precision(config.precision))
    lessons = Lessons(device, config.teacher, teacher, stream.targets_per_block, depths)
    statistics = teacher.measure(
        (lesson.states, lesson.real) for lesson in held_out_lessons(config, lessons) if lesson.states is not None
    )
    return lessons, partial(Student, teaching=config.teacher, statistics=statistics)


def held_out_lessons(config: PretrainConfig, lessons: Lessons) -> Iterator[Lesson]:
    """Lessons of the first held-out blocks."""
    for batch in validation_batches(
        config.data,
        config.masking,
        batch_size=config.micro_batch_size,
        max_blocks=min(MEASURED_BLOCKS, config.validation.blocks),
        rank=0,
        world_size=1,
        remote=config.stream.remote,
    ):
        yield lessons.read(batch)


def unmasked(input_ids: torch.Tensor, masked_positions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The corpus's tokens (B, T) from masked ones, positions (B, M) and their labels; -100 is no target."""
    seen = input_ids.gather(1, masked_positions)
    return input_ids.scatter(1, masked_positions, torch.where(labels == IGNORED_LABEL, seen, labels))
