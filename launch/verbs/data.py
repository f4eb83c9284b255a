"""acn data"""

from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data_pipeline import OutputLock, Problem, number_problems
from data_pipeline.stream import MaskingConfig, RemoteConfig, StreamConfig

from ..errors import LaunchError

if TYPE_CHECKING:
    from data_pipeline.stream import MaskedBatch, SplitSummary, TokenStream

_SHOWN, _COUNTED = 4, 1_000_000

COMMON = (
    "config", "action", "data", "output", "split", "blocks", "seed", "workers", "masking.probability",
    "masking.unit",
)  # fmt: skip
CHOICES = {"action": ("show", "stats", "verify")}
EXAMPLE = "acn data show runs/tokens --blocks 2"


@dataclass
class Args:
    """Look into a prepared corpus, or check it."""

    action: str
    """show: a few blocks as the model gets them, targets coloured. stats: document lengths and vocabulary use. verify:
    every shard, its checksum and its blocks against the manifest; exit code 2 when there is a fault."""
    data: str
    """Folder written by `acn prepare`, or its URL."""
    output: str | None = None
    """stats: folder for stats.png, stats.json and vocabulary.csv. Without it the table is only printed."""
    split: Literal["train", "validation"] = "train"
    """show, stats: which part of the corpus."""
    blocks: int | None = None
    """show: how many blocks (default 4). stats: how many to count at most (default a million), in row groups spread
    evenly over the split."""
    seed: int = 0
    """show: seed of order and masks, the stream.seed of a run."""
    workers: int = 1
    """verify: shards that are read at a time, with a thread each."""
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    """show: masked-language-model targets."""
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    """show, stats: cache and patience for a URL."""

    def problems(self) -> list[Problem]:
        found = number_problems(self) + self.masking.problems() + self.remote.problems()
        if self.seed < 0:
            found.append(Problem("seed", self.seed, "must not be negative"))
        if self.action not in ("show", "stats", "verify"):
            found.append(
                Problem("", wrong=f"{self.action!r} is no action of `acn data`", fix="use show, stats or verify")
            )
        if self.blocks is not None and self.blocks < 1:
            found.append(Problem("blocks", self.blocks, "must be at least 1"))
        if self.workers < 1:
            found.append(Problem("workers", self.workers, "must be at least 1"))
        if self.action == "verify":
            return found + self._verify_problems()
        if self.workers > 1:
            found.append(Problem("workers", self.workers, "is for `acn data verify`", "leave it out"))
        if self.action == "show" and self.output is not None:
            found.append(Problem("output", self.output, "is for `acn data stats`", "leave it out"))
        if self.action == "stats" and (self.masking != MaskingConfig() or self.seed):
            found.append(Problem("masking", wrong="and seed are for `acn data show`", fix="leave them out"))
        return found

    def _verify_problems(self) -> list[Problem]:
        """Options that are for the other actions: verify reads everything, as it is."""
        alone = Args(self.action, self.data, workers=self.workers)
        given = [field.name for field in fields(Args) if getattr(self, field.name) != getattr(alone, field.name)]
        wrong, fix = "verify checks a folder as it is", f"leave out {', '.join(given)}"
        return [Problem("", wrong=wrong, fix=fix)] if given else []


def run(args: Args) -> int:
    """Print, and for stats write, what was asked for."""
    problems = args.problems()
    if problems:
        raise LaunchError(*problems)
    if args.action == "verify":
        return verify(args.data, args.workers)
    if args.action == "show":
        _show(args)
    else:
        _stats(args)
    return 0


def verify(directory: str, workers: int) -> int:
    """Check a prepared folder or URL and print its faults; returns 2 where there are any."""
    from data_pipeline.corpus import verify_corpus

    faults = verify_corpus(directory, workers)
    for fault in faults:
        print(f"fault: {fault}")
    print(f"{directory}: {len(faults)} faults" if faults else f"{directory}: every shard is as it was written")
    return 2 if faults else 0


def _show(args: Args) -> None:
    from rich.console import Console
    from tokenizers import Tokenizer

    from data_pipeline.stream import TokenStream

    from ..data_view import coloured_blocks, legend

    stream = TokenStream(args.data, StreamConfig(seed=args.seed, remote=args.remote), args.masking)
    tokenizer = Tokenizer.from_file(str(stream.folder / "tokenizer" / "tokenizer.json"))
    console = Console()
    console.print(legend())
    for batch in _batches(args, stream):
        for sample, text in coloured_blocks(batch, tokenizer, stream.manifest.tokenizer.mask_token_id):
            console.print(f"\n[bold]{args.split} sample {sample}[/bold]")
            console.print(text, soft_wrap=False)


def _batches(args: Args, stream: "TokenStream") -> "list[MaskedBatch]":
    count = args.blocks or _SHOWN
    if args.split == "validation":
        from data_pipeline.stream import validation_batches

        return list(validation_batches(args.data, args.masking, 1, count, seed=args.seed, remote=args.remote))
    batches = stream.micro_batches(0, 1)
    shown = list(islice(batches, count))
    batches.close()
    return shown


def _stats(args: Args) -> None:
    if args.output is None:
        _summarize(args)
        return
    from tokenizers import Tokenizer

    from data_pipeline.stream import TokenStream

    from ..data_view import check_stats_folder, write_stats

    output = Path(args.output)
    with OutputLock(output):
        check_stats_folder(output)
        summary = _summarize(args)
        # opening the stream has the tokenizer at hand for URLs too
        stream = TokenStream(args.data, StreamConfig(remote=args.remote), MaskingConfig())
        tokenizer = Tokenizer.from_file(str(stream.folder / "tokenizer" / "tokenizer.json"))
        write_stats(summary, tokenizer, f"{args.data}: {args.split}", output)
    print(f"statistics: {args.output}")


def _summarize(args: Args) -> "SplitSummary":
    """Count, and show the table."""
    from rich.console import Console

    from data_pipeline.stream import summarize

    from ..data_view import stats_table

    summary = summarize(args.data, args.split, args.blocks or _COUNTED, args.remote)
    Console().print(stats_table(summary.numbers()))
    return summary
