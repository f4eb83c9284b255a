"""A frozen model, and what it says of a batch."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig

from data_pipeline import DataError, Problem, Vocabulary, fingerprint, load_tokenizer
from modeling import (
    HALF,
    AcnConfig,
    AcnForMaskedLM,
    AcnModel,
    acn_from_bert,
    choose_attention,
    compile_layers,
    resolve_precision,
)
from modeling.conversion import SHARED_FIELDS

from ..checkpoints import Checkpoint, find_checkpoint
from ..checkpoints.export import load_weights
from ..errors import PretrainError
from .student import Statistics

_MODEL_FILE = "config.json"


@dataclass(frozen=True)
class TeacherSource:
    """Where a teacher is: a run or one of its checkpoints, or the folder or Hub name of a model."""

    name: str
    config: AcnConfig
    """Of the BERT line too: as one of this family, of connectivity residual."""
    checkpoint: Checkpoint | None
    """None: `name` is a model."""

    def tokenizer(self) -> str:
        """The fingerprint of its tokenizer.

        Raises:
            DataError: it has none that can be loaded.
        """
        if self.checkpoint is not None:
            return self.checkpoint.progress.order["tokenizer"]
        return fingerprint(load_tokenizer(self.name))

    def load(self) -> AcnModel:
        """The encoder in fp32.

        Raises:
            PretrainError: a file of the checkpoint is damaged or holds more than data.
        """
        if self.checkpoint is not None:
            whole = AcnForMaskedLM(self.config)
            load_weights(whole, self.checkpoint)
            return whole.acn
        if isinstance(_their_config(self.name), AcnConfig):
            return AcnModel.from_pretrained(self.name, dtype=torch.float32)
        return acn_from_bert(AcnModel, self.name, "residual").float()


def find_teacher(name: str, trusted: bool = False) -> TeacherSource:
    """The teacher of that name, of which only the configuration is read.

    Args:
        name: a run, a checkpoint, or the folder or Hub name of a model.
        trusted: the user vouches for what is in a checkpoint's files.

    Raises:
        PretrainError: there is no such model.
    """
    if Path(name).is_dir() and not (Path(name) / _MODEL_FILE).is_file():
        checkpoint = find_checkpoint(Path(name), trusted)
        return TeacherSource(name, AcnConfig(**checkpoint.progress.trained_model), checkpoint)
    try:
        theirs = _their_config(name)
        if isinstance(theirs, AcnConfig):
            return TeacherSource(name, theirs, None)
        fields = {field: getattr(theirs, field) for field in SHARED_FIELDS}
        return TeacherSource(name, AcnConfig(**fields, connectivity="residual"), None)
    except (OSError, ValueError, AttributeError) as error:
        raise PretrainError(f"{name} is no model that can teach: {str(error).splitlines()[0]}") from error


def _their_config(name: str) -> Any:
    return AutoConfig.from_pretrained(name, trust_remote_code=False)


def teacher_problems(
    source: TeacherSource, student: AcnConfig, vocabulary: Vocabulary, seq_length: int
) -> list[Problem]:
    """Why a model cannot teach a student on a corpus, each with its fix. Reads no weights."""
    found, theirs = [], source.config
    where = f": {source.name} has"
    if theirs.hidden_size != student.hidden_size:
        wrong = f"{where} hidden_size={theirs.hidden_size}, the model {student.hidden_size}"
        found.append(Problem("teacher.model", wrong=wrong, fix="set model.hidden_size to the teacher's"))
    prepare = "prepare the corpus with `acn prepare --tokenizer` and the teacher's name or folder"
    if theirs.vocab_size < student.vocab_size:
        wrong = f"{where} vocab_size={theirs.vocab_size}, the corpus {student.vocab_size}"
        found.append(Problem("teacher.model", wrong=wrong, fix=prepare))
    else:
        try:
            same = source.tokenizer() == vocabulary.fingerprint
        except DataError as error:
            found.append(Problem("teacher.model", wrong=f": {error}"))
        else:
            wrong = f"{where} another tokenizer than the corpus"
            found += [] if same else [Problem("teacher.model", wrong=wrong, fix=prepare)]
    if theirs.position_embedding_type == "absolute" and seq_length > theirs.max_position_embeddings:
        wrong = f"{where} max_position_embeddings={theirs.max_position_embeddings}, the corpus seq_length={seq_length}"
        found.append(Problem("teacher.model", wrong=wrong, fix="prepare shorter blocks"))
    return found


class Teacher:
    """One rank's copy of a teacher, in the precision of the run; without gradient, and outside of the engine."""

    def __init__(self, model: AcnModel, device: torch.device, precision: str, attention: str, compiled: bool) -> None:
        """`precision` and `attention` as the run's configuration has them."""
        model.pooler = None
        model.set_attn_implementation(choose_attention(precision, attention))
        if compiled:
            compile_layers(model)
        dtype = HALF.get(resolve_precision(precision), torch.float32)
        self.model = model.to(device, dtype).eval().requires_grad_(False)

    @torch.no_grad()
    def states(self, **inputs: torch.Tensor) -> torch.Tensor:
        """The last hidden states (B, T, H): `input_ids` (B, T), and of packed rows `seq_idx` and `position_ids`."""
        return self.model(**inputs).last_hidden_state

    def measure(self, samples: Iterable[tuple[torch.Tensor, torch.Tensor | None]]) -> Statistics:
        """The statistics over some batches of states (B, T, H), and which tokens (B, T) count; None: all.

        Every rank measures the same samples, so that all divide by the same number, however many there are.
        """
        sums = torch.zeros(3, self.model.config.hidden_size, dtype=torch.float64)
        for states, counted in samples:
            tokens = (states.flatten(0, 1) if counted is None else states[counted]).double().cpu()
            sums += torch.stack([tokens.sum(0), tokens.square().sum(0), torch.full_like(sums[2], len(tokens))])
        mean, square = sums[:2] / sums[2]
        variances = square - mean.square()
        norm = self._last_norm()
        return Statistics(
            variance=float(variances.sum()),
            norm_weight=(variances.sqrt() if norm is None else norm.weight).float().cpu(),
            norm_bias=(mean if norm is None else norm.bias).float().cpu(),
        )

    def _last_norm(self) -> nn.LayerNorm | None:
        """The LayerNorm that the states come out of; None where they are a sum."""
        if self.model.read_out.sums_layers:
            return None
        return self.model.layers[-1].mlp_norm if len(self.model.layers) else self.model.embeddings.LayerNorm
