"""Studies of a trained model: early exit, pruning, noise, low data, forgetting, lesions, geometry, similarity.

`run_studies` runs any of them from a [`StudyConfig`]; each is one module with its options, its measure and `run`.
"""

from .run import KINDS, STUDY_FILE, StudyConfig, run_studies
from .study import Context, Curve, Point, Study

__all__ = ["KINDS", "STUDY_FILE", "Context", "Curve", "Point", "Study", "StudyConfig", "run_studies"]
