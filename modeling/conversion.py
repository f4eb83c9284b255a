# Copyright 2026 The acn-lm authors.
# Licensed under the Apache License, Version 2.0; see the LICENSE file of the project or https://www.apache.org/licenses/LICENSE-2.0
"""Weights from the BERT line of transformers to the ACN family, and from here to BERT.

The line is what differs from BERT in names, and in little else: `MODEL_TYPES` lists its model types and what is
different in each. Query, key and value are one projection here. A converted model of connectivity `residual` has the
outputs of the original, for every token that is not padding.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

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


class ModelType(NamedTuple):
    """What makes a model type of the line different from BERT."""

    classes: str
    """What the names of its classes in transformers begin with."""
    renamed: tuple[tuple[str, str], ...] = ()
    """(regular expression, replacement): its names of weights become BERT's; each name matches one at most."""
    fields: tuple[tuple[str, str], ...] = ()
    """(BERT's, its own) names of fields of the configuration."""
    constants: tuple[tuple[str, Any], ...] = ()
    """Fields of BERT's configuration that it has no choice in."""
    head_act: str | None = None
    """Activation of its masked-language-model head; None: that of the layers."""
    classifier_act: str = "tanh"
    """Activation between the two linear maps of its sequence classifier."""
    shifts_positions: bool = False
    """Whether the first token has the position pad_token_id + 1. Padding has the position pad_token_id, which nothing
    attends to."""


_DENSE_AND_PROJECTION = (
    (r"^classifier\.dense\.", "pooler.dense."),
    (r"^classifier\.out_proj\.", "classifier."),
)
_ROBERTA = ModelType(
    "Roberta",
    renamed=(
        (r"^lm_head\.dense\.", "cls.predictions.transform.dense."),
        (r"^lm_head\.layer_norm\.", "cls.predictions.transform.LayerNorm."),
        (r"^lm_head\.decoder\.", "cls.predictions.decoder."),
        *_DENSE_AND_PROJECTION,
    ),
    head_act="gelu",
    shifts_positions=True,
)
MODEL_TYPES = {
    "bert": ModelType("Bert"),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA._replace(classes="XLMRoberta"),
    "camembert": _ROBERTA._replace(classes="Camembert"),
    "distilbert": ModelType(
        "DistilBert",
        renamed=(
            (r"^transformer\.layer\.(\d+)\.attention\.q_lin\.", r"encoder.layer.\1.attention.self.query."),
            (r"^transformer\.layer\.(\d+)\.attention\.k_lin\.", r"encoder.layer.\1.attention.self.key."),
            (r"^transformer\.layer\.(\d+)\.attention\.v_lin\.", r"encoder.layer.\1.attention.self.value."),
            (r"^transformer\.layer\.(\d+)\.attention\.out_lin\.", r"encoder.layer.\1.attention.output.dense."),
            (r"^transformer\.layer\.(\d+)\.sa_layer_norm\.", r"encoder.layer.\1.attention.output.LayerNorm."),
            (r"^transformer\.layer\.(\d+)\.ffn\.lin1\.", r"encoder.layer.\1.intermediate.dense."),
            (r"^transformer\.layer\.(\d+)\.ffn\.lin2\.", r"encoder.layer.\1.output.dense."),
            (r"^transformer\.layer\.(\d+)\.output_layer_norm\.", r"encoder.layer.\1.output.LayerNorm."),
            (r"^vocab_transform\.", "cls.predictions.transform.dense."),
            (r"^vocab_layer_norm\.", "cls.predictions.transform.LayerNorm."),
            (r"^vocab_projector\.", "cls.predictions.decoder."),
            (r"^pre_classifier\.", "pooler.dense."),
        ),
        fields=(
            ("hidden_size", "dim"), ("num_hidden_layers", "n_layers"), ("num_attention_heads", "n_heads"),
            ("intermediate_size", "hidden_dim"), ("hidden_act", "activation"), ("hidden_dropout_prob", "dropout"),
            ("attention_probs_dropout_prob", "attention_dropout"), ("classifier_dropout", "seq_classif_dropout"),
        ),
        # token types it has none: a table of one row of zeros adds nothing
        constants=(("type_vocab_size", 1), ("layer_norm_eps", 1e-12)),
        classifier_act="relu",
    ),
    "electra": ModelType(
        "Electra",
        renamed=(
            (r"^generator_predictions\.", "cls.predictions.transform."),
            (r"^generator_lm_head\.", "cls.predictions.decoder."),
            (r"^sequence_summary\.summary\.", "pooler.dense."),
            *_DENSE_AND_PROJECTION,
        ),
        head_act="gelu",
        classifier_act="gelu",
    ),
}  # fmt: skip

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
            parts = [f"{match[1]}self.{part}.{match[3]}" for part in _PARTS]
            if all(part in weights for part in parts):  # a damaged checkpoint lacks some
                fused[f"{match[1]}qkv_proj.{match[3]}"] = torch.cat([weights[part] for part in parts])
    return fused


def acn_config_from(theirs: Any, connectivity: str = "residual", **overrides: Any) -> AcnConfig:
    """The configuration of a model of the BERT line as one of this family.

    Raises:
        ValueError: it is of another line, or has what this family has not; the message says which types there are.
    """
    kind = MODEL_TYPES.get(theirs.model_type)
    if kind is None:
        raise ValueError(f"model_type {theirs.model_type!r} is none of acn, {', '.join(MODEL_TYPES)}")
    if getattr(theirs, "is_decoder", False):
        raise ValueError("is_decoder=True: it is no encoder")
    positions = getattr(theirs, "position_embedding_type", None) or "absolute"
    if positions != "absolute":
        raise ValueError(f"position_embedding_type={positions!r}: only absolute positions can be taken over")
    width = getattr(theirs, "embedding_size", None) or theirs.hidden_size
    if width != theirs.hidden_size:
        raise ValueError(f"embedding_size={width} is not hidden_size={theirs.hidden_size}: only equal widths can be")
    names, constants = dict(kind.fields), dict(kind.constants)
    fields = {name: getattr(theirs, names.get(name, name)) for name in SHARED_FIELDS if name not in constants}
    if kind.shifts_positions:
        fields["max_position_embeddings"] -= theirs.pad_token_id + 1
    own = {"connectivity": connectivity, "classifier_activation": kind.classifier_act}
    return AcnConfig(**fields | constants | own | overrides)


def _weights(bert: Any, absent: Iterable[str]) -> dict[str, torch.Tensor]:
    """The weights of a model of the line by ACN's names, without a prefix; not those that its checkpoint lacks."""
    theirs, absent = bert.config, set(absent)
    kind = MODEL_TYPES[theirs.model_type]
    weights = {}
    for name, value in bert.state_dict().items():
        inner = name.removeprefix(f"{bert.base_model_prefix}.")
        for pattern, replacement in kind.renamed:
            inner, renamed = re.subn(pattern, replacement, inner)
            if renamed:
                break
        if name not in absent:
            weights[_to_acn_name(inner)] = value
    other_head = kind.head_act is not None and kind.head_act != theirs.hidden_act
    if other_head or "head.dense.weight" not in weights:  # its bias is of no use without
        weights = {name: value for name, value in weights.items() if not name.startswith(("head.", "decoder."))}
    if kind.shifts_positions:
        table = weights["embeddings.position_embeddings.weight"]
        weights["embeddings.position_embeddings.weight"] = table[theirs.pad_token_id + 1 :]
    if (types := "embeddings.token_type_embeddings.weight") not in weights:
        weights[types] = torch.zeros(1, weights["embeddings.word_embeddings.weight"].shape[1], dtype=bert.dtype)
    return _fused(weights)


def convert(
    cls: Any, bert: Any, connectivity: str = "residual", absent: Iterable[str] = (), **overrides: Any
) -> tuple[Any, list[str]]:
    """A `cls` of the ACN family with the weights of a model of the BERT line, in its dtype and in evaluation mode.

    What only `bert` has is left out.

    Args:
        absent: names of weights of `bert` that are not to be taken over: those that its checkpoint lacked.
        overrides: fields of the configuration.

    Returns:
        The model, and the names of its weights that are new: of a head that `bert` lacks.

    Raises:
        ValueError: see `acn_config_from`; or an override asks for encoder weights of other shapes or more layers, or
            the connectivity for another kind of layers.
    """
    config = acn_config_from(bert.config, connectivity, **overrides)
    if config.is_reversible:
        raise ValueError(
            f"connectivity={connectivity!r}: its layers add to one stream what they make of another, which weights "
            f"of a {bert.config.model_type} were not trained for: choose another connectivity, or train it from nothing"
        )
    model = cls(config).to(bert.dtype)
    prefix = "" if model.base_model is model else "acn."
    source = {
        (prefix if name.startswith(("embeddings.", "layers.")) else "") + name: value
        for name, value in _weights(bert, absent).items()
    }
    own = model.state_dict()
    if model.config.tie_word_embeddings and f"{prefix}embeddings.word_embeddings.weight" in source:
        source |= {n: source[s] for n, s in (getattr(cls, "_tied_weights_keys", None) or {}).items() if n in own}
    misfits = sorted(
        name
        for name, value in own.items()
        if (source[name].shape != value.shape if name in source else _is_copied(name, prefix))
    )
    if misfits:
        raise ValueError(
            f"{', '.join(overrides) or 'the checkpoint'}: {bert.config.model_type} has no weights of the right shape "
            f"for {', '.join(misfits[:3])}: change only fields that leave its shapes as they are"
        )
    fresh = sorted(name for name in own if name not in source and not name.endswith("shortcut.scale"))
    model.load_state_dict({name: source.get(name, value) for name, value in own.items()})
    return model.eval(), fresh


def load_original(cls: Any, folder: Any, **kwargs: Any) -> tuple[Any, list[str]]:
    """The model of the BERT line of that folder or Hub name, with the head that `cls` has, in transformers' own class.

    Weights come from safetensors where there are any; a pickle is read without running its code.

    Args:
        kwargs: for its `from_pretrained`.

    Returns:
        The model, and the names of its weights that the checkpoint lacks: they are random.

    Raises:
        ValueError: it is of another line.
    """
    theirs = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    acn_config_from(theirs)  # raises for what cannot be converted, before its weights are read
    own_class = getattr(transformers, cls.__name__.replace("Acn", MODEL_TYPES[theirs.model_type].classes, 1))
    bert, info = own_class.from_pretrained(folder, output_loading_info=True, weights_only=True, **kwargs)
    other_shape = [key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]]
    return bert, sorted({*info["missing_keys"], *other_shape})


def acn_from_bert(cls: Any, bert: Any, connectivity: str, **overrides: Any) -> Any:
    """A `cls` of the ACN family with the weights of a model of the BERT line, in its dtype and in evaluation mode.

    What only `cls` has (a head that the original lacks) is initialised afresh, with a warning; what only the original
    has is left out.

    Args:
        cls: a class of modeling_acn.py.
        bert: a transformers model of one of `MODEL_TYPES`, or the folder or Hub name of one.
        overrides: fields of the configuration.

    Raises:
        ValueError: not an encoder of the line, or an override asks for encoder weights of other shapes or more layers.
    """
    absent: list[str] = []
    if not isinstance(bert, transformers.PreTrainedModel):
        bert, absent = load_original(cls, bert)
    model, fresh = convert(cls, bert, connectivity, absent, **overrides)
    if fresh:
        logger.warning(f"{cls.__name__}: the checkpoint lacks {', '.join(fresh)}: initialised afresh, train them")
    return model


def _is_copied(name: str, prefix: str) -> bool:
    """Whether a weight belongs to the encoder proper, which every model of the line has."""
    return name.startswith((f"{prefix}embeddings.", f"{prefix}layers.")) and not name.endswith("shortcut.scale")


def acn_to_bert(model: Any) -> Any:
    """The transformers BERT with the same weights, head and outputs as a residual model of this family.

    Raises:
        ValueError: the model has something that BERT has not; the message names the field.
    """
    config = model.config
    wanted: dict[str, Any] = {"connectivity": "residual", "position_embedding_type": "absolute", "gated_mlp": False}
    if getattr(model, "pooler", None) is not None:
        wanted["classifier_activation"] = "tanh"
    for field, value in wanted.items():
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
