from .configuration_acn import CONNECTIVITIES, POSITION_EMBEDDINGS, AcnConfig
from .conversion import MODEL_TYPES, acn_config_from, acn_from_bert, acn_to_bert
from .finite import divergence, name_non_finite, non_finite_weights
from .flops import (
    AnyConfig,
    Architecture,
    forward_flops,
    layer_flops,
    parameters_by_depth,
    recomputed_flops,
    tensor_sizes,
)
from .loading import head_of, load_model, model_type_of, read_config, wiring_problem
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
from .supervised import kl_divergence, supervised_loss
from .supervision import DepthSupervision, DepthWeights

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
    "AnyConfig",
    "Architecture",
    "DepthSupervision",
    "DepthWeights",
    "LayerGradient",
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
    "kl_divergence",
    "layer_flops",
    "load_model",
    "model_type_of",
    "name_non_finite",
    "non_finite_weights",
    "parameters_by_depth",
    "precision_refusal",
    "precision_warning",
    "read_config",
    "recomputed_flops",
    "resolve_precision",
    "supervised_loss",
    "tensor_sizes",
    "wiring_problem",
]
