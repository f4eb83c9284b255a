"""Studies of a trained model: early exit, pruning, noise, low data, forgetting, lesions, geometry, similarity.

`run_studies` runs any of them from a [`StudyConfig`]; each is one module with its options, its measure and `run`.
"""

import lazy_loader

# the names are in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
