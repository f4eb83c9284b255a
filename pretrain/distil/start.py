"""What a new run's model begins with, beside the weights that it was given: measured on held-out blocks."""

from collections.abc import Callable

import torch

from modeling import AcnForMaskedLM, autocast, resolve_precision

from ..config import PretrainConfig
from .anneal import Annealing
from .carry import carry_shortcuts
from .lessons import Lesson, Lessons, held_out_lessons
from .student import Student
from .teacher import Teacher


@torch.no_grad()
def prepare_start(
    config: PretrainConfig,
    lessons: Lessons,
    model: AcnForMaskedLM,
    annealing: Annealing,
    say: Callable[[str], None] = print,
) -> None:
    """Have the model's layers carry their shortcuts if the run wants that, and begin the projection to a teacher where
    it reads as much of it as it can.

    The model has its first weights and is on the device. A run that wants neither keeps them.
    """
    annealing.set(config.anneal.scale(0.0))
    model.eval()
    with autocast(resolve_precision(config.precision), lessons.device):
        if config.carry_shortcuts:
            read = ((lesson.inputs, lesson.real) for lesson in held_out_lessons(config, lessons))
            heads, units = carry_shortcuts(model.acn, read)
            of_heads, of_units = model.config.num_attention_heads, model.config.intermediate_size
            say(f"shortcuts: carried by {heads} of {of_heads} heads and {units} of {of_units} units of every layer")
        if (teacher := lessons.teacher) is not None:
            assert isinstance(model, Student)
            model.projection.fit(_fitted(model, teacher, lesson) for lesson in held_out_lessons(config, lessons))
    model.train()


def _fitted(model: Student, teacher: Teacher, lesson: Lesson) -> tuple[torch.Tensor, torch.Tensor]:
    """What a student makes of the tokens that count, and what the norm after its projection has to be given: (N, H)."""
    counted = slice(None) if lesson.real is None else lesson.real.flatten()
    pair = model.acn(**lesson.inputs).last_hidden_state, teacher.normalized(**lesson.inputs)
    return pair[0].flatten(0, 1)[counted], pair[1].flatten(0, 1)[counted]
