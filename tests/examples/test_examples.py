"""The scripts in examples/ do what they say, on a tiny model that learns which animal a sentence is about."""

import csv
import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from scipy.stats import spearmanr
from torch.nn import functional as F
from transformers import AutoTokenizer

from modeling import AcnConfig, AcnForMaskedLM, AcnForSequenceClassification, parameters_by_depth
from tests.conftest import sentences

ROOT = Path(__file__).parents[2]
LAYERS, TOLERANCE = 4, 0.02
TEXTS = ["the dog ran under the big tree", "the cat", "bird", "and then it was there", "the dog and the cat sat here"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """A folder as pretraining exports it."""
    folder = tmp_path_factory.mktemp("run") / "model"
    tokenizer = AutoTokenizer.from_pretrained(prepared / "tokenizer")
    torch.manual_seed(0)
    config = AcnConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=LAYERS, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=24, initializer_range=0.1, identity_attention_init=True,
    )  # fmt: skip
    AcnForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Chain:
    """What `own_csv.py` made of a CSV file."""

    rows: list[tuple[str, str]]
    """The file's texts and labels."""
    output: Path
    printed: str

    @property
    def finetuned(self) -> Path:
        return self.output / "finetuned" / "animals"

    def split(self, name: str) -> list[tuple[str, str]]:
        columns = pq.read_table(self.output / "data" / f"{name}.parquet").to_pydict()
        return list(zip(columns["sentence"], columns["label"], strict=True))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, pretrained: Path) -> Chain:
    """The script as a user runs it, on a file with a column too many and texts that CSV has to quote."""
    folder = tmp_path_factory.mktemp("csv")
    texts = sentences(400, seed=3).splitlines()
    labels = [text.split()[1] for text in texts]
    texts[0], texts[1] = texts[0].replace(" and then ", ',\n"and then" '), texts[1].replace(" and", ", and")
    with open(folder / "animals.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "what", "animal"), *zip(range(400), texts, labels, strict=True)])
    quiet = {"ACN_GLUE__TRACKING__MLFLOW": "null", "ACN_COMPRESS__TRACKING__MLFLOW": "null"}
    quiet |= {"ACN_GLUE__PRECISION": "fp32"}  # as the tests compute
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "own_csv.py", pretrained, "animals.csv", "--text", "what",
         "--label", "animal", "--tolerance", str(TOLERANCE), "--output", "out"],
        cwd=folder, env=os.environ | quiet | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Chain(list(zip(texts, labels, strict=True)), folder / "out", done.stdout)


@pytest.fixture
def script(monkeypatch, capsys) -> Callable[..., str]:
    """Run examples/NAME with arguments in this process: what it prints."""

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@torch.no_grad()
def logits_by_depth(folder: Path, texts: list[str]) -> torch.Tensor:
    """(L+1, N, C): the head written out, on the read-outs of one text at a time."""
    model = AcnForSequenceClassification.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    answers = []
    for text in texts:
        read_outs = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        first = torch.cat([read_out[:, 0] for read_out in read_outs])
        pooled = F.linear(first, model.pooler.dense.weight, model.pooler.dense.bias).tanh()
        answers.append(F.linear(pooled, model.classifier.weight, model.classifier.bias))
    return torch.stack(answers, dim=1)


def label_names(folder: Path) -> dict[int, str]:
    return AcnConfig.from_pretrained(folder).id2label


def test_own_csv_keeps_a_stratified_fifth_for_validation(chain):
    train, validation = chain.split("train"), chain.split("validation")
    assert len(validation) == 80
    assert sorted(train + validation) == sorted(chain.rows)
    for label, count in Counter(label for _, label in chain.rows).items():
        share = sum(own == label for _, own in validation)
        assert abs(share - count / 5) < 1


def test_own_csv_cuts_at_the_smallest_depth_within_the_tolerance(chain):
    names = label_names(chain.finetuned)
    assert set(names.values()) == {"cat", "dog", "bird"}
    texts, labels = zip(*chain.split("validation"), strict=True)
    wanted = torch.tensor([next(i for i, name in names.items() if name == label) for label in labels])
    logits = logits_by_depth(chain.finetuned, list(texts))
    scores = (logits.argmax(-1) == wanted).float().mean(-1).tolist()
    assert scores[-1] > 0.6 > scores[0]  # it has learned something, and it took layers
    depth = next(k for k, score in enumerate(scores) if score >= scores[-1] - TOLERANCE)
    assert depth < LAYERS
    with safe_open(chain.output / "small" / "model.safetensors", "pt") as weights:
        layers = {int(found[1]) for key in weights.keys() if (found := re.search(r"layers\.(\d+)\.", key))}  # noqa: SIM118
    assert layers == set(range(depth))
    *_, cut, answer = chain.printed.rstrip().splitlines()
    assert cut == f"out/small: {depth} layers"
    first = logits[depth, 0].softmax(-1)
    assert answer == f"{names[int(first.argmax())]} {first.max():.4f}  {texts[0]}"


@pytest.mark.parametrize("depth", [0, 2, LAYERS])
def test_load_at_depth_prints_the_read_out_of_that_depth_whatever_the_way(chain, script, depth):
    text = TEXTS[0]
    lines = script("load_at_depth.py", chain.finetuned, depth, text).splitlines()
    expected, names = logits_by_depth(chain.finetuned, [text])[:, 0], label_names(chain.finetuned)
    assert len(lines) == 5
    for line, logits in zip(lines, [expected[LAYERS], *[expected[depth]] * 3], strict=False):
        way, numbers = line.split(" logits ")
        assert way.split()[-1] == names[int(logits.argmax())]
        assert [float(number) for number in numbers.split()] == pytest.approx(logits.tolist(), abs=2e-6)
    config = AcnConfig.from_pretrained(chain.finetuned)
    parameters = parameters_by_depth(config, config.num_labels)
    assert lines[4] == f"parameters: {parameters[-1]:,} -> {parameters[depth]:,}"


def test_early_exit_stops_each_text_at_the_first_sure_depth_and_runs_no_layer_after_it(chain, script):
    probabilities = logits_by_depth(chain.finetuned, TEXTS).softmax(-1)
    sure = probabilities.amax(-1)
    low, high = sure[2].sort().values[1:3].tolist()
    confidence = (low + high) / 2  # some texts leave at depth 2 and some do not
    names, ran = label_names(chain.finetuned), []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: ran.append(len(output)) if type(module).__name__ == "AcnLayer" else None
    )
    try:
        *lines, last = script("early_exit.py", chain.finetuned, "--confidence", confidence, *TEXTS).splitlines()
    finally:
        hook.remove()
    depths = []
    for i, (text, line) in enumerate(zip(TEXTS, lines, strict=True)):
        depth = next((k for k in range(1, LAYERS) if sure[k, i] >= confidence), LAYERS)
        answer = probabilities[depth, i]
        assert line == f"depth {depth:2}  {names[int(answer.argmax())]} {answer.max():.4f}  {text}"
        depths.append(depth)
    assert len(set(depths)) > 1
    assert sum(ran) == sum(depths)
    assert last == f"layers run per text: {sum(depths) / len(depths):.2f} of {LAYERS}"


def test_an_unreachable_confidence_is_the_whole_model(chain, script):
    lines = script("early_exit.py", chain.finetuned, "--confidence", 2, *TEXTS).splitlines()
    whole = logits_by_depth(chain.finetuned, TEXTS)[-1].softmax(-1).amax(-1)
    assert [line.split()[1] for line in lines[:-1]] == [str(LAYERS)] * len(TEXTS)
    assert [float(line.split()[3]) for line in lines[:-1]] == pytest.approx(whole.tolist(), abs=1e-4)


def similar_sentences(folder: Path) -> None:
    """Pairs as STS-B has them: the same animal is 5, another one 0."""
    for split, seed in (("train", 5), ("validation", 6)):
        first, second = (sentences(64, seed=seed + add).splitlines() for add in (0, 10))
        labels = [5.0 * (a.split()[1] == b.split()[1]) for a, b in zip(first, second, strict=True)]
        table = pa.table({"sentence1": first, "sentence2": second, "label": labels, "idx": range(64)})
        pq.write_table(table, folder / f"{split}.parquet")


def test_embeddings_are_trained_and_the_written_embedder_scores_what_is_printed_for_its_depth(
    pretrained, script, tmp_path
):
    package = pytest.importorskip("sentence_transformers", reason="needs the extra: pip install 'acn-lm[embed]'")
    similar_sentences(tmp_path)
    options = ("--epochs", 2, "--learning_rate", 5e-3, "--depth", 2, "--precision", "fp32")  # as `encode` computes
    printed = script("embeddings.py", pretrained, tmp_path, "--output", tmp_path / "out", *options)
    lines = [line.split() for line in printed.splitlines() if line.startswith("depth ")]
    assert [int(line[1]) for line in lines] == list(range(LAYERS + 1))
    assert printed.splitlines()[-1] == f"embedder with 2 layers: {tmp_path / 'out'}"
    embedder = package.SentenceTransformer(str(tmp_path / "out"))
    rows = pq.read_table(tmp_path / "validation.parquet").to_pydict()
    first, second = (torch.tensor(embedder.encode(rows[f"sentence{i}"])) for i in (1, 2))
    expected = spearmanr(F.cosine_similarity(first, second), rows["label"]).statistic
    assert float(lines[2][3]) == pytest.approx(expected, abs=1e-3)
    assert float(lines[LAYERS][3]) > float(lines[LAYERS][6]), "training helped"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embeddings.py", "no/such", "CSV", "--output", "x"), "no/such is not a model folder"),
        (("embeddings.py", "MODEL", "no/such", "--output", "x"), "train.parquet is missing: give a folder with both"),
        (("embeddings.py", "MODEL", "SPLITS", "--output", "x"), "train.parquet has no column sentence1, sentence2"),
        (("embeddings.py", "MODEL", "SPLITS", "--output", "x", "--depth", "5"), "--depth 5 is outside 0..4"),
        (("load_at_depth.py", "MODEL", 5, "a text"), "is not a fine-tuned classifier"),
        (("load_at_depth.py", "CLASSIFIER", 5, "a text"), "depth=5 is outside 0..4"),
        (("early_exit.py", "MODEL", "a text"), "is not a fine-tuned classifier"),
        (("early_exit.py", "no/such", "a text"), "no/such is not a folder"),
        (("own_csv.py", "no/such", "CSV", "--output", "x"), "no/such is not a folder"),
        (("own_csv.py", "MODEL", "CSV", "--output", "x"), "has no column text, label: name two of id, what, animal"),
        (("own_csv.py", "MODEL", "CSV", "--output", "CLASSIFIER"), "exists: choose another"),
        (("own_csv.py", "MODEL", "CSV", "--text", "what", "--label", "id", "--output", "x"), "column id: "),
    ],
)
def test_a_mistake_is_named_before_any_work(
    arguments, message, chain, pretrained, script, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    places = {"MODEL": pretrained, "CLASSIFIER": chain.finetuned, "CSV": chain.output.parent / "animals.csv",
              "SPLITS": chain.output / "data"}  # fmt: skip
    with pytest.raises(SystemExit) as caught:
        script(*[places.get(argument, argument) for argument in arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
