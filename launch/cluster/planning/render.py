"""A plan as tables."""

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .plan import FILL, RESERVE, Layout, RunPlan


def render_plan(plan: RunPlan, console: Console) -> None:
    """Print the plan."""
    console.print(Group(*_blocks(plan)))


def _blocks(plan: RunPlan) -> list[RenderableType]:
    return [
        _summary(plan),
        _memory(plan),
        Text(advice(plan), style="bold"),
        Text(),
        _time(plan),
        _step_times(plan),
        Text(_assumptions(plan)),
    ]


def _summary(plan: RunPlan) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    steps = "" if plan.steps is None else f", {plan.steps:,} steps"
    on_disk = plan.checkpoint * plan.checkpoints_kept
    more = plan.recomputed_flops_per_token / 1e9
    again = f" and {more:,.3f} computed again, which the times count" if more else ""
    for name, value in (
        ("parameters", f"{plan.parameters / 1e6:,.1f} million, vocabulary {plan.vocab_size:,}"),
        ("arithmetic", f"{plan.flops_per_token / 1e9:,.3f} GFLOPs per token in training{again}, {plan.precision}"),
        ("cluster", f"{plan.ranks} x {plan.gpu.name} ({plan.gpu.memory / 1e9:.0f} GB, "
                    f"{plan.gpu.flops / 1e12:,.0f} TFLOP/s dense {plan.precision})"),
        ("global batch", f"{plan.tokens_per_step:,} tokens{steps}; each GPU {plan.accumulation} micro-batch(es) of "
                         f"{plan.micro_batch} x {plan.seq_length}"),
        ("checkpoint", f"{_gb(plan.checkpoint)} GB, {_gb(on_disk)} GB for {plan.checkpoints_kept} at a time"),
    ):  # fmt: skip
        table.add_row(name, value)
    return table


def _memory(plan: RunPlan) -> Table:
    table = Table(title="\nGB on each GPU", title_justify="left")
    table.add_column("ZeRO stage")
    taught = ["teacher"] if any(layout.teacher for layout in plan.layouts) else []
    names = ["weights", "gradients", "optimizer", "buffers", "activations", *taught, "total"]
    for name in (*names, "fits"):
        table.add_column(name, justify="right")
    for layout in plan.layouts:
        parts = [getattr(layout, name) for name in names]
        table.add_row(_name(layout), *map(_gb, parts), "yes" if layout.fits else "no")
        if layout.stage == 3:
            table.add_section()
    return table


def _name(layout: Layout) -> str:
    measures = ["checkpointing"] if layout.checkpointing else []
    measures += ["offload"] if layout.offload else []
    return ", ".join([str(layout.stage), *measures])


def advice(plan: RunPlan) -> str:
    """Which layout to take, as the options that choose it."""
    best = plan.best
    if best is None:
        return "Nothing fits: make micro_batch_size smaller, or take more GPUs or larger ones."
    options = [f"--zero_stage {best.stage}", f"--micro_batch_size {plan.micro_batch}"]
    options += ["--activation_checkpointing true"] if best.checkpointing else []
    options += ["--offload.optimizer cpu"] if best.offload else []
    return f"Take {' '.join(options)}"


def _time(plan: RunPlan) -> Table:
    daily = plan.tokens_per_second * 86400
    title = (
        f"Time at {plan.mfu:.0%} MFU, {plan.step_time.efficiency:.0%} efficiency: "
        f"{plan.tokens_per_second:,.0f} tokens/s, {daily / 1e9:,.1f} billion a day"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("training")
    for name in ("tokens (billions)", "time", "GPU-hours", "price"):
        table.add_column(name, justify="right")
    for course in plan.courses:
        price = "-" if course.price is None else f"{course.price:,.0f}"
        days = f"{course.days:,.2f} days" if course.days >= 1 else f"{course.days * 24:,.2f} hours"
        table.add_row(course.connectivity, f"{course.tokens / 1e9:,.2f}", days, f"{course.gpu_hours:,.0f}", price)
    return table


def _step_times(plan: RunPlan) -> Table:
    table = Table(title=f"\nStep time by number of GPUs, ZeRO stage {plan.stage}, milliseconds", title_justify="left")
    for name in ("GPUs", "micro-batches", "compute", "communication", "not hidden", "step", "tokens/s", "efficiency"):
        table.add_column(name, justify="right")
    for time in sorted([plan.step_time, *plan.other_sizes], key=lambda time: time.ranks):
        parts = (time.compute, time.communication, time.exposed, time.seconds)
        table.add_row(
            f"{time.ranks:,}", f"{time.accumulation} x {time.micro_batch}", *(f"{1e3 * part:,.2f}" for part in parts),
            f"{time.tokens_per_second:,.0f}", f"{time.efficiency:.0%}", style="bold" if time is plan.step_time else "",
        )  # fmt: skip
    return table


def _assumptions(plan: RunPlan) -> str:
    twins = " Both connectivities cost the same per token; the paper trains the residual twin on half the tokens."
    twins = twins if len(plan.courses) > 1 else ""
    lines = [
        f"States are exact, activations estimated (eager layers with fused attention). A layout fits when it takes at "
        f"most {FILL:.0%} of the memory less {RESERVE / 1e9:.0f} GB.{twins}",
        "MFU is that of one GPU while it computes, the same for every number of GPUs and micro-batch. Communication is "
        f"DeepSpeed's volume at {plan.gpu.node_bandwidth / 1e9:,.4g} GB/s per GPU within a node and "
        f"{plan.gpu.network_bandwidth / 1e9:,.4g} between nodes (hierarchical rings, NCCL's latencies); what DeepSpeed "
        "starts beside a pass hides behind it, all buckets but one. The time that activation checkpointing and offload "
        "cost is not in it. docs/cluster.md has the model.",
    ]
    if all(course.price is None for course in plan.courses):
        lines.append("For a price give --price_per_gpu_hour.")
    return " ".join(lines)


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f}"
