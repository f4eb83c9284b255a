from .chain import TASKS, demo
from .config import DemoConfig
from .corpus import write_demo_corpus, write_demo_tasks

__all__ = ["TASKS", "DemoConfig", "demo", "write_demo_corpus", "write_demo_tasks"]
