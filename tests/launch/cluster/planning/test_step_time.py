"""The model of step time: its limits, and figures worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import Problem
from launch.cluster.planning import ClusterConfig, PlanConfig, find_gpu, plan_run
from launch.cluster.planning.memory import ModelSize
from launch.cluster.planning.step_time import (
    CALL_LATENCY,
    NETWORK_LATENCY,
    NODE_LATENCY,
    Network,
    exposed_seconds,
    model_step_time,
)
from launch.cluster.planning.traffic import Collective, step_traffic
from launch.errors import LaunchError
from pretrain import PretrainConfig

GB = 1e9


def recipe(**fields) -> PlanConfig:
    cluster = {name: value for name, value in fields.items() if name in ClusterConfig.__dataclass_fields__}
    recipe = {name: value for name, value in fields.items() if name not in cluster}
    return PlanConfig(
        **{"nodes": 1, "gpus": 8, **cluster}, recipe=PretrainConfig("", "", **{"precision": "bf16", **recipe})
    )


def test_one_gpu_has_no_communication():
    plan = plan_run(recipe(gpus=1))
    assert plan.step_time.communication == plan.step_time.exposed == 0
    assert plan.step_time.efficiency == 1
    assert plan.tokens_per_second == pytest.approx(989e12 * 0.4 / plan.flops_per_token)


def test_with_boundless_links_only_latencies_are_left():
    plan = plan_run(recipe(nodes=16, node_bandwidth=1e12, network_bandwidth=1e12))
    time = plan.step_time
    assert time.compute == pytest.approx(plan.tokens_per_step * plan.flops_per_token / (128 * 989e12 * 0.4))
    hops = NODE_LATENCY * 3 + NETWORK_LATENCY * 4
    small_and_gradients, gathers = 4 + math.ceil(111.2 / 25.2), 2
    latencies = (small_and_gradients + gathers) * CALL_LATENCY + (2 * small_and_gradients + gathers) * hops
    assert time.communication == pytest.approx(latencies, rel=1e-4)


def test_an_all_reduce_over_two_nodes_by_hand():
    """8 GB on 2 nodes of 4 GPUs: 3/4 of it goes over each GPU's NVLink, then 1/2 of its quarter over its network card;
    both twice."""
    network = Network(4, node_bandwidth=300 * GB, network_bandwidth=25 * GB)
    latency = CALL_LATENCY + 2 * (2 * NODE_LATENCY + NETWORK_LATENCY)
    expected = 2 * (6 / 300 + 1 / 25) + latency
    assert network.seconds(Collective("all_reduce", 8 * GB), 8) == pytest.approx(expected)
    gather = network.seconds(Collective("all_gather", 8 * GB), 4)
    assert gather == pytest.approx(6 / 300 + CALL_LATENCY + 2 * NODE_LATENCY)


def test_what_travels_beside_a_pass_is_hidden_but_for_one_bucket():
    network = Network(2, node_bandwidth=1 * GB, network_bandwidth=1 * GB)

    def exposed(collective, compute, overlap=True, accumulation=1):
        return exposed_seconds([collective], network, 2, compute, accumulation, overlap)

    # 1 GB in 4 buckets takes a second, and three quarters of it find something to hide behind
    gradients = Collective("all_reduce", 1 * GB, 4, "last backward")
    assert exposed(gradients, 30.0) == pytest.approx(0.25, rel=1e-3)
    assert exposed(gradients, 30.0, overlap=False) == pytest.approx(1.0, rel=1e-3)
    assert exposed(gradients, 0.3) == pytest.approx(0.8, rel=1e-3)  # the backward pass lasts 0.2 s
    assert exposed(gradients, 0.6, accumulation=2) == pytest.approx(0.8, rel=1e-3)  # and so does the last of two
    assert exposed(Collective("all_reduce", 1 * GB, 4, "after"), 30.0) == pytest.approx(1.0, rel=1e-3)
    assert exposed(Collective("all_reduce", 1 * GB, 1, "last backward"), 30.0) == pytest.approx(1.0, rel=1e-3)


@given(
    stage=st.integers(0, 3),
    accumulation=st.integers(1, 64),
    parameters=st.integers(10**6, 10**10),
    overlap=st.booleans(),
    compute=st.floats(1e-3, 100),
)
def test_never_less_than_nothing_is_exposed_nor_more_than_there_is(stage, accumulation, parameters, overlap, compute):
    traffic = step_traffic(ModelSize(parameters), stage, "fp32", accumulation)
    network = Network(8, 360 * GB, 40 * GB)
    time = model_step_time(
        traffic, network, ranks=64, micro_batch=1, accumulation=accumulation, tokens=1, rank_seconds=compute,
        overlap=overlap,
    )  # fmt: skip
    assert 0 < time.exposed <= time.communication * (1 + 1e-9)
    assert time.seconds == time.compute + time.exposed


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("micro_batch", [8, 256])
def test_efficiency_falls_and_speed_rises_with_the_ranks_at_a_fixed_global_batch(stage, micro_batch):
    config = recipe(zero_stage=stage, micro_batch_size=micro_batch, gpu_memory=0.001 + 2)  # nothing fits: as asked for
    plan = plan_run(config)
    assert plan.stage == stage
    times = sorted([plan.step_time, *plan.other_sizes], key=lambda time: time.ranks)
    assert [time.ranks for time in times] == [8, 16, 32, 64, 128, 256, 512, 1024]
    assert all(time.accumulation * time.micro_batch * time.ranks == 2048 for time in times)
    efficiencies = [time.efficiency for time in times]
    assert efficiencies == sorted(efficiencies, reverse=True)
    compute = [time.compute for time in times]
    assert compute == pytest.approx([compute[0] / 2**k for k in range(8)])


def test_stages_cost_what_they_send():
    """DeepSpeed's stage 1 sends half as much again as plain data parallelism; stage 2 again for each micro-batch."""
    times = []
    for stage, accumulation in ((0, 1), (1, 1), (2, 1), (2, 4)):
        traffic = step_traffic(ModelSize(10**9), stage, "bf16", accumulation)
        times.append(sum(Network(8, 1 * GB, 1 * GB).seconds(one, 8) for one in traffic))
    assert [time / times[0] for time in times] == pytest.approx([1, 1.5, 1.5, 4.5], rel=0.01)


def test_only_whole_machines_and_divisors_of_the_global_batch_are_planned():
    assert [time.ranks for time in plan_run(recipe(gpus=4, global_batch_size=96)).other_sizes] == [8, 16, 32]
    plan = plan_run(recipe(gpus=6, global_batch_size=96))
    assert (plan.step_time.ranks, plan.other_sizes) == (6, [])


def test_links_are_those_of_the_data_sheet_or_as_given():
    gpu = find_gpu("A100", "bf16")
    assert not isinstance(gpu, Problem)
    assert (gpu.node_bandwidth, gpu.network_bandwidth) == pytest.approx((0.8 * 300e9, 0.8 * 25e9))
    gpu = find_gpu("abacus", "bf16", 10, 20, 30, 40)
    assert not isinstance(gpu, Problem)
    assert (gpu.memory, gpu.flops, gpu.node_bandwidth, gpu.network_bandwidth) == (10e9, 20e12, 30e9, 40e9)
    assert str(find_gpu("abacus", "bf16", 10, 20)) == (
        "gpu=abacus: not known in bf16; give --node_bandwidth and --network_bandwidth, or one of "
        "B200, H200, H100 NVL, H100 PCIE, H100, A100 40, A100, A40, A10, L40S, L4, V100, RTX 4090, RTX 3090, MI325X, "
        "MI300X, MI250X"
    )


def test_bad_bandwidths_are_said_with_all_other_problems():
    with pytest.raises(LaunchError) as caught:
        plan_run(recipe(node_bandwidth=0.0, network_bandwidth=-1.0, mfu=2.0))
    for part in ("node_bandwidth=0.0 must be above 0", "network_bandwidth=-1.0 must be above 0", "mfu=2.0"):
        assert part in str(caught.value)
