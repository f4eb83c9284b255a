# Copyright 2026 The acn-lm authors.
# Licensed under the Apache License, Version 2.0; see the LICENSE file of the project or https://www.apache.org/licenses/LICENSE-2.0
"""Auto-Compressing Network (ACN) encoders: BERT whose layers feed forward and are all summed into the output.

The paper is "Auto-Compressing Networks" (arXiv 2506.09714). With the embeddings x_0 and the layers f_i,

    acn          x_i = f_i(x_{i-1}) without short residuals          y_k = x_0 + x_1 + ... + x_k
    residual     x_i = f_i(x_{i-1}) with BERT's short residuals      y_k = x_k
    feedforward  x_i = f_i(x_{i-1}) without short residuals          y_k = x_k
    hybrid       x_i = f_i(x_{i-1}) with s_i times those residuals   y_k = x_0 + x_1 + ... + x_k
    reversible   x_i = (s, t), each plus a branch of the other       y_k = LN((s_k + t_k) / 2), y_0 = x_0

`y_k` is the *read-out at depth k*, k = 0..L. A head is trained on `y_L` and shared by every depth: `hidden_states[k]`
is `y_k`, `forward(depth=k)` runs k layers only, `truncate(k)` drops the rest and
`from_pretrained(..., num_hidden_layers=k)` never loads them; the four are equal bit for bit.

`from_bert` alone needs conversion.py beside it; otherwise this file, configuration_acn.py and reversible.py work on
their own, as Hub remote code. Shapes: B batch, T tokens, H hidden size, D head width, M masked positions of a sequence,
V vocabulary.
"""

from collections.abc import Callable, Collection, Generator, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask, packed_sequence_mask_function
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple, is_flash_attention_requested, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_acn import CONNECTIVITIES, AcnConfig
from .reversible import Rebuilding


class AcnEmbeddings(nn.Module):
    """BERT's embeddings: the sum of word, position and token type, then LayerNorm and dropout. This is x_0 = y_0.

    With rope there are no position embeddings: positions enter in the attention.
    """

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = (
            nn.Embedding(config.max_position_embeddings, config.hidden_size)
            if config.position_embedding_type == "absolute"
            else None
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        position_ids: torch.Tensor,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        embeddings = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if token_type_ids is None:
            embeddings = embeddings + self.token_type_embeddings.weight[0]
        else:
            embeddings = embeddings + self.token_type_embeddings(token_type_ids)
        if self.position_embeddings is not None:
            embeddings = embeddings + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(embeddings))


def document_positions(seq_idx: torch.Tensor) -> torch.Tensor:
    """Positions that restart wherever the document changes: document of each token (B, T) -> (B, T)."""
    index = torch.arange(seq_idx.shape[1], device=seq_idx.device)
    starts = F.pad(seq_idx[:, 1:] != seq_idx[:, :-1], (1, 0), value=True)
    return index - torch.where(starts, index, 0).cummax(dim=1).values


def documents_of_lengths(cu_seq_lens: torch.Tensor, batch: int, length: int) -> torch.Tensor:
    """The document (B, T) of each token from the cumulative lengths (documents + 1,) over the flattened batch."""
    tokens = torch.arange(batch * length, device=cu_seq_lens.device)
    return torch.bucketize(tokens, cu_seq_lens[1:], right=True).view(batch, length)


PACKED_LENGTHS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
"""What the variable-length flash kernels want to know of packed rows."""


def lengths_of_documents(seq_idx: torch.Tensor) -> dict[str, Any]:
    """The `PACKED_LENGTHS` of packed rows; waits for the device."""
    starts = F.pad(seq_idx[:, 1:] != seq_idx[:, :-1], (1, 0), value=True).flatten().nonzero().flatten()
    cumulative = F.pad(starts, (0, 1), value=seq_idx.numel()).to(torch.int32)
    longest = int(cumulative.diff().max())
    return {
        "cu_seq_lens_q": cumulative,
        "cu_seq_lens_k": cumulative,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def rotations(config: AcnConfig, position_ids: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Rope's cosines and sines (B, 1, T, D) of positions (B, T), computed in float32 or better.

    Nothing is kept between calls: a buffer would have to survive meta devices, dtype casts and longer sequences.
    """
    width = config.head_width
    precise = torch.promote_types(dtype, torch.float32)
    exponents = torch.arange(0, width, 2, device=position_ids.device, dtype=precise) / width
    angles = position_ids[:, None, :, None].to(precise) * config.rope_theta**-exponents
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(vectors: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Rotate each pair (d, d + D/2) of vectors (B, heads, T, D)."""
    first, second = vectors.chunk(2, dim=-1)
    return vectors * cosines + torch.cat((-second, first), dim=-1) * sines


def gather_positions(hidden_states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """(B, T, H) at positions (B, M) -> (B, M, H)."""
    return hidden_states.gather(1, positions.unsqueeze(-1).expand(-1, -1, hidden_states.shape[-1]))


def at_query_positions(values: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    """Rotations or a mask (B or 1, 1, T, X) at positions (B, M) -> (B, 1, M, X); what all queries share stays."""
    if positions is None or values.shape[2] == 1:
        return values
    values = values.expand(len(positions), -1, -1, -1)
    return values.gather(2, positions[:, None, :, None].expand(-1, values.shape[1], -1, values.shape[3]))


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


class AcnProjection(nn.Linear):
    """A projection of the attention, whose initial weight may have the identity added (see `_init_weights`)."""


class AcnQueryKeyValue(AcnProjection):
    """The fused projection for query, key and value, which lie in its rows one after the other."""

    def apart(self, query_states: torch.Tensor, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries (B, M, width) of some states (B, M, H); keys and values (B, T, 2 * width) of others (B, T, H)."""
        width = self.out_features // 3
        queries = F.linear(query_states, self.weight[:width], self.bias[:width])
        return queries, F.linear(hidden_states, self.weight[width:], self.bias[width:])

    def forward(self, hidden_states: torch.Tensor, query_states: torch.Tensor | None = None) -> Any:
        # one entrance for both, because ZeRO 3 has a module's weights whole only while it is called
        return super().forward(hidden_states) if query_states is None else self.apart(query_states, hidden_states)


class AcnAttention(nn.Module):
    """Bidirectional multi-head self-attention with one fused projection for query, key and value."""

    is_causal = False

    def __init__(self, config: AcnConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_width
        self.scaling = self.head_dim**-0.5
        width = config.num_attention_heads * self.head_dim
        self.qkv_proj = AcnQueryKeyValue(config.hidden_size, 3 * width)
        self.out_proj = AcnProjection(width, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        query_positions: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, T, H) -> (B, T, H), or (B, M, H) where only `query_positions` (B, M) attend."""
        query, key, value = self._query_key_value(hidden_states, query_positions)
        if position_embeddings is not None:
            of_queries = [at_query_positions(part, query_positions) for part in position_embeddings]
            query, key = rotate(query, *of_queries), rotate(key, *position_embeddings)
        if attention_mask is not None:
            attention_mask = at_query_positions(attention_mask, query_positions)
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
        return self.out_proj(context.flatten(2)), weights

    def _query_key_value(
        self, hidden_states: torch.Tensor, query_positions: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        """Each (B, heads, T or M, head width)."""
        batch, length, _ = hidden_states.shape
        if query_positions is None:
            qkv = self.qkv_proj(hidden_states).view(batch, length, 3, -1, self.head_dim)
            return qkv.permute(2, 0, 3, 1, 4).unbind(0)
        query, key_value = self.qkv_proj(hidden_states, gather_positions(hidden_states, query_positions))
        key, value = key_value.view(batch, length, 2, -1, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        return query.view(batch, query.shape[1], -1, self.head_dim).transpose(1, 2), key, value


class AcnMLP(nn.Module):
    """The feed-forward sub-layer: W_2 act(W_1 a), or W_2 (act(W_g a) * W_1 a) with W_g and W_1 in one projection."""

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.gated = config.gated_mlp
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size * (2 if self.gated else 1))
        self.act_fn = ACT2FN[config.hidden_act]
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        inner = self.up_proj(hidden_states)
        if self.gated:
            gate, inner = inner.chunk(2, dim=-1)
            return self.down_proj(self.act_fn(gate) * inner)
        return self.down_proj(self.act_fn(inner))


class AcnShortcut(nn.Module):
    """The short residual around a sub-layer as the connectivity has it: none, the input, or the input times a scalar.

    The two sub-layers of a layer share it. The scalar is a vector of one element, so that optimizers which decay only
    matrices leave it alone.
    """

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.kind = CONNECTIVITIES[config.connectivity].shortcut
        if self.kind == "learned":
            self.scale = nn.Parameter(torch.full((1,), float(config.hybrid_init)))

    def forward(self, branch: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        if self.kind == "none":
            return branch
        return branch + (shortcut if self.kind == "identity" else self.scale * shortcut)


class AcnLayer(GradientCheckpointingLayer):
    """One encoder layer f_i in post-norm order; connectivity decides only what is added before each LayerNorm."""

    def __init__(self, config: AcnConfig, layer_idx: int):
        super().__init__()
        self.attention = AcnAttention(config, layer_idx)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = AcnMLP(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.shortcut = AcnShortcut(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        query_positions: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """(B, T, H) -> (B, T, H), or (B, M, H): `query_positions` (B, M) alone, the others as what these attend to."""
        attended, _ = self.attention(hidden_states, attention_mask, query_positions=query_positions, **kwargs)
        if query_positions is not None:
            hidden_states = gather_positions(hidden_states, query_positions)
        attended = self.attention_norm(self.shortcut(self.dropout(attended), hidden_states))
        return self.mlp_norm(self.shortcut(self.dropout(self.mlp(attended)), attended))


class AcnStreamLayerNorm(nn.LayerNorm):
    """A LayerNorm of a stream in the stream's precision; what comes out has that of the weights."""

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        weight, bias = self.weight.to(stream.dtype), self.bias.to(stream.dtype)
        return F.layer_norm(stream, self.normalized_shape, weight, bias, self.eps).to(self.weight.dtype)


class AcnReversibleLayer(nn.Module):
    """A layer of two streams: s += dropout(Attention(LN(t))), then t += dropout(MLP(LN(s))).

    The norms come first, so that what is added to a stream is a function of the other alone (see reversible.py).
    """

    def __init__(self, config: AcnConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.attention_norm = AcnStreamLayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = AcnAttention(config, layer_idx)
        self.mlp_norm = AcnStreamLayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = AcnMLP(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        query_positions: torch.Tensor | None = None,
        part: str | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """The streams side by side, (B, T, 2H) -> (B, T, 2H), or (B, M, 2H) at `query_positions` (B, M).

        With `part` "attention" or "mlp": what that sub-layer adds to one stream, from the other one (B, T, H).
        """
        if part == "mlp":
            return self.dropout(self.mlp(self.mlp_norm(hidden_states)))
        if part == "attention":
            normed = self.attention_norm(hidden_states)
            attended, _ = self.attention(normed, attention_mask, query_positions=query_positions, **kwargs)
            return self.dropout(attended)
        first, second = hidden_states.chunk(2, dim=-1)
        attended = self.forward(second, attention_mask, query_positions, "attention", **kwargs)
        if query_positions is not None:
            first, second = gather_positions(first, query_positions), gather_positions(second, query_positions)
        first = first + attended
        return torch.cat((first, second + self.forward(first, part="mlp")), dim=-1)


class AcnReadOut(nn.Module):
    """y_k from y_{k-1} (B, T, H) and x_k (B, T, H or 2H). A module of its own so that `output_hidden_states` can record
    it.

    Of two streams it is the LayerNorm of their mean, which all depths share as they share the head.
    """

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.sums_layers = CONNECTIVITIES[config.connectivity].sums_layers
        self.norm = AcnStreamLayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.is_reversible else None

    def forward(self, read_out: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.norm is not None:
            first, second = hidden_states.chunk(2, dim=-1)
            return self.norm((first + second) / 2)
        return read_out + hidden_states if self.sums_layers else hidden_states


class AcnPooler(nn.Module):
    """BERT's pooler: tanh (or what else the classifier's activation is) of a linear map of the read-out at [CLS].

    (B, T, H) -> (B, H)
    """

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.act_fn = ACT2FN[config.classifier_activation]

    def forward(self, read_out: torch.Tensor) -> torch.Tensor:
        return self.act_fn(self.dense(read_out[:, 0]))


class AcnPreTrainedModel(PreTrainedModel):
    """What all ACN models share: initialisation, and the tools that cut a model at a depth."""

    config: AcnConfig
    config_class = AcnConfig
    base_model_prefix = "acn"
    supports_gradient_checkpointing = True
    _no_split_modules = ["AcnEmbeddings", "AcnLayer", "AcnReversibleLayer"]
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

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, AcnShortcut) and module.kind == "learned":
            init.constant_(module.scale, float(self.config.hybrid_init))
        if isinstance(module, AcnProjection) and self.config.identity_attention_init:
            identity = torch.eye(module.in_features).repeat(module.out_features // module.in_features, 1)
            init.copy_(module.weight, module.weight + identity.to(module.weight))

    @classmethod
    def from_bert(cls, bert: Any, connectivity: str = "acn", **overrides: Any) -> Any:
        """This class with the weights of a BERT checkpoint: identical outputs for `residual`, a warm start otherwise.

        Args:
            bert: a transformers model of the BERT line (bert, roberta, xlm-roberta, camembert, distilbert, electra), or
                the folder or Hub name of one.
            connectivity: see [`AcnConfig`].
            overrides: other fields of the configuration, e.g. `num_hidden_layers=k` for the first k layers.

        Raises:
            ValueError: the checkpoint is no encoder of that line, or an override asks for weights that it does not
                have.
        """
        from .conversion import acn_from_bert

        return acn_from_bert(cls, bert, connectivity, **overrides)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """transformers' `from_pretrained`. `num_hidden_layers=k` loads the first k layers only.

        Raises:
            ValueError: more layers were asked for than the checkpoint has (transformers would initialise them at
                random).
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        lacking = [key for key in info["missing_keys"] if "layers." in key and not key.endswith("shortcut.scale")]
        absent = sorted({int(key.split("layers.")[1].split(".")[0]) for key in lacking})
        # a file without any layer is another kind of checkpoint (a head alone, say), unless layers were asked for
        if absent and (absent[0] > 0 or "num_hidden_layers" in kwargs):
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

    def depth_logits(self, **inputs: Any) -> Iterator[torch.Tensor]:
        """The head's logits at depth 0, 1, ..., L, from one forward pass of the encoder; takes its inputs.

        Lazy: layer k runs when the logits of depth k are asked for, so a caller that is content early stops there, and
        the read-out and logits of one depth only are alive at a time; `torch.stack(list(...))` holds them all.
        """
        for read_out in self.base_model.read_outs(**inputs):
            yield self.head_logits(read_out)


def select_rows(value: Any, rows: torch.Tensor, batch: int) -> Any:
    """The rows (B',) of every tensor (B, ...) in what a layer takes beside its input; what all rows share stays.

    Raises:
        ValueError: there is something that cannot be divided by rows (flex attention's block masks, packed lengths).
    """
    if isinstance(value, torch.Tensor) and value.ndim > 1:  # a mask or rotations; (1, ...) is shared
        return value[rows] if len(value) == batch else value
    if isinstance(value, tuple):
        return tuple(select_rows(item, rows, batch) for item in value)
    if isinstance(value, dict):
        return {name: select_rows(item, rows, batch) for name, item in value.items()}
    if value is None or isinstance(value, bool):
        return value
    raise ValueError(f"{type(value).__name__} has no rows to select: use attn_implementation='sdpa' and unpacked rows")


def is_asked_for(name: str, config: AcnConfig, kwargs: Any) -> bool:
    """Whether an output is, by an argument or by the configuration."""
    return bool(kwargs.get(name) if name in kwargs else getattr(config, name, False))


def records_outputs(config: AcnConfig, kwargs: Any) -> bool:
    """Whether the read-outs of every depth, or attention weights, are asked for."""
    return any(is_asked_for(name, config, kwargs) for name in ("output_hidden_states", "output_attentions"))


class AcnModel(AcnPreTrainedModel):
    """The bare encoder: `last_hidden_state` is the read-out y_L, `hidden_states` are the read-outs (y_0, ..., y_L)."""

    def __init__(self, config: AcnConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = AcnEmbeddings(config)
        layer = AcnReversibleLayer if config.is_reversible else AcnLayer
        self.layers = nn.ModuleList([layer(config, i) for i in range(config.num_hidden_layers)])
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

    def _check_length(self, length: int, positions: torch.Tensor | None) -> None:
        """Raise `ValueError` for more tokens than absolute positions.

        Nothing waits for the device: a length is known here, and the positions (B, T) of packed rows are looked at on
        a CPU only. An exported graph is for any length.
        """
        most = self.config.max_position_embeddings
        if self.embeddings.position_embeddings is None or torch.compiler.is_exporting() or length <= most:
            return
        if positions is not None:
            if torch.compiler.is_compiling() or positions.device.type != "cpu" or int(positions.max()) < most:
                return
            length = int(positions.max()) + 1
        raise ValueError(
            f"a text has {length} tokens, but the model reads at most max_position_embeddings={most}: cut it, as a "
            f"tokenizer does with truncation=True, max_length={most}"
        )

    def _embed(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        seq_idx: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """x_0, and what every layer takes beside its input: mask, rotations, lengths of packed documents."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        tokens: torch.Tensor = input_ids if inputs_embeds is None else inputs_embeds  # type: ignore[assignment]
        batch, length = tokens.shape[:2]
        if seq_idx is None and kwargs.get("cu_seq_lens_q") is not None:
            seq_idx = documents_of_lengths(kwargs["cu_seq_lens_q"], batch, length)
        if position_ids is None and seq_idx is not None:
            position_ids = document_positions(seq_idx)
        self._check_length(length, position_ids)
        if position_ids is None:
            position_ids = torch.arange(length, device=tokens.device).unsqueeze(0)
        embeddings = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        if self.config.position_embedding_type == "rope":
            kwargs["position_embeddings"] = rotations(self.config, position_ids, embeddings.dtype)
        if seq_idx is not None:
            return embeddings, self._attend_within_documents(embeddings, attention_mask, seq_idx, kwargs)
        kwargs["attention_mask"] = create_bidirectional_mask(
            config=self.config, inputs_embeds=embeddings, attention_mask=attention_mask
        )
        return embeddings, kwargs

    def _attend_within_documents(
        self,
        embeddings: torch.Tensor,
        attention_mask: torch.Tensor | None,
        seq_idx: torch.Tensor,
        kwargs: dict[str, Any],
    ) -> dict[str, Any]:
        """Lengths for flash kernels, a block-diagonal mask for the others. Padding is one more document."""
        if attention_mask is not None:
            seq_idx = seq_idx.masked_fill(attention_mask == 0, -1)
        if is_flash_attention_requested(self.config):
            if attention_mask is not None or kwargs.get("max_length_q") is None:
                kwargs |= lengths_of_documents(seq_idx)
            return kwargs | {"attention_mask": None}
        mask = create_bidirectional_mask(
            config=self.config,
            inputs_embeds=embeddings,
            attention_mask=None,
            and_mask_function=packed_sequence_mask_function(seq_idx),
        )
        # the mask says it all; lengths that differ from batch to batch would have compiled layers compiled anew
        rest = {name: value for name, value in kwargs.items() if name not in PACKED_LENGTHS}
        return rest | {"attention_mask": mask}

    def _streams(self, embeddings: torch.Tensor) -> torch.Tensor:
        """What the first layer is given: x_0, or both streams beginning as x_0, in float32 or better.

        In half precision the streams could not be computed back: what is added to them would be lost in rounding.
        """
        if not self.config.is_reversible:
            return embeddings
        precise = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        return torch.cat((precise, precise), dim=-1)

    def _runner(self, hidden_states: torch.Tensor, keeps: bool = False) -> Callable[..., torch.Tensor]:
        """What runs a layer on its input: the layer itself, or in training, where nobody `keeps` what is computed on
        the way, something that lets go of it until the backward pass. Compilers of whole models decide that themselves.
        """
        if self.config.is_reversible and self.training and torch.is_grad_enabled() and not keeps:
            learns = hidden_states.requires_grad or any(weight.requires_grad for weight in self.layers.parameters())
            if learns and not torch.compiler.is_compiling():
                return Rebuilding()
        return lambda layer, *args, **kwargs: layer(*args, **kwargs)

    def read_outs(
        self, left_out: Collection[int] = (), **inputs: Any
    ) -> Generator[torch.Tensor, torch.Tensor | None, None]:
        """y_0, y_1, ..., y_L (B, T, H), each computed when it is asked for; takes the inputs of `forward`.

        Layers (from 0) that are `left_out` are not run: each hands on what it was given and adds nothing to the sum.

        A caller that is done with some rows sends the indices (B',) of the others to the generator, which answers with
        the next read-out (B', T, H) of those: the layers to come do not compute the rest.
        """
        read_out, layer_inputs = self._embed(**inputs)
        hidden_states = self._streams(read_out)
        run = self._runner(hidden_states)
        rows = yield read_out
        for i, layer in enumerate(self.layers):
            if rows is not None:
                layer_inputs = select_rows(layer_inputs, rows, len(hidden_states))
                hidden_states, read_out = hidden_states[rows], read_out[rows]
                run = self._runner(hidden_states)
            if i not in left_out:
                hidden_states = run(layer, hidden_states, **layer_inputs)
                read_out = self.read_out(read_out, hidden_states)
            rows = yield read_out

    def _attends_from_some_positions(self) -> bool:
        """Whether the attention takes fewer queries than keys: packed lengths and block masks are of whole rows."""
        return self.config._attn_implementation in ("eager", "sdpa")

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
        seq_idx: torch.Tensor | None = None,
        read_out_positions: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode (B, T) ids or (B, T, H) embeddings.

        Args:
            depth: run only the first `depth` layers and read out y_depth (default: all of them).
            read_out_positions: (B, M) read out these positions only: `last_hidden_state` is (B, M, H), and the last
                layer computes the others no further than the keys and values that these attend to.
            seq_idx: (B, T) which document of its row each token belongs to, for rows of several packed documents:
                tokens attend within their document only and positions restart with it. The tokens of a document are
                contiguous. `cu_seq_lens_q` (of transformers' `DataCollatorWithFlattening`) says the same.

        Raises:
            ValueError: not exactly one of `input_ids` and `inputs_embeds`, more tokens than there are absolute
                positions, `depth` outside 0..num_hidden_layers, or `read_out_positions` with outputs of every depth,
                which are of all positions.
        """
        if depth is not None:
            self._check_depth(depth)
        if read_out_positions is not None and records_outputs(self.config, kwargs):
            raise ValueError("read_out_positions does not go with output_hidden_states or output_attentions")
        read_out, layer_inputs = self._embed(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, seq_idx, **kwargs
        )
        hidden_states = self._streams(read_out)
        run = self._runner(hidden_states, keeps=is_asked_for("output_attentions", self.config, kwargs))
        layers = self.layers[:depth]
        for i, layer in enumerate(layers, 1):
            if read_out_positions is not None and i == len(layers) and self._attends_from_some_positions():
                layer_inputs["query_positions"] = read_out_positions
                read_out = gather_positions(read_out, read_out_positions)
                run = self._runner(hidden_states, keeps=True)  # of the other positions nothing is left to go back to
            hidden_states = run(layer, hidden_states, **layer_inputs)
            read_out = self.read_out(read_out, hidden_states)
        if read_out_positions is not None and "query_positions" not in layer_inputs:
            read_out = gather_positions(read_out, read_out_positions)
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

    def depth_logits(self, masked_positions: torch.Tensor | None = None, **inputs: Any) -> Iterator[torch.Tensor]:
        """See [`AcnPreTrainedModel.depth_logits`]; with `masked_positions` (B, M) only those are decoded."""
        for read_out in self.acn.read_outs(**inputs):
            yield self.head_logits(
                read_out if masked_positions is None else gather_positions(read_out, masked_positions)
            )

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
                shapes are static, and the decoder, the costliest matrix, sees only what the loss needs; so does the
                last layer in training.
            labels: (B, T), or (B, M) with `masked_positions`; -100 is ignored. Without `masked_positions` the logits
                are (B, T, V), or (targets, V) with `config.sparse_prediction`.
            depth: see [`AcnModel.forward`].
        """
        # only in training: evaluation keeps to the read-outs of every depth bit by bit, and what is recorded on the way
        # is of all positions
        early = masked_positions if self.training and not records_outputs(self.config, kwargs) else None
        outputs = self.acn(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, depth, read_out_positions=early,
            **kwargs,
        )  # fmt: skip
        read_out = outputs.last_hidden_state
        if masked_positions is not None:
            read_out = read_out if early is not None else gather_positions(read_out, masked_positions)
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


def first_tokens(inputs: dict[str, Any]) -> torch.Tensor | None:
    """Where the documents of packed rows begin, (N,) in the flattened batch (B * T); None for rows of one each.

    With `cu_seq_lens_q` it is known; with `seq_idx` alone this waits for the device.
    """
    if inputs.get("cu_seq_lens_q") is not None:
        return inputs["cu_seq_lens_q"][:-1].long()
    seq_idx, mask = inputs.get("seq_idx"), inputs.get("attention_mask")
    if seq_idx is None:
        return None
    starts = F.pad(seq_idx[:, 1:] != seq_idx[:, :-1], (1, 0), value=True)
    return (starts if mask is None else starts & (mask != 0)).flatten().nonzero().flatten()


def pick_first_tokens(read_out: torch.Tensor, starts: torch.Tensor | None) -> torch.Tensor:
    """A read-out (B, T, H) as rows of one document, cut to the first token: (N, 1, H); as it is without `starts`."""
    return read_out if starts is None else read_out.flatten(0, 1)[starts].unsqueeze(1)


def classifier_dropout(config: AcnConfig) -> nn.Dropout:
    """The dropout before a classifier."""
    own = config.classifier_dropout
    return nn.Dropout(config.hidden_dropout_prob if own is None else own)


class AcnPooledClassifier(AcnPreTrainedModel):
    """What the heads on the pooled [CLS] read-out share."""

    def __init__(self, config: AcnConfig, num_scores: int):
        super().__init__(config)
        self.acn = AcnModel(config, add_pooling_layer=False)
        self.pooler = AcnPooler(config)
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, num_scores)
        self.post_init()

    def head_logits(self, read_out: torch.Tensor) -> torch.Tensor:
        """(B, T, H) -> (B, scores)"""
        return self.classifier(self.dropout(self.pooler(read_out)))

    def _positions_read(self, tokens: torch.Tensor | None, kwargs: Any) -> torch.Tensor | None:
        """[CLS] (B, 1) for `read_out_positions` in training, which pools nothing else; None: all positions.

        Evaluation keeps to the read-outs of every depth bit by bit, and what is recorded on the way is of all
        positions.
        """
        if tokens is None or not self.training or records_outputs(self.config, kwargs):
            return None
        return torch.zeros((len(tokens), 1), dtype=torch.long, device=tokens.device)


class AcnForSequenceClassification(AcnPooledClassifier):
    """Encoder with a classifier on the pooled [CLS] read-out; the same head serves every depth."""

    def __init__(self, config: AcnConfig):
        super().__init__(config, config.num_labels)
        self.num_labels = config.num_labels

    def depth_logits(self, **inputs: Any) -> Iterator[torch.Tensor]:
        """See [`AcnPreTrainedModel.depth_logits`]; of packed rows, (N, num_labels) of the N documents."""
        starts = first_tokens(inputs)
        for read_out in self.acn.read_outs(**inputs):
            yield self.head_logits(pick_first_tokens(read_out, starts))

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

        Rows may hold several documents each, said by `cu_seq_lens_q` or `seq_idx` (see [`AcnModel.forward`]). All N of
        them are then classified, in their order, each by its own first token.

        Args:
            labels: (B,) or (N,) class ids; (B or N, num_labels) floats for multi label; floats for regression.
            depth: see [`AcnModel.forward`].
        """
        starts = first_tokens({"attention_mask": attention_mask, **kwargs})
        tokens = inputs_embeds if input_ids is None else input_ids
        outputs = self.acn(
            input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, depth,
            read_out_positions=self._positions_read(tokens, kwargs) if starts is None else None, **kwargs,
        )  # fmt: skip
        logits = self.head_logits(pick_first_tokens(outputs.last_hidden_state, starts))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config, **kwargs)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def flatten_choices(inputs: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Inputs (B, C, T, ...) as (B * C, T, ...), and the number of choices C."""
    tokens = inputs["input_ids"] if inputs.get("input_ids") is not None else inputs["inputs_embeds"]
    flat = {name: value.flatten(0, 1) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    return flat, tokens.shape[1]


class AcnForMultipleChoice(AcnPooledClassifier):
    """Encoder with one score per choice on the pooled [CLS] read-out (SWAG, and the like)."""

    def __init__(self, config: AcnConfig):
        super().__init__(config, 1)

    def _check_one_document_per_row(self, inputs: Any) -> None:
        packed = [name for name in ("seq_idx", "cu_seq_lens_q") if inputs.get(name) is not None]
        if packed:
            raise ValueError(
                f"{packed[0]}: {type(self).__name__} pools the first token of a row, so give it one document per row"
            )

    def depth_logits(self, **inputs: Any) -> Iterator[torch.Tensor]:
        """The scores (B, C) at depth 0, 1, ..., L; see [`AcnPreTrainedModel.depth_logits`]."""
        self._check_one_document_per_row(inputs)
        flat, choices = flatten_choices(inputs)
        for scores in super().depth_logits(**flat):
            yield scores.view(-1, choices)

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
    ) -> MultipleChoiceModelOutput:
        """Score the choices of every example; all inputs are (B, C, T) with C choices.

        Args:
            labels: (B,) the right choice.
            depth: see [`AcnModel.forward`].
        """
        self._check_one_document_per_row(kwargs)
        flat, choices = flatten_choices(
            {
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "token_type_ids": token_type_ids,
                "position_ids": position_ids,
                "inputs_embeds": inputs_embeds,
            }
        )
        cls = self._positions_read(flat["inputs_embeds"] if input_ids is None else flat["input_ids"], kwargs)
        outputs = self.acn(**flat, depth=depth, read_out_positions=cls, **kwargs)
        logits = self.head_logits(outputs.last_hidden_state).view(-1, choices)
        loss = None if labels is None else F.cross_entropy(logits.float(), labels)
        return MultipleChoiceModelOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class AcnForTokenClassification(AcnPreTrainedModel):
    """Encoder with a classifier on every token's read-out (named entities, parts of speech)."""

    def __init__(self, config: AcnConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.acn = AcnModel(config, add_pooling_layer=False)
        self.dropout = classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def head_logits(self, read_out: torch.Tensor) -> torch.Tensor:
        """(B, T, H) -> (B, T, num_labels)"""
        return self.classifier(self.dropout(read_out))

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
    ) -> TokenClassifierOutput:
        """Classify tokens.

        Args:
            labels: (B, T) class ids; -100 is ignored.
            depth, seq_idx: see [`AcnModel.forward`].
        """
        outputs = self.acn(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, depth, **kwargs)
        logits = self.head_logits(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config, **kwargs)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class AcnForQuestionAnswering(AcnPreTrainedModel):
    """Encoder with a start and an end score on every token's read-out (extractive question answering)."""

    def __init__(self, config: AcnConfig):
        super().__init__(config)
        self.acn = AcnModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def head_logits(self, read_out: torch.Tensor) -> torch.Tensor:
        """(B, T, H) -> (B, T, 2): start and end"""
        return self.qa_outputs(read_out)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        depth: int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> QuestionAnsweringModelOutput:
        """Find the span that answers.

        Args:
            start_positions, end_positions: (B,) the first and last token of the answer; outside the sequence: ignored.
            depth, seq_idx: see [`AcnModel.forward`].
        """
        outputs = self.acn(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, depth, **kwargs)
        start_logits, end_logits = self.head_logits(outputs.last_hidden_state).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = self.loss_function(start_logits, end_logits, start_positions, end_positions, **kwargs)
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits.contiguous(),
            end_logits=end_logits.contiguous(),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


__all__ = [
    "AcnForMaskedLM",
    "AcnForMultipleChoice",
    "AcnForQuestionAnswering",
    "AcnForSequenceClassification",
    "AcnForTokenClassification",
    "AcnModel",
    "AcnPreTrainedModel",
]
