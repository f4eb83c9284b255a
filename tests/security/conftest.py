"""The folders and commands of `launch`'s tests, for attacks on them."""

from tests.launch.conftest import acn, lab, publish, store, trained

__all__ = ["acn", "lab", "publish", "store", "trained"]
