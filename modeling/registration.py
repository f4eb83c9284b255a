"""transformers' Auto classes know the family as soon as both `modeling` and `transformers` are imported.

`import modeling` alone imports neither torch nor transformers, which take seconds and which counting parameters does
not need. So the registration waits for transformers, in the way of PEP 369's post-import hooks: a finder in front of
the others watches for the modules that bring it, and steps aside once the outermost of them is there.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_FAMILY = ("configuration_acn", "modeling_acn", "conversion", "loading", "probe", "finite")
"""Modules of this package that import transformers."""


def register() -> None:
    """Make the Auto classes know the family, and `save_pretrained` write the code beside the weights."""
    import transformers

    from . import modeling_acn
    from .configuration_acn import AUTO_MAP, AcnConfig

    for auto_name, reference in AUTO_MAP.items():
        auto = getattr(transformers, auto_name)
        if auto is transformers.AutoConfig:
            auto.register(AcnConfig.model_type, AcnConfig, exist_ok=True)
            AcnConfig.register_for_auto_class()
        else:
            model = getattr(modeling_acn, reference.partition(".")[2])
            auto.register(AcnConfig, model, exist_ok=True)
            model.register_for_auto_class(auto_name)


def register_with_transformers() -> None:
    """Register now if transformers is there, else when it comes."""
    if "transformers" in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, _Watch())


class _Watch(MetaPathFinder):
    """Registers the family at the end of the outermost import of a module that brings transformers.

    Not earlier: inside of that import, modules that the registration needs may be half executed.
    """

    def __init__(self) -> None:
        package = __name__.rpartition(".")[0]
        self._watched = {"transformers", *(f"{package}.{name}" for name in _FAMILY)}
        self._running = 0

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders have for a watched module, with a loader that tells when it is done."""
        if fullname not in self._watched:
            return None
        others = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, others), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self._telling(spec.loader.exec_module)  # type: ignore[method-assign, assignment]
        return spec

    def _telling(self, execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def exec_module(module: ModuleType) -> None:
            self._running += 1
            try:
                execute(module)
                if self._running == 1 and self in sys.meta_path:
                    register()
                    sys.meta_path.remove(self)
            finally:
                self._running -= 1

        return exec_module
