from .anneal import Annealing
from .config import AnnealConfig, TeacherConfig
from .flops import training_flops
from .lessons import Lessons, fit_projection, open_lessons
from .student import Statistics, Student, is_projection
from .teacher import find_teacher, teacher_problems

__all__ = [
    "AnnealConfig",
    "Annealing",
    "Lessons",
    "Statistics",
    "Student",
    "TeacherConfig",
    "find_teacher",
    "fit_projection",
    "is_projection",
    "open_lessons",
    "teacher_problems",
    "training_flops",
]
