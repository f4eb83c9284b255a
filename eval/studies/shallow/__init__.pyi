from .compare import KIND
from .shipping import Candidate, affordable, candidates_of, choose, tie, verdict

__all__ = ["KIND", "Candidate", "affordable", "candidates_of", "choose", "tie", "verdict"]
