# Copyright 2026 The acn-lm authors.
# Licensed under the Apache License, Version 2.0; see the LICENSE file of the project or https://www.apache.org/licenses/LICENSE-2.0
"""Auto-Compressing Network (ACN) encoders: BERT whose layers feed forward and are all summed into the output.

The paper is "Auto-Compressing Networks" (arXiv 2506.09714). With the embeddings x_0 and the layers f_i,

    acn         x_i = f_i(x_{i-1}) without short residuals     y_k = x_0 + x_1 + ... + x_k
    residual    x_i = f_i(x_{i-1}) with BERT's short residuals  y_k = x_k

`y_k` is the *read-out at depth k*, k = 0..L. A head is trained on `y_L` and shared by every depth: `hidden_states[k]`
is `y_k`, `forward(depth=k)` runs k layers only, `truncate(k)` drops the rest and
`from_pretrained(..., num_hidden_layers=k)` never loads them; the four are equal bit for bit.

This file and configuration_acn.py work on their own (Hub remote code). Shapes: B batch, T tokens, H hidden size,
M masked positions of a sequence, V vocabulary.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, MaskedLMOutput, SequenceClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_acn import AcnConfig


class AcnEmbeddings(nn.Module):
    """BERT's embeddings: the sum of word, position and token type, then LayerNorm and dropout. This is x_0 = y_0."""

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        if position_ids is None:
            position_ids = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device).unsqueeze(0)
        if token_type_ids is None:
            token_types = self.token_type_embeddings.weight[0]
        else:
            token_types = self.token_type_embeddings(token_type_ids)
        embeddings = inputs_embeds + token_types + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(embeddings))


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention written out; query, key and value are (B, heads, T, head width), the mask is additive."""
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class AcnAttention(nn.Module):
    """Bidirectional multi-head self-attention with one fused projection for query, key and value."""

    is_causal = False

    def __init__(self, config: AcnConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        batch, length, _ = hidden_states.shape
        qkv = self.qkv_proj(hidden_states).view(batch, length, 3, -1, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        context, weights = attention(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.config.attention_probs_dropout_prob if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.out_proj(context.reshape(batch, length, -1)), weights


class AcnMLP(nn.Module):
    """The feed-forward sub-layer: W_2 act(W_1 a)."""

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act_fn = ACT2FN[config.hidden_act]
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.up_proj(hidden_states)))


class AcnLayer(GradientCheckpointingLayer):
    """One encoder layer f_i in post-norm order; connectivity decides only what is added before each LayerNorm."""

    def __init__(self, config: AcnConfig, layer_idx: int):
        super().__init__()
        self.connectivity = config.connectivity
        self.attention = AcnAttention(config, layer_idx)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = AcnMLP(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def _connect(self, branch: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        branch = self.dropout(branch)
        return branch + shortcut if self.connectivity == "residual" else branch

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        attended, _ = self.attention(hidden_states, attention_mask, **kwargs)
        attended = self.attention_norm(self._connect(attended, hidden_states))
        return self.mlp_norm(self._connect(self.mlp(attended), attended))


class AcnReadOut(nn.Module):
    """y_k from y_{k-1} and x_k, both (B, T, H). A module of its own so that `output_hidden_states` can record it."""

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.sums_layers = config.connectivity == "acn"

    def forward(self, read_out: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        return read_out + hidden_states if self.sums_layers else hidden_states


class AcnPooler(nn.Module):
    """BERT's pooler: tanh of a linear map of the read-out at [CLS]; (B, T, H) -> (B, H)."""

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, read_out: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dense(read_out[:, 0]))


class AcnPreTrainedModel(PreTrainedModel):
    """What all ACN models share: initialisation, and the tools that cut a model at a depth."""

    config: AcnConfig
    config_class = AcnConfig
    base_model_prefix = "acn"
    supports_gradient_checkpointing = True
    _no_split_modules = ["AcnEmbeddings", "AcnLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {
        # the embeddings give y_0, each read-out the next y_k
        "hidden_states": [
            OutputRecorder(AcnEmbeddings, capture_initial_hidden_state=False),
            OutputRecorder(AcnReadOut, capture_initial_hidden_state=False),
        ],
        "attentions": AcnAttention,
    }

    def __init__(self, config: AcnConfig, *args: Any, **kwargs: Any):
        # a checkpoint with more layers than this model is a deeper version of it: leaving them out is the point
        kept = "|".join(str(i) for i in range(config.num_hidden_layers))
        cut = rf"(^|\.)layers\.(?!({kept})\.)\d+\." if kept else r"(^|\.)layers\.\d+\."
        self._keys_to_ignore_on_load_unexpected = [cut]
        super().__init__(config, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """transformers' `from_pretrained`. `num_hidden_layers=k` loads the first k layers only.

        Raises:
            ValueError: more layers were asked for than the checkpoint has (transformers would initialise them at
                random).
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        absent = sorted(
            {int(key.split("layers.")[1].split(".")[0]) for key in info["missing_keys"] if "layers." in key}
        )
        if absent:
            raise ValueError(
                f"num_hidden_layers={model.config.num_hidden_layers}, but the checkpoint has no weights for layer "
                f"{', '.join(map(str, absent))}: ask for at most {absent[0]} layers"
            )
        return (model, info) if output_loading_info else model

    def truncate(self, depth: int) -> "AcnPreTrainedModel":
        """Drop every layer after the first `depth` (0..num_hidden_layers), in place; returns the model itself.

        Raises:
            ValueError: `depth` is outside 0..num_hidden_layers.
        """
        base = self.base_model
        base._check_depth(depth)
        base.layers = base.layers[:depth]
        self.config.num_hidden_layers = depth
        return self

    def head_logits(self, read_out: torch.Tensor) -> torch.Tensor:
        """The head's logits for one read-out (B, T, H) of any depth; defined by the models that have a head."""
        raise TypeError(f"{type(self).__name__} has no head: use hidden_states, which are the read-outs of every depth")

    def depth_logits(self, masked_positions: torch.Tensor | None = None, **inputs: Any) -> Iterator[torch.Tensor]:
        """The head's logits at depth 0, 1, ..., L, from one forward pass of the encoder.

        Lazy, so that the logits of one depth only are alive at a time; `torch.stack(list(...))` holds them all. With
        `masked_positions` (B, M) the head sees only those positions.
        """
        hidden_states = self.base_model(**inputs, output_hidden_states=True).hidden_states
        for read_out in hidden_states:
            yield self.head_logits(
                read_out if masked_positions is None else gather_positions(read_out, masked_positions)
            )


def gather_positions(hidden_states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """(B, T, H) at positions (B, M) -> (B, M, H)."""
    return hidden_states.gather(1, positions.unsqueeze(-1).expand(-1, -1, hidden_states.shape[-1]))


class AcnModel(AcnPreTrainedModel):
    """The bare encoder: `last_hidden_state` is the read-out y_L, `hidden_states` are the read-outs (y_0, ..., y_L)."""

    def __init__(self, config: AcnConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = AcnEmbeddings(config)
        self.layers = nn.ModuleList([AcnLayer(config, i) for i in range(config.num_hidden_layers)])
        self.read_out = AcnReadOut(config)
        self.pooler = AcnPooler(config) if add_pooling_layer else None
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings.word_embeddings = value

    def _check_depth(self, depth: int) -> None:
        if not 0 <= depth <= len(self.layers):
            raise ValueError(f"depth={depth} is outside 0..{len(self.layers)}, the depths of this model")

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        depth: int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode (B, T) ids or (B, T, H) embeddings.

        Args:
            depth: run only the first `depth` layers and read out y_depth (default: all of them).

        Raises:
            ValueError: not exactly one of `input_ids` and `inputs_embeds`, or `depth` outside 0..num_hidden_layers.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        if depth is not None:
            self._check_depth(depth)
        hidden_states = read_out = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden_states, attention_mask=attention_mask
        )
        for layer in self.layers[:depth]:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
            read_out = self.read_out(read_out, hidden_states)
        return BaseModelOutputWithPooling(
            last_hidden_state=read_out,
            pooler_output=self.pooler(read_out) if self.pooler is not None else None,
        )


class AcnMLMHead(nn.Module):
    """BERT's transform before the decoder: dense, activation, LayerNorm."""

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.act_fn = ACT2FN[config.hidden_act]
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, read_out: torch.Tensor) -> torch.Tensor:
        return self.norm(self.act_fn(self.dense(read_out)))


class AcnForMaskedLM(AcnPreTrainedModel):
    """Encoder with BERT's masked-language-model head, its decoder tied to the word embeddings."""

    _tied_weights_keys = {"decoder.weight": "acn.embeddings.word_embeddings.weight"}

    def __init__(self, config: AcnConfig):
        super().__init__(config)
        self.acn = AcnModel(config, add_pooling_layer=False)
        self.head = AcnMLMHead(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.decoder = new_embeddings

    def head_logits(self, read_out: torch.Tensor) -> torch.Tensor:
        """(..., H) -> (..., V)"""
        return self.decoder(self.head(read_out))

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        masked_positions: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        depth: int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedLMOutput:
        """Predict the masked tokens.

        Args:
            masked_positions: (B, M) positions to decode; `labels` are then (B, M) too and the logits (B, M, V). All
                shapes are static, and the decoder, the costliest matrix, sees only what the loss needs.
            labels: (B, T), or (B, M) with `masked_positions`; -100 is ignored. Without `masked_positions` the logits
                are (B, T, V), or (targets, V) with `config.sparse_prediction`.
            depth: see [`AcnModel.forward`].
        """
        outputs = self.acn(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, depth, **kwargs)
        read_out = outputs.last_hidden_state
        if masked_positions is not None:
            read_out = gather_positions(read_out, masked_positions)
        elif self.config.sparse_prediction and labels is not None:
            targets = labels != -100
            read_out, labels = read_out[targets], labels[targets]
        logits = self.head_logits(read_out)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class AcnForSequenceClassification(AcnPreTrainedModel):
    """Encoder with a classifier on the pooled [CLS] read-out; the same head serves every depth."""

    def __init__(self, config: AcnConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.acn = AcnModel(config, add_pooling_layer=False)
        self.pooler = AcnPooler(config)
        dropout = config.classifier_dropout if config.classifier_dropout is not None else config.hidden_dropout_prob
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def head_logits(self, read_out: torch.Tensor) -> torch.Tensor:
        """(B, T, H) -> (B, num_labels)"""
        return self.classifier(self.dropout(self.pooler(read_out)))

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        depth: int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Classify sequences, single label, multi label or regression as `config.problem_type` says.

        Args:
            labels: (B,) class ids; (B, num_labels) floats for multi label; floats for regression.
            depth: see [`AcnModel.forward`].
        """
        outputs = self.acn(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, depth, **kwargs)
        logits = self.head_logits(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


__all__ = ["AcnForMaskedLM", "AcnForSequenceClassification", "AcnModel", "AcnPreTrainedModel"]
