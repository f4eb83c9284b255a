# Copyright 2026 The acn-lm authors.
# Licensed under the Apache License, Version 2.0; see the LICENSE file of the project or https://www.apache.org/licenses/LICENSE-2.0
"""Configuration of the Auto-Compressing Network (ACN) model family."""

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.configuration_utils import PreTrainedConfig

CONNECTIVITIES = ("acn", "residual")


@strict
class AcnConfig(PreTrainedConfig):
    r"""
    Configuration of an [`AcnModel`]: a BERT encoder whose layers are connected as `connectivity` says. The defaults
    are the encoder of "Auto-Compressing Networks" (arXiv 2506.09714): BERT-base, vocabulary 32,768, no dropout.

    Args:
        connectivity (`str`, defaults to `"acn"`):
            `"acn"`: no short residuals, every layer is summed into the output (`x_i = f_i(x_{i-1})`,
            `y_k = x_0 + ... + x_k`). `"residual"`: numerically BERT (`x_i` includes the short residuals, `y_k = x_k`).
        sparse_prediction (`bool`, defaults to `False`):
            Given `labels` of the whole sequence, decode only where `labels != -100` (as ModernBERT does): the logits
            are then `(targets, vocab_size)`. Passing `masked_positions` does the same with static shapes.

    The other fields are those of `BertConfig`.
    """

    model_type = "acn"

    connectivity: str = "acn"
    vocab_size: int = 32768
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    classifier_dropout: float | int | None = None
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    sparse_prediction: bool = False
    tie_word_embeddings: bool = True

    def validate_connectivity(self) -> None:
        """Raise `ValueError` for a connectivity that does not exist."""
        if self.connectivity not in CONNECTIVITIES:
            raise ValueError(f"connectivity={self.connectivity!r} is unknown: use one of {', '.join(CONNECTIVITIES)}")

    def validate_architecture(self) -> None:
        """Raise `ValueError` for sizes that do not fit together."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not a multiple of num_attention_heads={self.num_attention_heads}: "
                "change one of them"
            )
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act={self.hidden_act!r} is unknown: use one of {', '.join(sorted(ACT2FN))}")
        if self.num_hidden_layers < 0:
            raise ValueError(f"num_hidden_layers={self.num_hidden_layers} is negative: use 0 (embeddings only) or more")


__all__ = ["AcnConfig"]
