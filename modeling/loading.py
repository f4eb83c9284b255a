"""Models in folders, of this family or of the BERT line: read and loaded by the same calls.

A folder of the BERT line needs no conversion beforehand. Its model is the connectivity `residual` with its own weights,
or any other connectivity that begins with them.
"""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from . import modeling_acn
from .configuration_acn import CONNECTIVITIES, AcnConfig
from .conversion import MODEL_TYPES, acn_config_from, convert, load_original
from .modeling_acn import AcnForMaskedLM, AcnModel, AcnPreTrainedModel

_LABELS = ("id2label", "label2id", "problem_type")  # fields that both configurations have, and a new classifier needs


def model_type_of(folder: str | Path) -> str:
    """What config.json says that the model in `folder` is: "acn", or a type of the BERT line.

    Raises:
        ValueError: it is neither; the message says which types there are.
        OSError: there is no config.json that can be read.
    """
    try:
        content = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("has a config.json that is nested too deep to be one") from error
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind != AcnConfig.model_type and kind not in MODEL_TYPES:
        known = ", ".join((AcnConfig.model_type, *MODEL_TYPES))
        raise ValueError(f"is of model_type {kind!r}, which is none of {known}")
    return str(kind)


def read_config(folder: str | Path) -> AcnConfig:
    """The configuration of the model in `folder`, one of the BERT line as this family's.

    Raises:
        ValueError: see `model_type_of`; or it has what this family has not.
    """
    if model_type_of(folder) == AcnConfig.model_type:
        own = AcnConfig.from_pretrained(folder)
        if not isinstance(getattr(own, "auto_map", {}), dict):  # which transformers writes into when it saves
            raise ValueError("has a config.json whose auto_map is no mapping")
        return own
    theirs = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    config = acn_config_from(theirs)
    config.architectures = [_head_of(theirs).__name__]
    return config


def head_of(folder: str | Path) -> type[AcnPreTrainedModel]:
    """The class of this family that has the head of the model in `folder`; `AcnModel` for other heads and for none."""
    return getattr(modeling_acn, (read_config(folder).architectures or ["AcnModel"])[0], AcnModel)


def _head_of(theirs: Any) -> type[AcnPreTrainedModel]:
    classes = MODEL_TYPES[theirs.model_type].classes
    name = (theirs.architectures or [""])[0].removeprefix(classes)
    if theirs.model_type == "bert" and name == "ForPreTraining":  # masked language model and next sentence
        return AcnForMaskedLM
    return getattr(modeling_acn, f"Acn{name}", AcnModel)


def wiring_problem(connectivity: str, source: AcnConfig) -> str | None:
    """Why a model of `connectivity` cannot begin with weights of `source`; None where it can."""
    if (CONNECTIVITIES[connectivity].streams == 2) == source.is_reversible:
        return None
    return f"cannot begin with weights of connectivity {source.connectivity}: only one of them has two streams"


def load_model(
    cls: type[AcnPreTrainedModel],
    folder: str | Path,
    connectivity: str | None = None,
    dtype: torch.dtype = torch.float32,
    **fields: Any,
) -> tuple[Any, list[str]]:
    """A `cls` with the weights in `folder`, in evaluation mode.

    Args:
        connectivity: another one than the model's own, which is `residual` for the BERT line.
        fields: others of the configuration; `num_hidden_layers=k` takes the first k layers.

    Returns:
        The model, and the names of the weights that the folder does not have, or not in this shape: they are new.

    Raises:
        ValueError: see `read_config`; or other layers are asked for than the folder has, or a connectivity that has no
            use for its weights (`wiring_problem`). What is wrong with damaged files surfaces in many classes.
    """
    if model_type_of(folder) != AcnConfig.model_type:
        labels = {name: fields[name] for name in _LABELS if name in fields}
        original, absent = load_original(cls, folder, dtype=dtype, ignore_mismatched_sizes=True, **labels)
        return convert(cls, original, connectivity or "residual", absent, **fields)
    if connectivity is not None:
        fields["connectivity"] = connectivity
        if (wrong := wiring_problem(connectivity, read_config(folder))) is not None:
            raise ValueError(f"connectivity={connectivity!r} {wrong}")
    model, info = cls.from_pretrained(
        folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **fields
    )
    misshapen = [key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]]
    missing = {*info["missing_keys"], *misshapen}
    return model, sorted(name for name in missing if not name.endswith("shortcut.scale"))
