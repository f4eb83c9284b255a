from .anneal import Annealing
from .carry import carry_problems
from .config import AnnealConfig, TeacherConfig
from .depths import SupervisedForMaskedLM
from .flops import training_flops
from .lessons import Lessons, open_lessons
from .start import prepare_start
from .student import Statistics, Student, is_projection
from .teacher import find_teacher, teacher_problems

__all__ = [
    "AnnealConfig",
    "Annealing",
    "Lessons",
    "Statistics",
    "Student",
    "SupervisedForMaskedLM",
    "TeacherConfig",
    "carry_problems",
    "find_teacher",
    "is_projection",
    "open_lessons",
    "prepare_start",
    "teacher_problems",
    "training_flops",
]
