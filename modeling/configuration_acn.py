# Copyright 2026 The acn-lm authors.
# Licensed under the Apache License, Version 2.0; see the LICENSE file of the project or https://www.apache.org/licenses/LICENSE-2.0
"""Configuration of the Auto-Compressing Network (ACN) model family."""

from typing import Any, Literal, NamedTuple

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig


class Connectivity(NamedTuple):
    """How the layers are wired. This is all that distinguishes the members of the family."""

    shortcut: Literal["none", "identity", "learned"]
    """What a sub-layer's input is multiplied by before it is added to the sub-layer's output: 0, 1 or a learned scalar
    of the layer."""
    sums_layers: bool
    """The read-out y_k is x_0 + ... + x_k (else x_k)."""
    streams: int = 1
    """States of a token between two layers; with 2 each sub-layer is added to the stream that it does not read, and the
    layer's input can be computed from its output."""


CONNECTIVITIES = {
    "acn": Connectivity("none", sums_layers=True),
    "residual": Connectivity("identity", sums_layers=False),
    "feedforward": Connectivity("none", sums_layers=False),
    "hybrid": Connectivity("learned", sums_layers=True),
    "reversible": Connectivity("identity", sums_layers=False, streams=2),
}

POSITION_EMBEDDINGS = ("absolute", "rope")

# what a machine without this project needs to find the classes in a saved folder
AUTO_MAP = {
    "AutoConfig": "configuration_acn.AcnConfig",
    "AutoModel": "modeling_acn.AcnModel",
    "AutoModelForMaskedLM": "modeling_acn.AcnForMaskedLM",
    "AutoModelForSequenceClassification": "modeling_acn.AcnForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_acn.AcnForTokenClassification",
    "AutoModelForQuestionAnswering": "modeling_acn.AcnForQuestionAnswering",
    "AutoModelForMultipleChoice": "modeling_acn.AcnForMultipleChoice",
}


@strict
class AcnConfig(PreTrainedConfig):
    """Configuration of an [`AcnModel`]: a BERT encoder whose layers are connected as `connectivity` says.

    The defaults are the encoder of "Auto-Compressing Networks" (arXiv 2506.09714): BERT-base, vocabulary 32,768, no
    dropout. A bad value raises `huggingface_hub`'s `StrictDataclassError`, which names the field.
    """

    model_type = "acn"

    connectivity: str = "acn"
    """acn: no short residuals, every layer is summed into the output (x_i = f_i(x_{i-1}), y_k = x_0 + ... + x_k).
    residual: numerically BERT (x_i includes the short residuals, y_k = x_k). feedforward: no residuals at all
    (y_k = x_k). hybrid: acn with short residuals scaled by one learned scalar per layer. reversible: two streams, from
    which training computes the activations again instead of keeping them (y_k is the LayerNorm of their mean)."""
    hybrid_init: float | int = 0.0
    """Initial value of hybrid's scalars: 0 starts as acn, 1 with the residual layers."""
    vocab_size: int = 32768
    """Token ids."""
    hidden_size: int = 768
    """Width of the token states."""
    num_hidden_layers: int = 12
    """Number of layers L; 0 is the embeddings alone."""
    num_attention_heads: int = 12
    """Attention heads; must divide hidden_size, unless head_dim is given."""
    head_dim: int | None = None
    """Width of an attention head; None: hidden_size / num_attention_heads. Given where heads were removed."""
    intermediate_size: int = 3072
    """Width inside the feed-forward sub-layer."""
    hidden_act: str = "gelu"
    """Activation of the feed-forward sub-layer and of the masked-language-model head: any of transformers' ACT2FN."""
    gated_mlp: bool = False
    """Feed-forward act(W_g a) * (W_u a) instead of act(W_u a): with hidden_act gelu this is GeGLU, with silu SwiGLU
    (Shazeer 2020, arXiv 2002.05202). Two thirds of the intermediate_size keep the parameter count."""
    hidden_dropout_prob: float | int = 0.0
    """Dropout after the embeddings and each sub-layer."""
    attention_probs_dropout_prob: float | int = 0.0
    """Dropout on the attention weights."""
    classifier_dropout: float | int | None = None
    """Dropout before a classifier; None: hidden_dropout_prob."""
    classifier_activation: str = "tanh"
    """Between the two linear maps on the pooled [CLS] read-out: any of transformers' ACT2FN. BERT and RoBERTa have
    tanh, DistilBERT relu, ELECTRA gelu."""
    position_embedding_type: str = "absolute"
    """absolute: learned embeddings added to the tokens' (the paper, BERT). rope: queries and keys are rotated by their
    positions (Su et al. 2021, arXiv 2104.09864)."""
    rope_theta: float | int = 10000.0
    """Base of rope's wavelengths."""
    max_position_embeddings: int = 512
    """Longest sequence of absolute positions; rope takes any length."""
    type_vocab_size: int = 2
    """Token types (first and second sentence)."""
    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""
    identity_attention_init: bool = False
    """Add the identity to the initial query, key, value and output projections: every token then attends to itself
    first, so that a stack without short residuals passes tokens on instead of averaging them."""
    layer_norm_eps: float = 1e-12
    """Added to the variance in every LayerNorm."""
    pad_token_id: int | None = 0
    """Token id of padding; its embedding starts at zero and gets no gradient as an input."""
    sparse_prediction: bool = False
    """Given labels of the whole sequence, decode only where labels != -100 (ModernBERT's name and meaning): the logits
    are then (targets, vocab_size). Passing masked_positions does the same with static shapes."""
    tie_word_embeddings: bool = True
    """The masked-language-model decoder shares the word embeddings."""

    @property
    def is_reversible(self) -> bool:
        """Whether the layers have two streams; weights of such a model are of no use to another, and the reverse."""
        return CONNECTIVITIES[self.connectivity].streams == 2

    @property
    def head_width(self) -> int:
        """Width of an attention head."""
        return self.hidden_size // self.num_attention_heads if self.head_dim is None else self.head_dim

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        """transformers' `save_pretrained`; where code is written too, `auto_map` names every class of the family."""
        if self._auto_class is not None:  # transformers itself would map only the class that is being saved
            self.auto_map = dict(AUTO_MAP)
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def validate_names(self) -> None:
        """Raise `ValueError` for a connectivity, activation or position embedding that does not exist."""
        for field, known in (
            ("connectivity", CONNECTIVITIES),
            ("position_embedding_type", POSITION_EMBEDDINGS),
            ("hidden_act", sorted(ACT2FN)),
            ("classifier_activation", sorted(ACT2FN)),
        ):
            if getattr(self, field) not in known:
                raise ValueError(f"{field}={getattr(self, field)!r} is unknown: use one of {', '.join(known)}")

    def validate_architecture(self) -> None:
        """Raise `ValueError` for sizes that do not fit together."""
        if self.num_attention_heads < 1 or (self.head_dim is None and self.hidden_size % self.num_attention_heads):
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}: "
                "change one of them"
            )
        if self.head_width < 1:
            raise ValueError(f"head_dim={self.head_dim}: give 1 or more, or None for hidden_size / num_attention_heads")
        if self.position_embedding_type == "rope" and self.head_width % 2:
            raise ValueError(
                f"position_embedding_type='rope' rotates pairs, but hidden_size={self.hidden_size} over "
                f"num_attention_heads={self.num_attention_heads} gives an odd head width: change one of them"
            )
        if self.identity_attention_init and self.num_attention_heads * self.head_width != self.hidden_size:
            raise ValueError(
                f"identity_attention_init needs square projections, but num_attention_heads={self.num_attention_heads} "
                f"times head_dim={self.head_width} is not hidden_size={self.hidden_size}: change one of them"
            )
        if self.num_hidden_layers < 0:
            raise ValueError(f"num_hidden_layers={self.num_hidden_layers} is negative: use 0 (embeddings only) or more")


__all__ = ["AUTO_MAP", "CONNECTIVITIES", "POSITION_EMBEDDINGS", "AcnConfig", "Connectivity"]
