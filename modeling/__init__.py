"""The ACN model family in the Hugging Face modeling API. Importing this package registers the Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from .configuration_acn import CONNECTIVITIES, AcnConfig
from .flops import forward_flops, parameters_by_depth
from .modeling_acn import AcnForMaskedLM, AcnForSequenceClassification, AcnModel, AcnPreTrainedModel

AutoConfig.register("acn", AcnConfig)
AutoModel.register(AcnConfig, AcnModel)
AutoModelForMaskedLM.register(AcnConfig, AcnForMaskedLM)
AutoModelForSequenceClassification.register(AcnConfig, AcnForSequenceClassification)

__all__ = [
    "CONNECTIVITIES",
    "AcnConfig",
    "AcnForMaskedLM",
    "AcnForSequenceClassification",
    "AcnModel",
    "AcnPreTrainedModel",
    "forward_flops",
    "parameters_by_depth",
]
