from .card import (
    LOCAL,
    classifier_front,
    cut_body,
    depth_table,
    describe_data,
    score_entry,
    suite_table,
)
from .compress import CutSummary, compress_model
from .config import CompressConfig
from .markdown import Markdown, code, escape, link, markdown_table, public_path, read_templates
from .onnx_model import INPUTS, ONNX_FILE, check_installed, export_onnx, open_session, quantize_int8
from .speed import depth_seconds, measure_speed

__all__ = [
    "INPUTS",
    "LOCAL",
    "ONNX_FILE",
    "CompressConfig",
    "CutSummary",
    "Markdown",
    "check_installed",
    "classifier_front",
    "code",
    "compress_model",
    "cut_body",
    "depth_seconds",
    "depth_table",
    "describe_data",
    "escape",
    "export_onnx",
    "link",
    "markdown_table",
    "measure_speed",
    "open_session",
    "public_path",
    "quantize_int8",
    "read_templates",
    "score_entry",
    "suite_table",
]
