"""The ACN model family in the Hugging Face modeling API.

Importing this package registers the Auto classes, and makes `save_pretrained` write the code beside the weights.
"""

import transformers

from . import modeling_acn
from .configuration_acn import AUTO_MAP, CONNECTIVITIES, POSITION_EMBEDDINGS, AcnConfig
from .conversion import MODEL_TYPES, acn_config_from, acn_from_bert, acn_to_bert
from .finite import divergence, name_non_finite, non_finite_weights
from .flops import forward_flops, parameters_by_depth
from .loading import head_of, load_model, model_type_of, read_config
from .modeling_acn import (
    AcnForMaskedLM,
    AcnForMultipleChoice,
    AcnForQuestionAnswering,
    AcnForSequenceClassification,
    AcnForTokenClassification,
    AcnModel,
    AcnPreTrainedModel,
)
from .precision import (
    HALF,
    Precision,
    autocast,
    choose_attention,
    choose_compile,
    compile_layers,
    cpu_multiplies_bf16,
    precision_refusal,
    precision_warning,
    resolve_precision,
)
from .probe import AcnGradientProbe, LayerGradient

for _auto_name, _reference in AUTO_MAP.items():
    _auto = getattr(transformers, _auto_name)
    if _auto is transformers.AutoConfig:
        _auto.register(AcnConfig.model_type, AcnConfig)
        AcnConfig.register_for_auto_class()
    else:
        _model = getattr(modeling_acn, _reference.partition(".")[2])
        _auto.register(AcnConfig, _model)
        _model.register_for_auto_class(_auto_name)

__all__ = [
    "CONNECTIVITIES",
    "HALF",
    "MODEL_TYPES",
    "POSITION_EMBEDDINGS",
    "AcnConfig",
    "AcnForMaskedLM",
    "AcnForMultipleChoice",
    "AcnForQuestionAnswering",
    "AcnForSequenceClassification",
    "AcnForTokenClassification",
    "AcnGradientProbe",
    "AcnModel",
    "AcnPreTrainedModel",
    "LayerGradient",
    "Precision",
    "acn_config_from",
    "acn_from_bert",
    "acn_to_bert",
    "autocast",
    "choose_attention",
    "choose_compile",
    "compile_layers",
    "cpu_multiplies_bf16",
    "divergence",
    "forward_flops",
    "head_of",
    "load_model",
    "model_type_of",
    "name_non_finite",
    "non_finite_weights",
    "parameters_by_depth",
    "precision_refusal",
    "precision_warning",
    "read_config",
    "resolve_precision",
]
