from .compare import KIND
from .shipping import Candidate, choose, verdict

__all__ = ["KIND", "Candidate", "choose", "verdict"]
