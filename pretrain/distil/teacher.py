"""A frozen model, and what it says of a batch."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from data_pipeline import DataError, ModelFolder, Problem, Vocabulary, find_model, fingerprint, load_tokenizer
from modeling import (
    HALF,
    AcnConfig,
    AcnForMaskedLM,
    AcnModel,
    load_model,
    non_finite_weights,
    read_config,
)

from ..checkpoints import Checkpoint, check_together, find_checkpoint, load_weights, starts_from_model
from ..errors import PretrainError
from .student import Statistics


@dataclass(frozen=True)
class TeacherSource:
    """Where a teacher is: a run or one of its checkpoints, or a model."""

    name: str
    config: AcnConfig
    """Of the BERT line too: as one of this family, of connectivity residual."""
    place: Checkpoint | ModelFolder

    def tokenizer(self) -> str:
        """The fingerprint of its tokenizer.

        Raises:
            DataError: it has none that can be loaded.
        """
        if isinstance(self.place, Checkpoint):
            return self.place.progress.order["tokenizer"]
        return fingerprint(load_tokenizer(str(self.place.path)))

    def load(self) -> AcnModel:
        """The encoder in fp32. A collective.

        Raises:
            PretrainError: its weights are damaged, missing or not finite, or a checkpoint holds more than data.
        """
        if isinstance(self.place, Checkpoint):
            check_together(self.place)
            whole = AcnForMaskedLM(self.config)
            load_weights(whole, self.place)
            return whole.acn
        try:
            model, new = load_model(AcnModel, self.place.path)
        except Exception as error:  # a missing, broken or foreign file surfaces in many classes
            wrong = f": its weights cannot be loaded ({error})"
            raise PretrainError(Problem("teacher.model", self.name, wrong, "get it again")) from error
        if lacking := [name for name in new if not name.startswith("pooler.")]:
            wrong = f": weights are missing or misshapen ({', '.join(lacking[:3])})"
            raise PretrainError(Problem("teacher.model", self.name, wrong, "get it again"))
        if (found := non_finite_weights(model)) is not None:
            raise PretrainError(Problem("teacher.model", self.name, f": {found}", "choose another model"))
        return model


def find_teacher(name: str, trusted: bool = False) -> TeacherSource:
    """The teacher of that name, of which only the configuration is read.

    Args:
        name: a run, a checkpoint, or the folder or Hub name of a model.
        trusted: the user vouches for what is in a checkpoint's files.

    Raises:
        PretrainError: there is no such model.
        DataError: it is on the Hub, and cannot be had.
    """
    if not starts_from_model(name):
        checkpoint = find_checkpoint(Path(name), trusted)
        return TeacherSource(name, AcnConfig(**checkpoint.progress.trained_model), checkpoint)
    folder = find_model(name, "teacher.model")
    try:
        return TeacherSource(folder.name, read_config(folder.path), folder)
    except Exception as error:  # strict validation raises its own classes
        what = str(error) if str(error).startswith("is of") else f": {error}"
        raise PretrainError(Problem("teacher.model", folder.name, what, "choose another model")) from error


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

    def __init__(self, model: AcnModel, device: torch.device, precision: str) -> None:
        """`precision`: resolved."""
        model.pooler = None
        self.model = model.to(device, HALF.get(precision, torch.float32)).eval().requires_grad_(False)

    @torch.no_grad()
    def states(self, **inputs: torch.Tensor) -> torch.Tensor:
        """The last hidden states (B, T, H): `input_ids` (B, T), and of packed rows `seq_idx` and `position_ids`."""
        return self.model(**inputs).last_hidden_state

    @torch.no_grad()
    def normalized(self, **inputs: torch.Tensor) -> torch.Tensor:
        """What the last LayerNorm multiplies by its weights to give `states`, in fp32 (B, T, H).

        The states alone do not tell: BERTs have dimensions without weight there, whose size sets the scale of all
        others. Of a teacher that sums its layers: its states.
        """
        if (norm := self._last_norm()) is None:
            return self.states(**inputs).float()
        seen: list[torch.Tensor] = []
        hook = norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        with torch.compiler.set_stance("force_eager"):  # compiled layers do not call it
            self.states(**inputs)
        hook.remove()
        return F.layer_norm(seen[-1].float(), norm.normalized_shape, eps=norm.eps)

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
        if self.model.read_out.norm is not None and len(self.model.layers):
            return self.model.read_out.norm
        return self.model.layers[-1].mlp_norm if len(self.model.layers) else self.model.embeddings.LayerNorm
