"""A saved folder is enough: a machine without this project loads every head from it, offline, at any depth."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from modeling import AcnForMaskedLM, AcnModel, conversion
from modeling.configuration_acn import AUTO_MAP
from tests.modeling.conftest import HEADS, inputs_of, logits_of

# What runs on the other machine. The project is installed in this one's environment, so its packages are blocked.
SCRIPT = """
import sys

class NoSuchProject:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling", "data_pipeline", "pretrain", "eval", "launch", "tests"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, NoSuchProject())
try:
    import modeling
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the project is importable: this proves nothing")

import torch, transformers
from pathlib import Path

for folder in sorted(Path(sys.argv[1]).iterdir()):
    inputs, expected, auto = torch.load(folder / "case.pt")
    for depth, logits in enumerate(expected):
        model = getattr(transformers, auto).from_pretrained(
            folder, trust_remote_code=True, local_files_only=True, num_hidden_layers=depth
        )
        assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
        with torch.no_grad():
            outputs = model(**inputs)
        name = {"AutoModel": "last_hidden_state", "AutoModelForQuestionAnswering": "start_logits"}.get(auto, "logits")
        torch.testing.assert_close(outputs[name], logits, rtol=1e-5, atol=1e-6, msg=lambda m: f"{folder} {depth}: {m}")
    again = folder / "again"
    model.truncate(1).save_pretrained(again)
    reloaded = getattr(transformers, auto).from_pretrained(again, trust_remote_code=True, local_files_only=True)
    with torch.no_grad():
        torch.testing.assert_close(reloaded(**inputs)[name], expected[1], rtol=1e-5, atol=1e-6)
    print("loaded", folder.name)

bert = transformers.BertModel(transformers.BertConfig(
    vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4))
body = transformers.AutoModel.from_config(
    transformers.AutoConfig.from_pretrained(Path(sys.argv[1]) / "AcnModel", trust_remote_code=True),
    trust_remote_code=True)
assert type(body).from_bert(bert, connectivity="residual").config.hidden_size == 4
print("converted")
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_saving_writes_code_and_a_full_auto_map(tiny_config, tmp_path):
    for head in (AcnModel, *HEADS):
        folder = tmp_path / head.__name__
        head(tiny_config()).save_pretrained(folder)
        code = {"configuration_acn.py", "modeling_acn.py", "reversible.py", "conversion.py"}
        assert names(folder) == code | {"config.json", "model.safetensors"}
        for name in code:
            assert (folder / name).read_text() == (Path(conversion.__file__).parent / name).read_text()
        assert json.loads((folder / "config.json").read_text())["auto_map"] == AUTO_MAP
    assert set(AUTO_MAP.values()) == {"configuration_acn.AcnConfig"} | {
        f"modeling_acn.{head.__name__}" for head in (AcnModel, *HEADS)
    }


def test_a_folder_without_code_gets_it_on_the_next_save(tiny_config, tmp_path):
    model = AcnForMaskedLM(tiny_config())
    model.config.auto_map = {"AutoModelForMaskedLM": "someone/else--modeling_acn.AcnForMaskedLM"}
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == AUTO_MAP


def load_elsewhere(folders: Path, scratch: Path) -> str:
    """Load each model below `folders`, AcnModel among them, without the project, and compare it with its case.pt."""
    script = scratch / "elsewhere.py"
    script.write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(scratch / "hf"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-P", str(script), str(folders)],
        cwd=scratch, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_machine_without_the_project_loads_every_head_at_every_depth(tiny_config, batch, tmp_path):
    autos = {reference.partition(".")[2]: auto for auto, reference in AUTO_MAP.items()}
    for head, fields in zip(
        (AcnModel, *HEADS),
        ({}, {"connectivity": "residual"}, {"connectivity": "hybrid", "hybrid_init": 0.5}, {"gated_mlp": True},
         {"position_embedding_type": "rope", "connectivity": "feedforward"}, {"connectivity": "reversible"}),
        strict=True,
    ):  # fmt: skip
        folder = tmp_path / "folders" / head.__name__
        head(tiny_config(num_hidden_layers=2, hidden_size=48, num_attention_heads=6, **fields)).save_pretrained(folder)
        inputs = inputs_of(head, batch)
        expected = []
        for depth in range(3):
            outputs = head.from_pretrained(folder, num_hidden_layers=depth)(**inputs)
            if head is AcnModel:
                expected.append(outputs.last_hidden_state.detach())
            else:
                logits = logits_of(outputs).detach()
                expected.append(outputs.start_logits.detach() if "start_logits" in outputs else logits)
        torch.save((inputs, expected, autos[head.__name__]), folder / "case.pt")
    said = load_elsewhere(tmp_path / "folders", tmp_path)
    assert said.count("loaded") == 6
    assert "converted" in said


@pytest.mark.parametrize("name", ["configuration_acn.py", "modeling_acn.py", "reversible.py", "conversion.py"])
def test_remote_code_imports_nothing_but_torch_and_transformers(name):
    from transformers.dynamic_module_utils import get_imports, get_relative_imports

    path = Path(conversion.__file__).parent / name
    standard = {"typing", "collections", "contextlib", "functools", "re"}
    assert set(get_imports(path)) <= standard | {"torch", "transformers", "huggingface_hub"}
    assert set(get_relative_imports(path)) <= {"configuration_acn", "conversion", "reversible"}
