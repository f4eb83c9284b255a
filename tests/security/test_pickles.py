"""Whatever verb reads a checkpoint, no code in it runs, unless its user says that it may."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from launch import cli
from pretrain import ValidationConfig
from pretrain.checkpoints import CheckpointConfig
from pretrain.optim import EmaConfig
from tests.pretrain.conftest import continued, tiny, write_recipe
from tests.processes import run_acn
from tests.security.tampering import Bomb, Script, change, plant, plant_bare, states_files

LAYOUTS = [(0, "fp32"), (1, "fp32"), (1, "bf16"), (2, "bf16"), (3, "fp32")]
"""ZeRO stages and precisions between which DeepSpeed's files, or the functions that read them, differ."""
SETTINGS = {
    "steps": 2,
    "ema": EmaConfig(decay=0.9),
    "checkpoint": CheckpointConfig(every=1, keep=9),
    "validation": ValidationConfig(every=0, blocks=10),
}
REFUSED = "holds more than data"


@pytest.fixture(scope="module")
def runs(prepared, tmp_path_factory) -> Callable[[int, str], Path]:
    """A finished run of two steps with an average, by ZeRO stage and precision. Tests change copies."""
    folder, made = tmp_path_factory.mktemp("foreign"), {}

    def run(stage: int, precision: str) -> Path:
        if (stage, precision) not in made:
            output = made[stage, precision] = folder / f"stage{stage}-{precision}"
            fields = tiny(prepared, output, zero_stage=stage, precision=precision, **SETTINGS)
            done = run_acn("pretrain", "--config", str(write_recipe(output, fields)))
            assert done.returncode == 0, done.stderr
        return made[stage, precision]

    return run


@pytest.fixture
def foreign(runs, tmp_path) -> Callable[[int, str], Path]:
    """A copy of such a run, at its second step."""

    def copy(stage: int, precision: str) -> Path:
        shutil.copytree(runs(stage, precision), tmp_path / "foreign")
        return tmp_path / "foreign"

    return copy


@pytest.fixture
def sentinel(tmp_path) -> Path:
    return tmp_path / "code-has-run"


@pytest.fixture
def acn(capfd) -> Callable[..., tuple[int, str]]:
    """Run `acn ARGUMENTS` in this process: its exit code and stderr."""

    def run(*arguments: object) -> tuple[int, str]:
        capfd.readouterr()
        code = cli.main(list(map(str, arguments)))
        return code, capfd.readouterr().err

    return run


def last(run: Path) -> Path:
    return run / "checkpoints" / "step-0000002"


@pytest.mark.parametrize(("stage", "precision"), LAYOUTS)
def test_export_runs_nothing_of_any_file(acn, foreign, sentinel, tmp_path, stage, precision):
    run = foreign(stage, precision)
    whole = tmp_path / "whole"
    shutil.copytree(last(run), whole)
    for number, name in enumerate(states_files(whole)):
        for put, bomb in ((plant, Bomb), (plant, Script), (plant_bare, Bomb)):
            shutil.rmtree(last(run))
            shutil.copytree(whole, last(run))
            put(last(run), name, bomb(sentinel))
            code, said = acn("export", run, tmp_path / f"out{number}")
            assert not sentinel.exists(), name
            assert code == 2, said
            assert REFUSED in said
            assert name in said


def test_the_average_runs_nothing_either(acn, foreign, sentinel, tmp_path):
    run = foreign(1, "fp32")
    plant(last(run), "ema.pt", Bomb(sentinel))
    code, said = acn("export", run, tmp_path / "average", "--ema")
    assert (code, sentinel.exists()) == (2, False)
    assert REFUSED in said
    assert "ema.pt" in said
    assert "posix.mkdir" in said


def test_intermediate_checkpoints_are_published_without_running_them(acn, foreign, sentinel, tmp_path):
    run = foreign(2, "bf16")
    plant(last(run), states_files(last(run))[0], Bomb(sentinel))
    words = ("publish", run, "--repo_id", "tester/acn", "--steps", "2", "--dry_run", "--output", tmp_path / "hub")
    code, said = acn(*words)
    assert (code, sentinel.exists()) == (2, False)
    assert REFUSED in said
    assert not (tmp_path / "hub").exists()


WAYS = {
    "resume": {},
    "resume with another stage": {"zero_stage": 3},
    "init_from": {"init_from": "foreign"},
    "branch_from": {"branch_from": "foreign"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"])
def test_no_way_to_train_on_runs_anything(foreign, prepared, sentinel, tmp_path, way, name):
    run = foreign(2, "bf16")
    plant(last(run), name, Bomb(sentinel))
    fields = {**SETTINGS, "steps": 4, "zero_stage": 2, "precision": "bf16", **WAYS[way]}
    if way.endswith("_from"):
        fields |= {way: str(run)}
        output = tmp_path / "mine"
    else:
        output = continued(run, tmp_path / "mine", 2)
    done = run_acn("pretrain", "--config", str(write_recipe(output, tiny(prepared, output, **fields))))
    assert (done.returncode, sentinel.exists()) == (2, False)
    assert REFUSED in done.stderr
    assert name in done.stderr
    assert not (output / "model").exists()


def test_every_rank_learns_what_one_of_them_found(foreign, prepared, sentinel, tmp_path):
    """Rank 1 of two looks at the file; the message is rank 0's."""
    run = foreign(0, "fp32")
    plant(last(run), states_files(last(run))[0], Bomb(sentinel))
    output = continued(run, tmp_path / "mine", 2)
    recipe = write_recipe(output, tiny(prepared, output, **{**SETTINGS, "steps": 4}), nproc_per_node=2)
    done = run_acn("pretrain", "--config", str(recipe))
    assert (done.returncode, sentinel.exists()) == (2, False)
    assert REFUSED in done.stderr


def test_who_trusts_a_checkpoint_says_so(acn, foreign, prepared, sentinel, tmp_path):
    run = foreign(1, "fp32")
    plant(last(run), states_files(last(run))[-1], Bomb(sentinel))
    code, said = acn("export", run, tmp_path / "out", "--trust_checkpoint")
    assert (code, sentinel.exists()) == (0, True), said
    sentinel.rmdir()
    output = continued(run, tmp_path / "mine", 2)
    recipe = write_recipe(output, tiny(prepared, output, **{**SETTINGS, "steps": 3, "precision": "fp32"}))
    done = run_acn("pretrain", "--config", str(recipe), "--trust_checkpoint")
    assert (done.returncode, sentinel.exists()) == (0, True), done.stderr
    assert "trust_checkpoint" not in (output / "config.yaml").read_text(), "the next start is asked again"


@pytest.mark.parametrize("where", ["file", "environment"])
def test_trust_comes_from_the_command_line_alone(acn, prepared, tmp_path, capfd, monkeypatch, where):
    """A run's own config.yaml would otherwise vouch for the checkpoints beside it."""
    recipe = write_recipe(tmp_path / "run", tiny(prepared, tmp_path / "run", **SETTINGS))
    if where == "file":
        recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()) | {"trust_checkpoint": True}))
    else:
        monkeypatch.setenv("ACN_PRETRAIN__TRUST_CHECKPOINT", "true")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["pretrain", "--config", str(recipe)])
    assert "say --trust_checkpoint on the command line" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_parameter_cannot_be_named_like_a_path(acn, foreign, tmp_path):
    """DeepSpeed's converter makes folders of the parameters' names."""
    run = foreign(1, "bf16")
    (name,) = (name for name in states_files(last(run)) if "optim" in name)

    def rename(content):
        mappings = content["optimizer_state_dict"]["param_slice_mappings"]
        first = next(iter(mappings[0]))
        mappings[0]["../../../../elsewhere"] = mappings[0].pop(first)
        return content

    change(last(run), name, rename)
    before = sorted(tmp_path.rglob("*"))
    code, said = acn("export", run, tmp_path / "out")
    assert code == 2, said
    assert "which is a path" in said
    assert sorted(tmp_path.rglob("*")) == before
