"""acn export"""

from dataclasses import dataclass
from pathlib import Path

from data_pipeline import OutputLock, Problem
from pretrain import PretrainError

from . import large_imports

EXAMPLE = "acn export runs/acn runs/encoder --depth 6"


@dataclass
class Args:
    """Turn a checkpoint of a run into a plain Hugging Face folder: fp32 weights, configuration, tokenizer."""

    source: str
    """A run (its newest complete checkpoint is taken) or one checkpoint of it."""
    output: str
    """Folder to write; must not exist."""
    depth: int | None = None
    """Keep only the first `depth` layers."""
    ema: bool = False
    """The running average of the weights (of a run with ema.decay) instead of the weights."""
    onnx: bool = False
    """Also write model.onnx, which gives every position's logits (needs the extra: pip install 'acn-lm[onnx]')."""
    trust_checkpoint: bool = False
    """Load a checkpoint that holds more than data, which can run any code: only if you trust where it comes from. Given
    on the command line alone, never in a file."""

    def problems(self) -> list[Problem]:
        """What the folders say; whether the model is as deep shows its checkpoint."""
        found = []
        if self.depth is not None and self.depth < 0:
            found.append(Problem("depth", self.depth, "must not be negative"))
        output = Path(self.output)
        if output.exists() or output.is_symlink():
            found.append(Problem("output", output, "exists", "choose another folder or remove it"))
        return found


def run(args: Args) -> int:
    """Find the checkpoint, export it, say where it is."""
    output = Path(args.output)
    _check(args)
    with large_imports():
        from pretrain.checkpoints import export_checkpoint, find_checkpoint, find_tokenizer

    checkpoint = find_checkpoint(Path(args.source), args.trust_checkpoint)
    layers = checkpoint.progress.model["num_hidden_layers"]
    if args.depth is not None and not 0 <= args.depth <= layers:
        raise PretrainError(f"depth={args.depth} is outside 0..{layers}, the depths of this model")
    if args.onnx:
        from eval.compress import check_installed

        check_installed()
    with OutputLock(output, beside=True):
        _check(args)  # again: another job may have been faster
        export_checkpoint(checkpoint, output, find_tokenizer(checkpoint), args.depth, args.ema)
        if args.onnx:
            _write_onnx(output)
    depth = layers if args.depth is None else args.depth
    print(f"model at step {checkpoint.progress.step}, {depth} of {layers} layers: {output}")
    if scale := checkpoint.progress.shortcut_scale:
        print(f"it is a hybrid: its shortcuts are annealed, at scale {scale:.3g}; the run's last model is an acn")
    return 0


def _check(args: Args) -> None:
    if problems := args.problems():
        raise PretrainError(*problems)


def _write_onnx(model: Path) -> None:
    from data_pipeline import new_file
    from eval.compress import ONNX_FILE, export_onnx
    from modeling import AcnForMaskedLM

    with new_file(model / ONNX_FILE) as aside:
        export_onnx(AcnForMaskedLM.from_pretrained(model).eval(), aside)
