"""The scripts for Slurm, run by a real one."""

import json
import re
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoTokenizer

from data_pipeline import verify_corpus
from launch.cluster.engines.slurm import SlurmConfig
from launch.cluster.engines.torchrun import TorchrunConfig
from modeling import AcnConfig, AcnForMaskedLM
from tests.launch.cluster.conftest import assert_each_sample_once
from tests.launch.cluster.nodes import Job
from tests.launch.cluster.slurm import Slurm, start_slurm, why_not


@pytest.fixture
def slurm(cluster, tmp_path) -> Slurm:
    """Two nodes of Slurm."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    return start_slurm(cluster, ["node1", "node2"], tmp_path / "slurm")


@pytest.mark.slow  # a real Slurm, which schedules every few seconds, and Python on every node
def test_an_array_prepares_a_corpus_and_a_later_job_fine_tunes_with_accelerate(slurm, cluster, prepared, tmp_path):
    """`acn launch` itself submits them: the parts, the job that merges them, and one that waits for that."""
    corpus = tmp_path / "corpus.yaml"
    text = {"train": str(prepared.parent / "train.txt"), "validation": str(prepared.parent / "validation.txt")}
    corpus.write_text(yaml.safe_dump({"corpus": text, "vocab_size": 120, "seq_length": 16}))
    data = tmp_path / "tokens"
    launch = ["python", "-m", "launch.cli", "launch", "slurm", "--gpus_per_node", "0"]
    here = {"SLURM_CONF": str(slurm.conf), "SBATCH_OUTPUT": f"{tmp_path}/%x-%A-%a.out"}
    said = cluster.run(
        "head", [*launch, "--slurm.job", "prepare", "--config", str(corpus), "--data", str(data), "--name", "tokens"],
        **here,
    )  # fmt: skip
    jobs = re.search(r"array (\d+), and job (\d+) that merges its parts", said)
    assert jobs is not None, said
    model, tasks = tmp_path / "run" / "model", tmp_path / "tasks"
    tiny_model(model, prepared / "tokenizer")
    tiny_task(tasks)
    options = f"--options=--glue_dir {tasks} --epochs 1 --batch_size 8 --tracking.mlflow null"
    said = cluster.run(
        "head", [*launch, "--slurm.job", "glue", "--slurm.after", jobs[2], "--slurm.tasks", "colour", options,
                 "--output", str(tmp_path / "run"), "--name", "glue"],
        **here,
    )  # fmt: skip
    glue = re.search(r"job (\d+):", said)
    assert glue is not None, said
    assert slurm.await_end(glue[1])["JobState"] == "COMPLETED", outputs(tmp_path)
    assert verify_corpus(str(data), workers=1) == []
    results = json.loads((tmp_path / "run-glue" / "colour" / "results.json").read_text())
    assert len(results["depth_scores"]) == 3


def tiny_model(folder: Path, tokenizer: Path) -> None:
    """An untrained model of two layers."""
    words = AutoTokenizer.from_pretrained(tokenizer)
    shape = AcnConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    AcnForMaskedLM(shape).save_pretrained(folder)
    words.save_pretrained(folder)


def tiny_task(folder: Path) -> None:
    """A task of two classes with a few sentences."""
    (folder / "colour").mkdir(parents=True)
    for split, count in (("train", 32), ("validation", 8)):
        rows = [{"sentence": f"the {'red' if i % 2 else 'blue'} mat", "label": i % 2} for i in range(count)]
        (folder / "colour" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def outputs(folder: Path) -> str:
    """What the jobs printed."""
    return "".join(path.read_text() for path in folder.glob("*.out"))


SITE = SlurmConfig(
    partition="all", constraint="cpu&ib", gres="toy:1", mem="2G", account="lm",
    sbatch="--nice=5 --comment='two words'",
    srun="--label", time="30", stop_seconds=60,
)  # fmt: skip


@pytest.mark.slow  # a real Slurm, which schedules every few seconds, and Python on every node
def test_slurm_takes_what_sites_want_and_every_rank_has_a_log(slurm, script, tmp_path):
    logs = tmp_path / "logs of ranks"
    batch = script(
        "slurm", steps=4, slurm=SITE, rank_logs=str(logs), launcher_options="--monitor-interval 0.2",
        options="--log_every 2",
    )  # fmt: skip
    tested = slurm.cluster.start("head", ["sbatch", "--test-only", str(batch)], SLURM_CONF=str(slurm.conf))
    assert tested.end() == 0, tested.output
    job = slurm.client("sbatch", "--parsable", f"--output={tmp_path}/job.out", str(batch))
    queued = slurm.client("scontrol", "show", "job", job)
    for text in (
        "Partition=all",
        "Features=cpu&ib",
        "toy:1",
        "MinMemoryNode=2G",
        "Account=lm",
        "Comment=two words",
    ):
        assert text in queued, queued
    assert slurm.await_end(job)["JobState"] == "COMPLETED", (tmp_path / "job.out").read_text()
    assert_each_sample_once(tmp_path / "run", 4)
    found = {path.relative_to(logs).parts[0]: path.read_text() for path in logs.rglob("stdout.log")}
    assert set(found) == {"node1", "node2"}, "a folder for every node"
    assert "step" in "".join(found.values())
    assert re.search(r"^[01]: ", (tmp_path / "job.out").read_text(), re.MULTILINE), "srun labels the lines"


@pytest.mark.slow  # a real Slurm, which schedules every few seconds, and Python on every node
def test_a_pre_empted_job_requeues_itself_and_ends_as_if_nothing_had_been(slurm, cluster, script, tmp_path):
    steps = 600
    batch = script("slurm", steps=steps, slurm=SlurmConfig(time="30", stop_seconds=60))
    job = slurm.client("sbatch", "--parsable", f"--output={tmp_path}/job.out", str(batch))
    waiting = cluster.start("head", ["tail", "--retry", "-n", "+1", "-F", f"{tmp_path}/job.out"])
    waiting.wait_for(r"^step +40/")
    slurm.client("scancel", "--batch", "--signal=USR1", job)  # what --signal=B:USR1 has Slurm do near the time limit
    waiting.wait_for("stopped by SIGUSR1 at step")
    ended = slurm.await_end(job)
    output = (tmp_path / "job.out").read_text()
    assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), output
    assert int(ended["Restarts"]) == 1
    stopped = re.search(r"stopped by SIGUSR1 at step (\d+)", output)
    assert stopped is not None
    assert f"step-{int(stopped[1]):07d} at step {stopped[1]}" in output, "it goes on from the checkpoint of the stop"
    assert "2 rank(s), ZeRO stage 2" in output
    assert_each_sample_once(tmp_path / "run", steps)

    calm = script("torchrun", steps=steps, run="calm", torchrun=TorchrunConfig(head="node1"))
    jobs: list[Job] = [cluster.start(node, ["bash", str(calm)]) for node in ("node1", "node2")]
    assert [one.end() for one in jobs] == [0, 0], jobs[0].output
    ours, theirs = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("run", "calm"))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in theirs)
