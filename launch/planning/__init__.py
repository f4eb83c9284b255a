"""What a pretraining will need, before it is paid for: memory, time, disk and money."""

from .gpus import Gpu, find_gpu
from .plan import PlanConfig, RunPlan, plan_run
from .render import render_plan

__all__ = ["Gpu", "PlanConfig", "RunPlan", "find_gpu", "plan_run", "render_plan"]
