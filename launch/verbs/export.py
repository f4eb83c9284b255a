"""acn export"""

from dataclasses import dataclass
from pathlib import Path

from data_pipeline import OutputLock, Problem
from pretrain import PretrainError

from . import large_imports

EXAMPLE = "acn export runs/acn runs/encoder --depth 6"


@dataclass
class Args:
    """Turn a checkpoint of a run, or a model of the BERT line, into a plain Hugging Face folder of this family: fp32
    weights, configuration, tokenizer."""

    source: str
    """A run (its newest complete checkpoint is taken) or one checkpoint of it. Or a model: a folder, or NAME[@REVISION]
    of the Hub, of this family or of the BERT line (bert, roberta, xlm-roberta, camembert, distilbert, electra)."""
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
    """Find the checkpoint or model, export it, say where it is."""
    output = Path(args.output)
    _check(args)
    with large_imports():
        from pretrain.checkpoints import starts_from_model

    # a folder without a model is meant as a run, and said to be none
    is_model = starts_from_model(args.source) and not _holds_no_model(Path(args.source))
    layers, what = _export_model(args, output) if is_model else _export_checkpoint(args, output)
    depth = layers if args.depth is None else args.depth
    print(f"{what}, {depth} of {layers} layers: {output}")
    return 0


def _holds_no_model(folder: Path) -> bool:
    return folder.is_dir() and not (folder / "config.json").is_file()


def _export_checkpoint(args: Args, output: Path) -> tuple[int, str]:
    """How many layers the run's model has, and what was exported."""
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
    if scale := checkpoint.progress.shortcut_scale:
        print(f"it is a hybrid: its shortcuts are annealed, at scale {scale:.3g}; the run's last model is an acn")
    return layers, f"model at step {checkpoint.progress.step}"


def _export_model(args: Args, output: Path) -> tuple[int, str]:
    """How many layers the model has, and what was exported."""
    with large_imports():
        from data_pipeline import find_model
        from eval import read_model_config, write_model

    found = find_model(args.source, "source")
    config = read_model_config(found.name)
    problems = [
        Problem(name, "true", "is for a run, and this is a model", "leave it out")
        for name in ("ema", "trust_checkpoint")
        if getattr(args, name)
    ]
    if args.onnx and (config.architectures or ["AcnModel"])[0] == "AcnModel":
        problems.append(Problem("onnx", "true", "writes logits, and this model has no head for them", "leave it out"))
    if problems:
        raise PretrainError(*problems)
    if args.onnx:
        from eval.compress import check_installed

        check_installed()
    with OutputLock(output, beside=True):
        _check(args)
        layers = write_model(found.name, output, args.depth)
        if args.onnx:
            _write_onnx(output)
    return layers, found.name


def _check(args: Args) -> None:
    if problems := args.problems():
        raise PretrainError(*problems)


def _write_onnx(model: Path) -> None:
    from data_pipeline import new_file
    from eval.compress import ONNX_FILE, export_onnx
    from modeling import head_of, load_model

    with new_file(model / ONNX_FILE) as aside:
        export_onnx(load_model(head_of(model), model)[0], aside)
