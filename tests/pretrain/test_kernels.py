"""`attention`, `compile` and `activation_checkpointing` change how fast a run computes and in what memory, not what."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launch.cli import read_args
from modeling import choose_attention, choose_compile, precision_warning
from pretrain import PretrainError, check_run
from pretrain.observe.figures import read_metrics
from pretrain.optim.optimizers import OptimConfig


def losses(acn: Callable, recipe: Callable[..., Path], name: str, **fields: object) -> dict[int, float]:
    """The losses of a run of six steps."""
    config = recipe(name, **fields)
    done = acn("pretrain", "--config", str(config))
    assert done.returncode == 0, done.stderr
    return read_metrics(config.with_suffix(""))["train/loss"]


def test_the_losses_are_those_of_any_implementation_of_the_attention(
    acn: Callable, recipe: Callable, finished: Path
) -> None:
    """The finished run's attention is fused, as the test below says of fp32."""
    fused = read_metrics(finished)["train/loss"]
    assert losses(acn, recipe, "eager", attention="eager", precision="fp32") == pytest.approx(fused, rel=1e-5)
    assert len(fused) == 6


@pytest.mark.slow  # two runs, and bf16 is emulated where the processor has none
def test_the_losses_are_those_of_any_implementation_of_the_attention_in_bf16(acn: Callable, recipe: Callable) -> None:
    fused = losses(acn, recipe, "fused", attention="sdpa", precision="bf16")
    assert losses(acn, recipe, "eager", attention="eager", precision="bf16") == pytest.approx(fused, rel=1e-2)
    assert len(fused) == 6


def test_activation_checkpointing_changes_no_number(acn: Callable, recipe: Callable, finished: Path) -> None:
    """Dropout included: the masks of the second computation are those of the first."""
    plain = read_metrics(finished)["train/loss"]
    assert losses(acn, recipe, "less", activation_checkpointing=True, precision="fp32") == plain
    assert len(plain) == 6


@pytest.mark.parametrize(
    ("gpu", "precision", "asked", "used"),
    [(True, "bf16", "auto", "sdpa"), (False, "bf16", "auto", "eager"), (False, "bf16", "sdpa", "sdpa"),
     (False, "auto", "auto", "sdpa"), (False, "fp32", "auto", "sdpa"), (False, "fp32", "eager", "eager")],
)  # fmt: skip
def test_automatic_attention_is_fused_except_for_bf16_on_cpus(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, precision: str, asked: str, used: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert choose_attention(precision, asked) == used


@pytest.mark.parametrize(
    ("packed", "precision", "installed", "used"),
    [(True, "bf16", True, "flash_attention_2"), (True, "fp16", True, "flash_attention_2"),
     (True, "fp32", True, "sdpa"), (True, "bf16", False, "sdpa"), (False, "bf16", True, "sdpa")],
)  # fmt: skip
def test_automatic_attention_takes_the_lengths_of_packed_documents_where_flash_attention_is_installed(
    monkeypatch: pytest.MonkeyPatch, packed: bool, precision: str, installed: bool, used: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("modeling.precision.is_flash_attn_2_available", lambda: installed)
    assert choose_attention(precision, packed=packed) == used
    assert choose_attention(precision, "eager", packed=packed) == "eager"


@pytest.mark.parametrize(
    ("gpu", "triton", "zero_stage", "compiled"),
    [(True, True, 1, True), (True, True, 3, False), (True, False, 1, False), (False, True, 1, False)],
)
def test_layers_are_compiled_by_themselves_on_gpus(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, triton: bool, zero_stage: int, compiled: bool
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("modeling.precision.has_triton", lambda: triton)
    assert choose_compile("auto", zero_stage) is compiled
    assert [choose_compile(asked, zero_stage) for asked in (True, False, "graphs")] == [True, False, "graphs"]


@pytest.mark.parametrize("written", ["false", "true", "auto", "graphs"])
def test_files_say_of_compiling_yes_or_no_or_how(recipe: Callable, written: str) -> None:
    """A plain yes or no is what the runs of earlier versions have in theirs."""
    path = recipe("run", compile=False)
    assert "\ncompile: false\n" in path.read_text()
    path.write_text(path.read_text().replace("\ncompile: false\n", f"\ncompile: {written}\n"))
    found = read_args("pretrain", ["pretrain", "--config", str(path)])
    assert found.compile == {"false": False, "true": True}.get(written, written)


@pytest.mark.slow  # compilers take their time
@pytest.mark.parametrize("fields", [{}, {"activation_checkpointing": True}, {"precision": "bf16"}])
def test_compiled_layers_give_the_losses_of_plain_ones(
    acn: Callable, recipe: Callable, tiny_run: Callable, fields: dict
) -> None:
    fields = fields | {"model": replace(tiny_run().model, hidden_dropout_prob=0.0)}  # the draws of dropout differ
    plain = losses(acn, recipe, "plain", **fields)
    compiled = losses(acn, recipe, "compiled", compile=True, **fields)
    # in bf16 fused operators round once where plain ones round each time
    assert compiled == pytest.approx(plain, rel=1e-2 if "precision" in fields else 1e-5)


def test_a_cpu_that_only_emulates_bf16_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert "slower than precision fp32" in str(precision_warning("bf16"))
    assert precision_warning("fp32") is None
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_bf16": True})
    assert precision_warning("bf16") is None


@pytest.mark.parametrize(
    ("fields", "fix"),
    [
        ({"attention": "flash_attention_2", "precision": "bf16"}, "flash-attn: install it, or use auto"),
        ({"attention": "flash_attention_2", "precision": "fp32"}, "set precision bf16, or use auto"),
        ({"attention": "flex_attention"}, "flex_attention cannot train on a CPU: use auto"),
        ({"compile": True, "zero_stage": 3}, "use 0 to 2"),
        ({"compile": "graphs"}, "graphs needs a GPU"),
        ({"compile": "graphs", "zero_stage": 3}, "use 0 to 2"),
        ({"compile": "graphs", "activation_checkpointing": True}, "or leave activation_checkpointing out"),
        ({"compile": True, "optim": OptimConfig(name="muon", grad_clip=0.0)}, "leave one of them out"),
    ],
)
def test_what_this_machine_cannot_run_is_refused_with_the_fix(
    tiny_run: Callable, monkeypatch: pytest.MonkeyPatch, fields: dict, fix: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(PretrainError, match=fix):
        check_run(tiny_run(**fields), 1)
