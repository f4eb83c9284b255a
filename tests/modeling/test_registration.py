"""`import modeling` costs nothing, and transformers' Auto classes know the family all the same."""

import subprocess
import sys

import pytest

KNOWN = """
from transformers import AutoConfig, AutoModelForMaskedLM
import modeling
config = AutoConfig.for_model("acn", num_hidden_layers=0)
assert type(config) is modeling.AcnConfig
assert type(AutoModelForMaskedLM.from_config(config)) is modeling.AcnForMaskedLM
assert modeling.AcnModel._auto_class == "AutoModel"
import sys
assert not [finder for finder in sys.meta_path if type(finder).__module__ == "modeling.registration"]
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "first",
    [
        "import modeling; from transformers import AutoModel",
        "import transformers; import modeling",
        "import modeling; from transformers.models.auto.modeling_auto import AutoModelForMaskedLM",
        "from modeling.modeling_acn import AcnModel",
        "from modeling.configuration_acn import AcnConfig",
        "from modeling import acn_from_bert",
        "from modeling import LayerGradient",
        "from modeling import AcnPreTrainedModel",
        "from modeling import autocast",  # torch, and not transformers
        "from modeling import *",
    ],
)
def test_the_auto_classes_know_the_family_whatever_is_imported_first(first):
    run(f"{first}\n{KNOWN}")


def test_an_import_that_was_interrupted_is_watched_again():
    """Ctrl-C in a notebook, in the middle of transformers."""
    interrupted = """
import sys
import modeling

class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == "transformers.utils":
            raise KeyboardInterrupt

sys.meta_path.insert(1, Interrupt())
try:
    import transformers
except KeyboardInterrupt:
    del sys.meta_path[1]
else:
    raise AssertionError
for name in [name for name in sys.modules if name.startswith("transformers")]:
    del sys.modules[name]
"""
    run(interrupted + KNOWN)


def test_counting_needs_neither_torch_nor_transformers():
    run(
        "import sys\n"
        "from modeling import Architecture, forward_flops, parameters_by_depth\n"
        "model = Architecture('acn', 99, 8, 2, 2, 16, 32)\n"
        "assert forward_flops(model, 9) and parameters_by_depth(model)\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
