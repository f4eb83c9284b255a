"""A folder that we write is loaded by transformers alone, and what its card says of code and length is so."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

# what runs where this project cannot be imported; a question would be asked on the terminal
SCRIPT = """
import sys

class NoSuchProject:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling", "data_pipeline", "pretrain", "eval", "launch", "tests"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoSuchProject())
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
positions = model.config.max_position_embeddings
text = "the cat " * positions
model(**tokenizer(text, truncation=True, max_length=positions, return_tensors="pt"))
try:
    model(**tokenizer(text, return_tensors="pt"))
except ValueError as error:
    print("told:", error)
"""


@pytest.mark.parametrize("folder", ["run/model", "tuned/cats"])
def test_the_tokenizer_asks_nothing_and_a_long_text_is_a_message(trained: Path, tmp_path: Path, folder: str) -> None:
    script = tmp_path / "elsewhere.py"
    script.write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    controller, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-P", str(script), str(trained / folder)], cwd=tmp_path, env=environment, stdin=terminal,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    os.close(controller)
    os.close(terminal)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Do you wish to run the custom code" not in done.stdout
    assert "told: a text has" in done.stdout
    assert "max_position_embeddings=16" in done.stdout
