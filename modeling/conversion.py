# Copyright 2026 The acn-lm authors.
# Licensed under the Apache License, Version 2.0; see the LICENSE file of the project or https://www.apache.org/licenses/LICENSE-2.0
"""Weights from BERT to the ACN family and back.

The two differ in names, and in that here query, key and value are one projection. Everything else is the same tensor.
"""

import re
from typing import Any

import torch
import transformers
from transformers.utils import logging

from .configuration_acn import AcnConfig

logger = logging.get_logger(__name__)

# fields that mean the same in BertConfig and AcnConfig
SHARED_FIELDS = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "max_position_embeddings",
    "type_vocab_size", "initializer_range", "layer_norm_eps", "pad_token_id", "tie_word_embeddings", "id2label",
    "label2id", "problem_type",
)  # fmt: skip

# (BERT, ACN), the longer of two names with a common ending first
_MODULES = (
    ("attention.output.dense", "attention.out_proj"),
    ("attention.output.LayerNorm", "attention_norm"),
    ("intermediate.dense", "mlp.up_proj"),
    ("output.dense", "mlp.down_proj"),
    ("output.LayerNorm", "mlp_norm"),
    ("cls.predictions.transform.dense", "head.dense"),
    ("cls.predictions.transform.LayerNorm", "head.norm"),
    ("cls.predictions.decoder", "decoder"),
)
_PARTS = ("query", "key", "value")


def _to_acn_name(name: str) -> str:
    """Name of a weight in AcnModel's or a head's own namespace, from one of BERT's without "bert."."""
    name = re.sub(r"^encoder\.layer\.", "layers.", name)
    for theirs, ours in _MODULES:
        name, renamed = re.subn(rf"(^|\.){re.escape(theirs)}\.(weight|bias)$", rf"\1{ours}.\2", name)
        if renamed:
            break
    return name


def _to_bert_name(name: str) -> str:
    """The inverse of `_to_acn_name`."""
    name = re.sub(r"^layers\.", "encoder.layer.", name)
    for theirs, ours in _MODULES:
        name, renamed = re.subn(rf"(^|\.){re.escape(ours)}\.(weight|bias)$", rf"\1{theirs}.\2", name)
        if renamed:
            break
    return name


def _fused(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`layers.i.attention.self.{query,key,value}` as `layers.i.attention.qkv_proj`."""
    fused = {}
    for name, value in weights.items():
        match = re.fullmatch(r"(.*attention\.)self\.(\w+)\.(weight|bias)", name)
        if match is None:
            fused[name] = value
        elif match[2] == _PARTS[0]:
            fused[f"{match[1]}qkv_proj.{match[3]}"] = torch.cat(
                [weights[f"{match[1]}self.{part}.{match[3]}"] for part in _PARTS]
            )
    return fused


def _load_bert(cls: type, bert: Any) -> Any:
    """`bert` itself, or the BERT of that name with the head that `cls` has."""
    if isinstance(bert, transformers.PreTrainedModel):
        return bert
    kind = transformers.AutoConfig.from_pretrained(bert, trust_remote_code=False).model_type
    if kind != "bert":
        raise ValueError(f"{bert} is of model_type {kind!r}, not 'bert': from_bert takes BERT checkpoints only")
    return getattr(transformers, cls.__name__.replace("Acn", "Bert")).from_pretrained(bert)


def acn_from_bert(cls: Any, bert: Any, connectivity: str, **overrides: Any) -> Any:
    """A `cls` of the ACN family with BERT's weights, in BERT's dtype and in evaluation mode.

    What only `cls` has (a head that the BERT lacks) is initialised afresh, with a warning; what only the BERT has is
    left out.

    Args:
        cls: a class of modeling_acn.py.
        bert: a transformers BERT model, or the folder or Hub name of one.
        overrides: fields of the configuration.

    Raises:
        ValueError: not a BERT encoder, or an override asks for encoder weights of other shapes or more layers.
    """
    bert = _load_bert(cls, bert)
    theirs = bert.config
    if theirs.model_type != "bert" or theirs.is_decoder:
        raise ValueError(f"{type(bert).__name__} (is_decoder={getattr(theirs, 'is_decoder', None)}) is no BERT encoder")
    config = AcnConfig(
        **{name: getattr(theirs, name) for name in SHARED_FIELDS} | {"connectivity": connectivity} | overrides
    )
    model = cls(config).to(bert.dtype)
    renamed = _fused({_to_acn_name(name.removeprefix("bert.")): v for name, v in bert.state_dict().items()})
    prefix = "" if model.base_model is model else "acn."
    source = {(prefix if name.startswith(("embeddings.", "layers.")) else "") + name: v for name, v in renamed.items()}
    own = model.state_dict()
    misfits = sorted(
        name
        for name, value in own.items()
        if (source[name].shape != value.shape if name in source else _is_copied(name, prefix))
    )
    if misfits:
        raise ValueError(
            f"{', '.join(overrides) or 'the checkpoint'}: BERT has no weights of the right shape for "
            f"{', '.join(misfits[:3])}: change only fields that leave its shapes as they are"
        )
    fresh = sorted(name for name in own if name not in source and not name.endswith("shortcut.scale"))
    if fresh:
        logger.warning(f"{cls.__name__}: the BERT checkpoint lacks {', '.join(fresh)}: initialised afresh, train them")
    model.load_state_dict({name: source.get(name, value) for name, value in own.items()})
    return model.eval()


def _is_copied(name: str, prefix: str) -> bool:
    """Whether a weight belongs to the encoder proper, which every BERT has."""
    return name.startswith((f"{prefix}embeddings.", f"{prefix}layers.")) and not name.endswith("shortcut.scale")


def acn_to_bert(model: Any) -> Any:
    """The transformers BERT with the same weights, head and outputs as a residual model of this family.

    Raises:
        ValueError: the model has something that BERT has not; the message names the field.
    """
    config = model.config
    for field, value in {"connectivity": "residual", "position_embedding_type": "absolute", "gated_mlp": False}.items():
        if getattr(config, field) != value:
            raise ValueError(f"{field}={getattr(config, field)!r}: BERT has {value!r}, so the outputs would differ")
    if config.num_attention_heads * config.head_width != config.hidden_size:
        raise ValueError(f"head_dim={config.head_dim}: BERT's heads have hidden_size / num_attention_heads")
    bert_config = transformers.BertConfig(**{name: getattr(config, name) for name in SHARED_FIELDS})
    if hasattr(model, "qa_outputs"):  # BERT counts a span's start and end as labels
        bert_config.num_labels = 2
    bert_class = getattr(transformers, type(model).__name__.replace("Acn", "Bert"))
    pooling = {"add_pooling_layer": model.pooler is not None} if model.base_model is model else {}
    bert = bert_class(bert_config, **pooling).to(model.dtype)
    weights = {}
    for name, value in model.state_dict().items():
        inner = _to_bert_name(name.removeprefix("acn."))
        if model.base_model is not model and inner.startswith(("embeddings.", "encoder.", "pooler.")):
            inner = f"bert.{inner}"
        if "qkv_proj" in inner:
            for part, piece in zip(_PARTS, value.chunk(3), strict=True):
                weights[inner.replace("qkv_proj", f"self.{part}")] = piece
        else:
            weights[inner] = value
    if "cls.predictions.decoder.bias" in weights:
        weights["cls.predictions.bias"] = weights["cls.predictions.decoder.bias"]
    own = bert.state_dict()
    bert.load_state_dict(own | weights)
    assert weights.keys() >= {name for name, _ in bert.named_parameters()}, "a weight of BERT was left at random"
    return bert.eval()
