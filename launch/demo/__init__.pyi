from .chain import TASKS, DemoConfig, demo
from .corpus import write_demo_corpus, write_demo_tasks

__all__ = ["TASKS", "DemoConfig", "demo", "write_demo_corpus", "write_demo_tasks"]
