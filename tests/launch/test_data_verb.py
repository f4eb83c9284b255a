import csv
import json

import pytest
from matplotlib.image import imread

from data_pipeline import BlockReader, CorpusConfig, PrepareConfig, prepare_corpus
from launch.cli import main


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    text = "\n\n".join(f"The river ran past house number {number} and the old mill." * 3 for number in range(120))
    (folder / "text.txt").write_text(text)
    corpus = CorpusConfig(train=str(folder / "text.txt"), validation_fraction=0.2)
    config = PrepareConfig(corpus, str(folder / "out"), vocab_size=120, seq_length=32, row_group_blocks=8)
    prepare_corpus(config, say=lambda line: None)
    return folder / "out"


def test_stats_are_printed_and_written_as_numbers_table_and_picture(prepared, tmp_path, capsys):
    output = tmp_path / "runs" / "stats"
    for _ in range(2):  # earlier statistics are replaced
        assert main(["data", "stats", str(prepared), "--output", str(output)]) == 0
    assert "vocabulary unused" in capsys.readouterr().out
    assert {path.name for path in output.iterdir()} == {"stats.json", "stats.png", "vocabulary.csv"}
    blocks = BlockReader(prepared, "train").blocks
    assert json.loads((output / "stats.json").read_text())["token_positions"] == 32 * blocks
    rows = list(csv.DictReader((output / "vocabulary.csv").open()))
    assert sum(int(row["count"]) for row in rows) == 32 * blocks
    assert [int(row["count"]) for row in rows] == sorted((int(row["count"]) for row in rows), reverse=True)
    picture = imread(output / "stats.png")
    assert picture[..., :3].std() > 0.05, "something is drawn"


def test_blocks_are_shown_decoded_with_all_of_their_true_tokens(prepared, capsys):
    assert main(["data", "show", str(prepared), "--blocks", "2"]) == 0
    out = capsys.readouterr().out
    assert "train sample 0" in out
    assert "train sample 1" in out
    assert "river" in out
    assert main(["data", "show", str(prepared), "--split", "validation", "--masking.unit", "word"]) == 0
    assert "validation sample 3" in capsys.readouterr().out


def test_mistakes_are_told_together_and_other_peoples_files_stay(prepared, tmp_path, capsys):
    assert main(["data", "sow", str(prepared), "--blocks", "0"]) == 2
    error = capsys.readouterr().err
    assert "'sow' is no action" in error
    assert "blocks=0" in error
    assert main(["data", "show", str(prepared), "--output", str(tmp_path)]) == 2
    assert "output=" in capsys.readouterr().err
    (tmp_path / "thesis.tex").write_text("dear")
    assert main(["data", "stats", str(prepared), "--output", str(tmp_path)]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert main(["data", "stats", str(tmp_path)]) == 2
    assert "not a prepared folder" in capsys.readouterr().err
