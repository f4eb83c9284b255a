"""The parts of `benchmarks.gpu`, each in a process of its own: `python -m benchmarks.gpu_sections PART CASE`."""

import argparse
import gc
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from data_pipeline import Manifest, write_json
from data_pipeline.stream import MaskingConfig, StreamConfig, TokenStream
from modeling import AcnConfig, AcnForMaskedLM, AcnForSequenceClassification, forward_flops
from pretrain import Training, init_distributed
from pretrain.checkpoints import newest_complete
from pretrain.distil import AnnealConfig, TeacherConfig
from pretrain.observe import peak_flops, peak_memory
from pretrain.optim import OptimConfig

from .contenders import AfterSteps, Setting, bert, blocks_dataset, our_loop, trainer
from .corpus import prepared_corpus
from .finetune import ACN, EQUAL, case_row, contenders, difference, prepare_bench
from .finetune_jobs import TASK, take_turns
from .finetune_reading import Reading
from .sst2 import Shape
from .timing import Timing, interleave, machine, ratio

ROUNDS = 3
OURS: dict[str, Any] = {"compile": True, "run_ahead": True, "precision": "bf16", "zero_stage": 1}
EVERY_POSITION, TORCH_LOSS = "every position decoded", "torch's cross-entropy"
TARGETS_ASKED_FOR = "targets asked for"
SWITCHED_OFF: dict[str, dict[str, Any]] = {
    "not compiled": {"compile": False},
    "attention written out": {"attention": "eager"},
    "AdamW not fused, host waits": {"optim": OptimConfig(fused=False), "run_ahead": False},
    EVERY_POSITION: {},
    "ZeRO 0": {"zero_stage": 0},
}
SMALL_STEPS = "base/128"
SWITCHED_AT_SMALL_STEPS: dict[str, dict[str, Any]] = {
    "host waits": {"run_ahead": False},
    TARGETS_ASKED_FOR: {},
    TORCH_LOSS: {},
    "CUDA graphs too": {"compile": "graphs"},
}
"""What matters where the device has little to do in a step, measured there only."""


class Bench:
    """One case on one device: its corpus, its configurations, and how its steps are timed."""

    def __init__(self, case: str, folder: Path, quick: bool) -> None:
        size, length = case.split("/")
        self.switched = SWITCHED_OFF | (SWITCHED_AT_SMALL_STEPS if case == SMALL_STEPS else {})
        self.folder, self.quick, self.length = folder, quick, int(length)
        if quick:
            self.length //= 8
        hidden, layers = {"base": (768, 12), "large": (1024, 24)}[size]
        if quick:
            hidden, layers = hidden // 12, layers // 6
        tokens = 256 if quick else {"base": 32768, "large": 16384}[size]  # of a micro-batch
        data = prepared_corpus(folder, 0.5 if quick else 4, 512 if quick else 32768, self.length)
        self.turn = 2 if quick else 5  # optimizer steps
        blocks = tokens // self.length
        self.setting = Setting(str(data), hidden, layers, "bf16", blocks, 4 * blocks, log_every=self.turn)
        self.model = AcnConfig(**self.setting.config("").model.acn_fields(Manifest.load(data)))
        self.device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")

    @property
    def tokens(self) -> int:
        """Of a turn."""
        return self.turn * self.setting.global_batch * self.length

    def now(self) -> float:
        """The time at which the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, work: Callable[[], Any]) -> float:
        """Seconds of `work`."""
        began = self.now()
        work()
        return self.now() - began

    @contextmanager
    def loop(
        self, name: str, connectivity: str = "acn", **fields: Any
    ) -> Iterator[tuple[Training, Callable[[int], None]]]:
        """The loop of `acn pretrain`, warmed up."""
        config = self.setting.config(str(self.folder / f"run-{self.length}-{name}"), connectivity, **(OURS | fields))
        with our_loop(config, self.device) as (training, advance):
            if name == EVERY_POSITION:
                decode_every_position(training.engine.module)
            if name == TORCH_LOSS:
                vars(training.engine.module).pop("_loss_function")  # back to transformers' own
            if name == TARGETS_ASKED_FOR:
                training.stream.manifest.split("train").fewest_ordinary = None
            advance(self.turn)
            yield training, advance

    def row(self, seconds: list[float], peak: int) -> dict[str, Any]:
        """Speed, MFU and memory of a case, all by the FLOPs that our model needs; no MFU where the peak is unknown."""
        speed = self.tokens / Timing(seconds).median
        targets = MaskingConfig().targets(self.length)
        peak_rate = peak_flops(self.device, "bf16")
        flops = 3 * forward_flops(self.model, self.length, masked_positions=targets) / self.length
        return {
            "tokens_per_second": speed,
            "mfu": None if peak_rate is None else speed * flops / peak_rate,
            "peak_gib": peak / 2**30,
            "seconds": seconds,
        }

    def memory(self) -> int:
        """The most bytes so far, since `forget_memory` on a GPU."""
        return peak_memory(self.device)

    def forget_memory(self) -> None:
        """Measure the peak anew, with what other cases left given back."""
        gc.collect()  # engines are cycles
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def decode_every_position(model: AcnForMaskedLM) -> None:
    """Have the decoder see the whole sequence, as BERT's does; the loss stays the same."""
    inner = model.forward

    def forward(masked_positions: torch.Tensor, labels: torch.Tensor, input_ids: torch.Tensor, **inputs: Any) -> Any:
        everywhere = torch.full_like(input_ids, -100).scatter(1, masked_positions, labels)
        outputs = inner(input_ids=input_ids, labels=everywhere, **inputs)
        index = masked_positions.unsqueeze(-1).expand(-1, -1, outputs.logits.shape[-1])
        outputs.logits = outputs.logits.detach().gather(1, index)  # for the masked accuracy of logging steps
        return outputs

    model.forward = forward


def ours(bench: Bench) -> dict[str, Any]:
    """acn and its residual twin in turns, then acn with each feature switched off, and the loader alone."""
    init_distributed(600.0)
    cases: dict[str, Any] = {}
    with ExitStack() as stack:
        _, acn = stack.enter_context(bench.loop("acn"))
        peak = bench.memory()
        _, residual = stack.enter_context(bench.loop("residual", "residual"))
        seconds: dict[str, list[float]] = {"acn": [], "residual": []}
        for _ in range(ROUNDS):
            seconds["acn"].append(bench.timed(lambda: acn(bench.turn)))
            seconds["residual"].append(bench.timed(lambda: residual(bench.turn)))
    times = {name: Timing(values) for name, values in seconds.items()}
    cases["acn"], cases["residual"] = bench.row(seconds["acn"], peak), bench.row(seconds["residual"], peak)
    for name, fields in bench.switched.items():
        bench.forget_memory()
        with bench.loop(name, **fields) as (_, advance):
            found = [bench.timed(lambda: advance(bench.turn)) for _ in range(ROUNDS)]
            cases[name] = bench.row(found, bench.memory())
    return {
        "cases": cases,
        "time_over_residual": ratio(times["acn"], times["residual"]),
        "loader_tokens_per_second": loader(bench),
    }


def loader(bench: Bench) -> float:
    """Tokens per second of masked micro-batches that nobody trains on."""
    batches = TokenStream(bench.setting.data, StreamConfig(), MaskingConfig()).micro_batches(
        0, bench.setting.micro_batch
    )
    next(batches)
    count = 4 if bench.quick else 200
    seconds = bench.timed(lambda: [next(batches) for _ in range(count)])
    batches.close()
    return count * bench.setting.micro_batch * bench.length / seconds


def packed(bench: Bench) -> dict[str, Any]:
    """Whole documents side by side in a block: by their lengths, where flash-attn is installed, and by a mask."""
    init_distributed(600.0)
    vocab_size = bench.model.vocab_size
    data = prepared_corpus(bench.folder, 0.5 if bench.quick else 4, vocab_size, bench.length, "documents")
    cases = {}
    for name, attention in (("packed, attention=auto", "auto"), ("packed, a mask of each row", "sdpa")):
        bench.forget_memory()
        with bench.loop(name, data=str(data), attention=attention) as (_, advance):
            seconds = [bench.timed(lambda: advance(bench.turn)) for _ in range(ROUNDS)]
            cases[name] = bench.row(seconds, bench.memory())
    return {"cases": cases}


def conversion(bench: Bench) -> dict[str, Any]:
    """What annealed shortcuts and a teacher of the same size cost; MFU leaves out what the teacher computes."""
    init_distributed(600.0)
    teacher, residual = bench.folder / "teacher", deepcopy(bench.model)
    residual.connectivity = "residual"
    AcnForMaskedLM(residual).save_pretrained(teacher)
    shutil.copytree(Path(bench.setting.data) / "tokenizer", teacher, dirs_exist_ok=True)
    annealed = {"anneal": AnnealConfig(share=0.5)}
    beside = TeacherConfig(weight=1.0, model=str(teacher))
    cases: dict[str, Any] = {}
    for name, fields in (
        ("annealed", annealed),
        ("annealed, match and masked tokens", annealed | {"teacher": beside}),
        ("annealed, match alone", annealed | {"teacher": replace(beside, mlm_weight=0.0)}),
    ):
        bench.forget_memory()
        with bench.loop(name, **fields) as (_, advance):
            seconds = [bench.timed(lambda: advance(bench.turn)) for _ in range(ROUNDS)]
            cases[name] = bench.row(seconds, bench.memory())
    return {"cases": cases}


def against(bench: Bench) -> dict[str, Any]:
    """Trainer on the same blocks, with four processes that collate where there is a GPU to feed."""
    marks: list[float] = []

    def mark() -> bool:
        marks.append(bench.now())
        return len(marks) == ROUNDS + 1  # the first turn is warm-up

    dataset = blocks_dataset(bench.setting.data)
    fields = {"dataloader_num_workers": 4 if bench.device.type == "cuda" else 0}
    callback = AfterSteps(bench.turn, mark)
    trainer(bench.setting, bert(bench.setting), dataset, callback, str(bench.folder / "trainer"), 1, **fields).train()
    seconds = [after - before for before, after in pairwise(marks)]
    return {"cases": {"Hugging Face Trainer": bench.row(seconds, bench.memory())}}


def profiled(bench: Bench) -> dict[str, Any]:
    """The three kernels (operators on a CPU) in which a step spends most time."""
    init_distributed(600.0)
    with bench.loop("profile") as (_, advance):
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.device.type == "cuda" else [])]
        with profile(activities=activities) as trace:
            seconds = bench.timed(lambda: advance(1))
    averages = trace.key_averages()
    field = "self_device_time_total" if bench.device.type == "cuda" else "self_cpu_time_total"
    # an operator's device time is that of its kernels, which are events of their own; annotations are neither
    kind = DeviceType.CUDA if bench.device.type == "cuda" else DeviceType.CPU
    spent = {
        event.key: getattr(event, field)
        for event in averages
        if event.device_type == kind and not event.is_user_annotation and not event.key.startswith("## ")
    }
    total = sum(spent.values())
    costliest = sorted(spent, key=spent.__getitem__, reverse=True)[:3]
    return {"step_seconds": seconds, "costliest": {name: spent[name] / total for name in costliest}}


def checkpoint(bench: Bench) -> dict[str, Any]:
    """Seconds to save a checkpoint, and to be back from it."""
    init_distributed(600.0)
    with bench.loop("checkpoint") as (training, advance):
        saving = bench.timed(lambda: training.saver.save(training.progress))
        saved = newest_complete(training.folder)
        assert saved is not None
        loading = bench.timed(lambda: training.load(saved))
        advance(1)  # it goes on
    return {"save_seconds": saving, "resume_seconds": loading, "gib": saved.bytes / 2**30}


@torch.inference_mode()
def inference(bench: Bench) -> dict[str, Any]:
    """Tokens per second of a classifier cut at every depth, in bf16."""
    model = AcnForSequenceClassification(bench.model).to(bench.device, torch.bfloat16).eval()
    blocks, repeats = (4, 3) if bench.quick else (256, 20)
    ids = torch.randint(5, bench.model.vocab_size, (blocks, bench.length), device=bench.device)
    found = {}
    for depth in range(bench.model.num_hidden_layers, -1, -1):
        model.truncate(depth)
        model(input_ids=ids)
        seconds = [bench.timed(lambda: model(input_ids=ids)) for _ in range(repeats)]
        found[depth] = ids.numel() / Timing(seconds).median
    return {"tokens_per_second_by_depth": found}


def finetuning(bench: Bench) -> dict[str, Any]:
    """Seconds of steps, around them, of a whole fine-tuning as `benchmarks.finetune` has it, and of a sweep."""
    shape = Shape(bench.setting.hidden, bench.setting.layers, 16_000 if bench.quick else Shape.vocab)
    tuning, _ = prepare_bench(bench.folder / "finetune", shape, None, bench.quick)
    who = contenders("bf16", 1 if bench.quick else 20)[:3]
    found = take_turns(tuning, who, 1 if bench.quick else ROUNDS)
    rows = {contender.name: case_row(tuning, contender, found[contender.name]) for contender in who}
    reading = Reading.of(tuning, f"{tuning.output(who[1])}/{TASK}", "bf16", tuning.folder)
    cases = {"every depth in one pass": reading.our_sweep, "a prediction of each truncated BERT": reading.their_sweep}
    sweeps = interleave(cases, ROUNDS, warmup=1)
    names = ("step_seconds", "around_seconds", "whole_seconds")
    return {name: {case: line[name] for case, line in rows.items()} for name in names} | {
        "over_trainer": rows[EQUAL]["whole_seconds"] / rows[ACN]["whole_seconds"],
        "loss_difference": difference(found),
        "sweep_seconds": {case: timing.median for case, timing in sweeps.items()},
    }


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "ours": ours,
    "trainer": against,
    "profile": profiled,
    "packed": packed,
    "conversion": conversion,
    "checkpoint": checkpoint,
    "finetune": finetuning,
    "inference": inference,
}


def main() -> None:
    """Run one part and write what it found to FOLDER/found.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("case", help="base/128, ...")
    parser.add_argument("--folder", type=Path, required=True, help="for corpora, runs and the result")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    found = PARTS[options.part](Bench(options.case, options.folder, options.quick))
    write_json(options.folder / "found.json", found | {"machine": machine()})


if __name__ == "__main__":
    main()
