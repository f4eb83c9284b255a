"""What Kubernetes and SkyPilot would run in their containers, run on nodes with the same names and variables."""

import pytest
import yaml

from launch.cluster.engines.kubernetes import KubernetesConfig
from tests.launch.cluster.conftest import assert_each_sample_once
from tests.launch.cluster.nodes import nodes, why_not

PODS = ("acn-pretrain-0", "acn-pretrain-1")


def container(text: str, address: str) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of the container in a manifest."""
    spec = list(yaml.safe_load_all(text))[-1]["spec"]
    found = spec["trainer"] if "trainer" in spec else spec["template"]["spec"]["containers"][0]
    variables = {one["name"]: one.get("value", address) for one in found["env"]}  # the rest is the pod's address
    return [*found["command"], *found["args"]], variables


@pytest.mark.slow  # torchrun, and then Python, start in every container as they would there
@pytest.mark.parametrize("kind", ["job", "trainjob", "skypilot"])
def test_two_containers_train_together(script, tmp_path, kind):
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    if kind == "skypilot":
        text = script("skypilot", steps=6, setup=None).read_text()
    else:
        text = script("kubernetes", steps=6, setup=None, kubernetes=KubernetesConfig(kind)).read_text()
    with nodes(PODS, tmp_path, domain="acn-pretrain") as cluster:
        jobs = []
        for rank, pod in enumerate(PODS):
            if kind == "skypilot":
                task = yaml.safe_load(text)
                command, variables = ["bash", "-c", task["run"]], task["envs"]
                variables |= {
                    "SKYPILOT_NODE_IPS": "\n".join(cluster.addresses.values()), "SKYPILOT_NODE_RANK": str(rank),
                    "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NUM_GPUS_PER_NODE": "0",
                }  # fmt: skip
            else:
                command, variables = container(text, cluster.addresses[pod])
                variables |= {  # as the runtime torch-distributed sets them; a plain Job has none
                    "PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": str(rank),
                    "PET_MASTER_ADDR": PODS[0], "PET_MASTER_PORT": "29400",
                } if kind == "trainjob" else {}  # fmt: skip
            jobs.append(cluster.start(pod, command, **variables))
        assert [job.end() for job in jobs] == [0, 0], jobs[0].output + jobs[1].output
        assert "2 rank(s), ZeRO stage 2" in jobs[0].output + jobs[1].output
    assert_each_sample_once(tmp_path / "run", steps=6)
