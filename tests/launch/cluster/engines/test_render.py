"""`acn launch`: the scripts, what is checked before, and who they are handed to."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from launch.cluster.engines.config import ENGINES, LaunchConfig
from launch.cluster.engines.environment import variables
from launch.cluster.engines.kubernetes import KubernetesConfig
from launch.cluster.engines.render import committed, render_job
from launch.cluster.engines.slurm import SlurmConfig
from launch.cluster.engines.torchrun import TorchrunConfig

ROOT = Path(__file__).parents[4]
BASE = str(ROOT / "launch/recipes/acn-base.yaml")


@pytest.fixture(scope="module")
def scripts() -> dict[Path, str]:
    """What the committed scripts should be, by path."""
    here = Path.cwd()
    os.chdir(ROOT)
    try:
        return dict(committed())
    finally:
        os.chdir(here)


def test_the_committed_scripts_are_the_templates_with_the_defaults(scripts):
    """`python -m launch.cluster.engines.render` writes them anew."""
    assert {path: path.read_text() for path in scripts} == scripts


def test_every_shell_script_parses(scripts):
    shells = [path for path in scripts if path.suffix in {".sh", ".sbatch"}]
    assert len(shells) == 6
    for path in shells:
        done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), path


def test_every_training_script_sets_every_variable(scripts):
    wanted = {variable.name for variable in variables("eth0", 8)} | {"OMP_NUM_THREADS"}
    for path, text in scripts.items():
        if path.name in {"prepare.sbatch", "glue.sbatch"}:
            continue
        given = wanted - {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"} if path.parent.name == "skypilot" else wanted
        assert [name for name in given if name not in text] == [], path


def test_the_kubernetes_files_are_what_the_api_servers_take(scripts):
    """Against the models that Kubeflow Trainer publishes of its own resources and of Kubernetes'."""
    models = pytest.importorskip("kubeflow_trainer_api.models")
    kinds = {
        "TrainJob": models.TrainerV1alpha1TrainJob, "Job": models.IoK8sApiBatchV1Job,
        "Service": models.IoK8sApiCoreV1Service,
    }  # fmt: skip
    seen = []
    cpus = replace(LaunchConfig("kubernetes", config=BASE, dry_run=True), gpus_per_node=0)
    texts = [text for path, text in scripts.items() if path.parent.name == "kubernetes"]
    for text in [*texts, render_job(replace(cpus, kubernetes=KubernetesConfig("job")))]:
        for resource in yaml.safe_load_all(text):
            model = kinds[resource["kind"]].from_dict(resource)
            assert model is not None
            assert model.to_dict() == resource, "a field that the model does not know is dropped from it"
            seen.append(resource["kind"])
    assert sorted(seen) == ["Job", "Job", "Service", "Service", "TrainJob"]


def test_a_misspelt_field_of_kubernetes_would_be_found():
    models = pytest.importorskip("kubeflow_trainer_api.models")
    wrong = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"completionsMode": "Indexed", "template": {}}}
    assert models.IoK8sApiBatchV1Job.from_dict(wrong).to_dict() != wrong


def test_pods_run_a_script_that_parses(scripts):
    for path in (path for path in scripts if path.parent.name == "kubernetes"):
        resources = list(yaml.safe_load_all(path.read_text()))
        spec = resources[-1]["spec"]
        container = spec["trainer"] if "trainer" in spec else spec["template"]["spec"]["containers"][0]
        done = subprocess.run(["bash", "-n", "-c", *container["args"]], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_skypilot_file_loads(scripts):
    sky = pytest.importorskip("sky", reason="SkyPilot wants an environment of its own: half a gigabyte")
    task = sky.Task.from_yaml(str(ROOT / "launch/cluster/skypilot/pretrain.yaml"))
    assert task.num_nodes == 2


def test_the_issue_s_command_prints_a_script_with_the_values_filled_in(acn):
    code, out, err = acn(
        "launch", "slurm", "--config", BASE, "--nodes", "4", "--gpus_per_node", "8", "--dry_run",
        "--data", "/data/it's here", "--options=--steps 100 --seed 3", "--slurm.partition", "a100",
    )  # fmt: skip
    assert code == 0
    for line in ("#SBATCH --nodes=4", "#SBATCH --gpus-per-node=8", "#SBATCH --partition=a100", f"CONFIG={BASE}"):
        assert line in out
    assert """DATA='/data/it'"'"'s here'""" in out
    assert "OPTIONS=(--steps 100 --seed 3 --micro_batch_size 64)" in out
    assert "micro_batch_size 64: the recipe's 256 does not divide a rank's share of 64 blocks" in err


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_writes_a_script_and_submits_nothing(acn, tmp_path, engine):
    options = ["--config", BASE, "--nodes", "2", "--gpus_per_node", "0", "--dry_run", "--script", "dir/job"]
    assert acn("launch", engine, *options)[0] == 0
    assert acn("launch", engine, *options)[0] == 0, "the same once more"
    text = (tmp_path / "dir" / "job").read_text()
    assert BASE in text
    assert "gpus-per-node" not in text
    assert "nvidia" not in text
    code, _, err = acn("launch", engine, *options, "--options=--seed 7")
    assert code == 2
    assert "script=dir/job exists and is another one" in err
    assert (tmp_path / "dir" / "job").read_text() == text


MISTAKES = {
    "engine='slrm' must be one of": ["slrm"],
    "nodes=0 must be at least 1": ["slurm", "--nodes", "0"],
    "data is missing": ["slurm"],
    "kubernetes.image does nothing on slurm": ["slurm", "--kubernetes.image", "mine"],
    "max_restarts does nothing on deepspeed": ["deepspeed", "--max_restarts", "5"],
    "slurm.tasks does nothing on slurm": ["slurm", "--slurm.tasks", "rte"],
    "slurm.time='soon'": ["slurm", "--slurm.time", "soon"],
    "torchrun.min_nodes=3 must be from 1 to nodes=2": ["torchrun", "--torchrun.min_nodes", "3"],
    "kubernetes.volume='A B'": ["kubernetes", "--kubernetes.volume", "A B"],
    'options="--seed \'3"': ["slurm", "--options=--seed '3"],
    "values that need quotes": ["kubernetes", "--options=--init_from 'my run'"],
    "there is no such file here": ["slurm", "--config", "missing.yaml", "--dry_run"],
    "global_batch_size=2048 is not a multiple of the 24 ranks": ["slurm", "--nodes", "3", "--dry_run"],
    "of the 3 ranks": ["torchrun", "--nodes=4", "--gpus_per_node=1", "--torchrun.min_nodes=1", "--dry_run"],
    "zero_stage": ["slurm", "--options=--zero_stage 7", "--dry_run"],
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_is_named_before_anything_is_submitted(acn, message):
    given = MISTAKES[message]
    code, out, err = acn("launch", given[0], *([] if "--config" in given else ["--config", BASE]), *given[1:])
    assert code == 2
    assert message in err
    assert "#!/bin/bash" not in out


def test_a_missing_program_is_said_with_the_mend(acn, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for engine, program in {"slurm": "sbatch", "kubernetes": "kubectl", "skypilot": "sky", "deepspeed": "pdsh"}.items():
        code, _, err = acn("launch", engine, "--config", BASE, "--data", "D", "--output", "O")
        assert code == 2
        assert f"{program} is not on this machine" in err


def typed(engine: str) -> dict[str, str]:
    """Every text option that the script of an engine has, as the committed script has it or has nothing of it."""
    common = {"config": "acn-base", "data": "/shared/tokens", "output": "/shared/runs/acn", "name": "acn-pretrain"}
    own = {
        "slurm": {"slurm.time": "24:00:00"},
        "torchrun": {"torchrun.head": "node1"},
        "deepspeed": {"deepspeed.hostfile": "hostfile"},
        "kubernetes": {"kubernetes.image": KubernetesConfig().image, "kubernetes.volume": "shared"},
        "skypilot": {"skypilot.bucket": "my-acn-bucket", "skypilot.gpu": "H100"},
    }
    return {**common, **own[engine]}


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_typed_is_never_taken_for_a_placeholder_or_a_default(acn, engine):
    """The paths of the handbook and of the mounted volume, and the setup that would have been filled in."""
    words = [word for name, value in typed(engine).items() for word in (f"--{name}", value)]
    with_setup = [] if engine in ("kubernetes", "skypilot") else ["--setup", LaunchConfig(engine).shell_setup]
    code, out, err = acn("launch", engine, *words, *with_setup, "--dry_run")
    assert code == 0, err
    assert "/shared/tokens" in out
    assert "/shared/runs/acn" in out
    defaults = acn("launch", engine, "--dry_run")[1]
    assert out == (defaults.replace(LaunchConfig(engine).shell_setup, with_setup[1]) if with_setup else defaults)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["data", "output", "setup", "interface", "name", "config"])
def test_an_empty_value_is_not_taken_for_one_that_is_left_out(acn, engine, name):
    code, out, err = acn("launch", engine, "--config", BASE, f"--{name}=", "--dry_run")
    assert (code, out) == (2, "")
    assert f"{name} is empty: give a value, or leave it out" in err


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Put a program on the PATH that notes its arguments, and the script it was given, and answers."""

    def make(name: str, answer: str, code: int = 0) -> Path:
        notes = tmp_path / f"{name}.notes"
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            f'#!/bin/bash\necho "$@" >>{notes}\ncat "${{@: -1}}" >>{notes}\necho "{answer}"\nexit {code}\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return notes

    return make


def test_the_rendered_script_is_what_is_submitted(acn, fake):
    notes = fake("kubectl", "job.batch/acn-pretrain created")
    code, out, _ = acn("launch", "kubernetes", "--config", BASE, "--data", "/shared/t", "--output", "/shared/r")
    assert code == 0
    assert "job.batch/acn-pretrain created" in out
    assert notes.read_text().startswith("apply -f ")
    assert "kind: TrainJob" in notes.read_text()


def test_a_corpus_is_prepared_by_an_array_and_a_job_that_merges_after_it(acn, fake):
    notes = fake("sbatch", "71")
    corpus = str(ROOT / "launch/recipes/acn-base-corpus.yaml")
    given = ["--config", corpus, "--data", "/shared/t", "--nodes", "5"]
    code, out, _ = acn("launch", "slurm", "--slurm.job", "prepare", *given)
    assert code == 0
    assert "array 71" in out
    assert "--array=0 --dependency=afterok:71" in notes.read_text()
    assert "#SBATCH --array=1-5" in notes.read_text()


def test_what_the_engine_refuses_is_passed_on(acn, fake):
    fake("sbatch", "", code=1)
    code, _, err = acn("launch", "slurm", "--config", BASE, "--data", "/shared/t", "--output", "/shared/r")
    assert code == 1
    assert "sbatch --parsable" in err
    assert "failed (1)" in err


def test_a_job_may_wait_for_another_and_charge_an_account():
    config = LaunchConfig("slurm", dry_run=True, slurm=SlurmConfig("glue", account="lab", after="12"))
    text = render_job(config)
    assert "#SBATCH --dependency=afterok:12" in text
    assert "#SBATCH --account=lab" in text
    assert "accelerate launch" in text


def test_an_elastic_job_needs_a_batch_for_every_number_of_nodes(acn):
    config = LaunchConfig("torchrun", nodes=4, torchrun=TorchrunConfig("head", min_nodes=1), dry_run=True)
    assert config.problems() == []
    options = "--global_batch_size 1536 --micro_batch_size 64"
    given = ["--config", BASE, "--nodes=4", "--gpus_per_node=8", "--torchrun.min_nodes=1", f"--options={options}"]
    code, out, err = acn("launch", "torchrun", *given, "--dry_run")
    assert code == 0, err
    assert "--micro_batch_size 16" in out, "the largest that divides the shares of 8, 16, 24 and 32 ranks"


def test_the_handbook_explains_every_variable():
    text = (ROOT / "docs" / "cluster.md").read_text()
    names = [variable.name for gpus in (0, 8) for variable in variables("eth0", gpus)]
    assert [name for name in names if f"`{name}`" not in text] == []
