from .config import PredictConfig
from .predict import predict_file

__all__ = ["PredictConfig", "predict_file"]
