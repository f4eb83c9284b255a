"""An installed copy: a wheel, no checkout on the path, and a working directory whose files have our packages' names."""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from launch.recipes import recipe_names
from tests.test_rooms import FLOOR

ROOT = Path(__file__).parents[2]
TINY = [
    "--model.hidden_size", "16", "--model.num_hidden_layers", "2", "--model.num_attention_heads", "2",
    "--model.intermediate_size", "24", "--model.max_position_embeddings", "16", "--steps", "1",
    "--global_batch_size", "8", "--micro_batch_size", "4", "--log_every", "1", "--validation.blocks", "8",
    "--tracking.mlflow", "null",
]  # fmt: skip
DECOY = "raise SystemExit('a file of the working directory was imported')\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built offline from a copy: building in the checkout would leave files there."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for room in FLOOR:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    built = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "-w", str(built), str(source)], check=True, cwd=built, capture_output=True)
    (found,) = built.glob("acn_lm-*.whl")
    return found


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    """The folder of `acn` and of the launchers in an environment of its own.

    It sees this environment's other packages, but not its acn-lm: files *.pth, such as the one of an editable
    installation, are read in an environment's own folder only.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    own = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (own / "others.pth").write_text("".join(f"{path}\n" for path in [*others, *site.getsitepackages()]))
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, "--ignore-installed", str(wheel)], check=True, capture_output=True)
    for name in ("torchrun", "deepspeed", "accelerate"):
        _, *rest = (Path(sys.executable).parent / name).read_text().splitlines(keepends=True)
        (python.parent / name).write_text("".join([f"#!{python}\n", *rest]))
        (python.parent / name).chmod(0o755)
    return python.parent


@pytest.fixture
def folder(tmp_path) -> Path:
    """A working directory with a file and a folder for each of our packages that fail when they are imported."""
    for room in FLOOR:
        (tmp_path / f"{room}.py").write_text(DECOY)
    for room in ("launch", "eval"):
        (tmp_path / room).mkdir()
        for name in ("__init__", "cli", "errors"):
            (tmp_path / room / f"{name}.py").write_text(DECOY)
    return tmp_path


@pytest.fixture
def run(programs, folder):
    """Run a command from the working directory as a user's shell would: (exit code, everything printed)."""
    hidden = ("PYTHONPATH", "PYTHONSAFEPATH", "VIRTUAL_ENV", "RANK", "LOCAL_RANK", "WORLD_SIZE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {
        "PATH": f"{programs}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1", "COLUMNS": "200",
    }  # fmt: skip

    def command(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert "of the working directory was imported" not in done.stdout, done.stdout
        return done.returncode, done.stdout

    return command


def test_the_wheel_has_every_file_of_the_packages(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.split("/")[0] in FLOOR}
    files = [path for room in FLOOR for path in (ROOT / room).rglob("*") if path.is_file()]
    kept = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    assert packed == kept


def test_the_installed_packages_are_the_wheel_s_and_the_decoys_would_be_found(run, programs, folder):
    where = "import eval, importlib.util; print(eval.__file__, importlib.util.find_spec('launch').origin)"
    code, out = run(str(programs / "python"), "-P", "-c", where)
    assert code == 0
    assert all(Path(file).is_relative_to(programs.parent) for file in out.split()), out
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [programs / "python", "-m", "launch.cli"]
    unsafe = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert "of the working directory was imported" in unsafe.stderr, "without -P the folder comes first"


def test_acn_answers_and_finds_its_recipes_and_templates(run, folder):
    assert "verbs:" in run("acn", "--help")[1]
    assert run("acn", "--version")[1].startswith("acn-lm ")
    code, out = run("acn", "plan", "--config", "acn-mini", "--gpus", "1")
    assert code == 0, out
    assert "Take --zero_stage" in out
    for config in ("acn-tiny", "acn-tiny.yaml"):
        code, out = run("acn", "pretrain", "--config", config, "--data", "d", "--output", "o", "--print_config")
        assert code == 0, out
        assert yaml.safe_load(out)["model"]["identity_attention_init"] is True
    (folder / "acn-tiny").write_text("{steps: 7}")
    code, out = run("acn", "pretrain", "--config", "acn-tiny", "--data", "d", "--output", "o", "--print_config")
    assert yaml.safe_load(out)["steps"] == 7, "a file of that name comes first"
    for engine in ("slurm", "torchrun", "deepspeed", "kubernetes", "skypilot"):
        code, out = run("acn", "launch", engine, "--nodes", "1", "--dry_run")
        assert code == 0, out
        assert "launch.cli" not in out
        assert "launch/cluster" not in out, "the script does not lie there"
        assert "acn-base" in out


def test_every_recipe_has_a_name_that_is_found(run):
    assert set(recipe_names()) == {path.stem for path in (ROOT / "launch" / "recipes").glob("*.yaml")}
    code, out = run("acn", "pretrain", "--config", "acn-huge")
    assert code == 2
    assert all(name in out for name in recipe_names())


@pytest.fixture
def corpus(run, folder):
    """A prepared corpus in the working directory, made by the installed copy with workers of its own."""
    lines = [f"The river ran past house number {number} and the old mill." for number in range(300)]
    (folder / "text.txt").write_text("\n\n".join(lines))
    code, out = run(
        "acn", "prepare", "--corpus.train", "text.txt", "--corpus.validation_fraction", "0.2", "--vocab_size", "100",
        "--seq_length", "16", "--row_group_blocks", "8", "--workers", "2", "--output", "tokens",
    )  # fmt: skip
    assert code == 0, out
    assert "next: acn pretrain --config acn-mini --data tokens" in out
    assert run("acn", "data", "verify", "tokens")[0] == 0
    return "tokens"


def test_two_ranks_train_in_a_folder_of_decoys(run, corpus, folder):
    code, out = run("acn", "pretrain", "--data", corpus, "--output", "run", *TINY, "--nproc_per_node", "2")
    assert code == 0, out
    assert "2 rank(s)" in out
    assert (folder / "run" / "model" / "model.safetensors").is_file()
    code, out = run("acn", "export", "run", "half", "--depth", "1")
    assert code == 0, out


@pytest.mark.slow
def test_the_script_for_torchrun_trains_there_too(run, corpus, folder):
    given = [
        "--nodes",
        "1",
        "--gpus_per_node",
        "0",
        "--torchrun.head",
        "127.0.0.1",
        "--data",
        corpus,
        "--output",
        "run",
    ]
    (folder / "tiny.yaml").write_text("steps: 1\n")
    options = f"--options={' '.join(TINY)} --precision fp32"
    code, out = run(
        "acn", "launch", "torchrun", "--config", "tiny.yaml", *given, options, "--script", "job.sh", "--dry_run"
    )
    assert code == 0, out
    code, out = run("bash", "job.sh")
    assert code == 0, out
    assert "preflight: go on" in out
    assert (folder / "run" / "model" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torchrun", "--standalone", "--nproc_per_node", "2", "--no-python", "acn"],
        ["deepspeed", "--num_accelerators", "2", "--no_local_rank", "--no_python", "acn"],
    ],
    ids=["torchrun", "deepspeed"],
)
def test_ranks_of_a_launcher_train_there_too(run, corpus, folder, launcher):
    code, out = run(*launcher, "pretrain", "--data", corpus, "--output", "run", *TINY)
    assert code == 0, out
    assert "2 rank(s)" in out
    assert (folder / "run" / "model" / "model.safetensors").is_file()


def test_the_nodes_of_a_cloud_install_what_is_published_where_there_is_no_checkout(run):
    url = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
    _, out = run("acn", "launch", "skypilot", "--nodes", "1", "--dry_run")
    task = "\n".join(line for line in out[out.index("#") :].splitlines() if not line.startswith("note: "))
    assert f"else pip install git+{url}; fi" in yaml.safe_load(task)["setup"]
