from .compare import KIND
from .verdict import Candidate, choose, verdict

__all__ = ["KIND", "Candidate", "choose", "verdict"]
