from .config import ClusterConfig, PlanConfig, Precision
from .gpus import find_gpu
from .memory import ModelSize, activation_bytes, checkpoint_bytes, state_bytes
from .plan import RunPlan, architecture, plan_run
from .render import render_plan
from .search import search_micro_batch
from .step_time import Network, model_step_time
from .traffic import Collective, Kind, bytes_sent, step_traffic

__all__ = [
    "ClusterConfig",
    "Collective",
    "Kind",
    "ModelSize",
    "Network",
    "PlanConfig",
    "Precision",
    "RunPlan",
    "activation_bytes",
    "architecture",
    "bytes_sent",
    "checkpoint_bytes",
    "find_gpu",
    "model_step_time",
    "plan_run",
    "render_plan",
    "search_micro_batch",
    "state_bytes",
    "step_traffic",
]
