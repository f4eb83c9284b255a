from .config import PublishConfig
from .publish import publish_source

__all__ = [
    "PublishConfig",
    "publish_source",
]
