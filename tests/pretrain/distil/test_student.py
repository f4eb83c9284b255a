"""The match with a teacher, and what both read of a batch."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from data_pipeline import CorpusConfig, MaskingConfig, PrepareConfig, prepare_corpus, validation_batches
from data_pipeline.stream import MaskedBatch, PackedBatch
from modeling import AcnConfig, AcnForMaskedLM, AcnModel
from pretrain.distil import AnnealConfig, Annealing, Lessons, TeacherConfig, is_projection, training_flops
from pretrain.distil.lessons import unmasked
from pretrain.distil.student import RIDGE, Statistics, Student
from pretrain.distil.teacher import Teacher
from pretrain.validate import validate_depths
from tests.conftest import sentences
from tests.modeling.reference import layer_norm
from tests.pretrain.distil.conftest import residual_config

CPU = torch.device("cpu")
ALONE, BESIDE = TeacherConfig(weight=2.0, model="there", mlm_weight=0.0), TeacherConfig(weight=2.0, model="there")


def teacher(**fields) -> Teacher:
    torch.manual_seed(3)
    model = AcnModel(residual_config(**fields))
    for norm in (layer.mlp_norm for layer in model.layers):
        torch.nn.init.normal_(norm.weight, 1.0, 0.3)
        torch.nn.init.normal_(norm.bias, 0.0, 0.3)
    return Teacher(model, CPU, "fp32")


def student(config: TeacherConfig, statistics: Statistics | None = None, **fields) -> Student:
    torch.manual_seed(0)
    of_the_model = residual_config(**fields)
    of_the_model.connectivity = "acn"
    known = statistics or Statistics(7.0, torch.linspace(0.5, 2, 16), torch.linspace(-1, 1, 16))
    return Student(of_the_model, config, known)


def batch(rows: int = 3, length: int = 11) -> MaskedBatch:
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(5, 53, (rows, length), generator=generator)
    positions = torch.tensor([[1, 4], [2, 3], [5, 9]])[:rows]
    labels = torch.randint(5, 53, (rows, 2), generator=generator)
    labels[0, 1] = -100
    return MaskedBatch(ids, positions, labels, samples=torch.arange(rows))


def errors_in_float64(model: Student, read_out: torch.Tensor, states: torch.Tensor) -> np.ndarray:
    """(B, T), by the definition."""
    weights = {name: value.detach().double().numpy() for name, value in model.projection.state_dict().items()}
    mapped = read_out.detach().double().numpy() @ weights["dense.weight"].T + weights["dense.bias"]
    guess = layer_norm(mapped, weights["norm.weight"], weights["norm.bias"], model.config.layer_norm_eps)
    return ((guess - states.double().numpy()) ** 2).sum(-1) / model.variance


@pytest.mark.parametrize("config", [ALONE, BESIDE])
def test_the_loss_is_the_weighted_sum_of_its_parts(config):
    model, lessons = student(config).double(), Lessons(CPU, config, teacher())
    torch.nn.init.normal_(model.projection.dense.weight)
    lesson = lessons.read(batch())
    outputs = model(**lesson.arguments())
    read_out = model.acn(lesson.inputs["input_ids"]).last_hidden_state
    match = errors_in_float64(model, read_out, lesson.states).mean()
    assert float(outputs.match) == pytest.approx(match, rel=1e-12)
    mlm_loss = 0.0
    if config is BESIDE:
        plain = AcnForMaskedLM(model.config).double()
        plain.load_state_dict({name: value for name, value in model.state_dict().items() if not is_projection(name)})
        mlm_loss = plain(lesson.inputs["input_ids"], masked_positions=batch().masked_positions, labels=batch().labels)
        mlm_loss = mlm_loss.loss.item()
        assert float(outputs.mlm_loss) == pytest.approx(mlm_loss, rel=1e-12)
    else:
        assert outputs.logits is None
        assert outputs.mlm_loss is None
    assert outputs.loss.item() == pytest.approx(2 * match + mlm_loss, rel=1e-12)


def test_teacher_and_student_read_the_same_tokens(prepared):
    """Masked ones where masked tokens are predicted, and else the corpus as it is."""
    given = list(validation_batches(prepared, MaskingConfig(), batch_size=4, max_blocks=8, rank=0, world_size=1))
    whole = MaskingConfig(mask_fraction=0.0, random_fraction=0.0)
    as_it_is = list(validation_batches(prepared, whole, batch_size=4, max_blocks=8, rank=0, world_size=1))
    for masked, plain in zip(given, as_it_is, strict=True):
        assert not torch.equal(masked.input_ids, plain.input_ids)
        assert torch.equal(unmasked(masked.input_ids, masked.masked_positions, masked.labels), plain.input_ids)
    taught = teacher(vocab_size=200)
    for config, ids in ((BESIDE, given[0].input_ids), (ALONE, as_it_is[0].input_ids)):
        lesson = Lessons(CPU, config, taught).read(given[0])
        assert torch.equal(lesson.inputs["input_ids"], ids)
        assert torch.equal(lesson.states, taught.model(ids).last_hidden_state)
    assert Lessons(CPU).read(given[0]).arguments().keys() == {"input_ids", "masked_positions", "labels"}


def test_the_projection_begins_as_the_identity_with_the_teachers_last_norm():
    """A read-out that is the norm's input up to its mean and spread is matched at once."""
    taught = teacher()
    statistics = taught.measure([(taught.states(input_ids=batch().input_ids), None)])
    model = student(ALONE, statistics)
    captured = []
    taught.model.layers[-1].mlp_norm.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    states = taught.states(input_ids=batch().input_ids)
    assert model.errors(3 * captured[0] + 0.7, states).max() < 1e-10


def test_a_teacher_that_sums_its_layers_gives_the_norm_its_mean_and_spread():
    torch.manual_seed(3)
    config = residual_config()
    config.connectivity = "acn"
    taught = Teacher(AcnModel(config), CPU, "fp32")
    states = taught.states(input_ids=batch().input_ids)
    counted = torch.ones(3, 11, dtype=torch.bool)
    counted[1, 4:] = False
    found = taught.measure([(states[:1], None), (states[1:], counted[1:])])
    tokens = states[counted].double().numpy()
    assert found.variance == pytest.approx(tokens.var(axis=0).sum())
    np.testing.assert_allclose(found.norm_weight, tokens.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.norm_bias, tokens.mean(axis=0), rtol=1e-4, atol=1e-6)


@pytest.fixture
def packed(tmp_path):
    """A corpus packed by documents, with padding."""
    for name, seed in (("train", 1), ("validation", 2)):
        lines = sentences(90, seed).splitlines()
        (tmp_path / f"{name}.txt").write_text(
            "\n\n".join(" ".join(line.split()[: 3 + i % 7]) for i, line in enumerate(lines))
        )
    corpus = CorpusConfig(train=str(tmp_path / "train.txt"), validation=str(tmp_path / "validation.txt"))
    output = tmp_path / "tokens"
    prepare_corpus(PrepareConfig(corpus=corpus, output=str(output), vocab_size=120, seq_length=32, packing="documents"))
    return output


def test_padding_is_not_matched_and_all_micro_batches_count_by_their_tokens(packed, one_rank):
    given = list(validation_batches(packed, MaskingConfig(), batch_size=3, max_blocks=6, rank=0, world_size=1))
    fields = {"vocab_size": 200, "max_position_embeddings": 32}
    model, lessons = student(ALONE, **fields), Lessons(CPU, ALONE, teacher(**fields))
    shares = lessons.of_step(0, given)
    losses, errors, counts = [], 0.0, 0
    for one in given:
        assert isinstance(one, PackedBatch)
        lesson = lessons.read(one)
        losses.append(float(model(**lesson.arguments(), **shares).match))
        read_out = model.acn(**lesson.inputs).last_hidden_state
        real = (one.document_ids > 0).numpy()
        assert not real.all()
        errors += errors_in_float64(model, read_out, lesson.states)[real].sum()
        counts += real.sum()
    assert np.mean(losses) == pytest.approx(errors / counts, rel=1e-5)


@pytest.mark.parametrize("config", [ALONE, BESIDE])
def test_validation_measures_the_match_at_every_depth(prepared, one_rank, config):
    """51 blocks in batches of 8: the last one has rows that only fill it."""
    given = list(validation_batches(prepared, MaskingConfig(), batch_size=8, max_blocks=51, rank=0, world_size=1))
    assert (given[-1].samples < 0).any()
    model, lessons = student(config, vocab_size=200).eval(), Lessons(CPU, config, teacher(vocab_size=200))
    metrics = validate_depths(model, given, lessons, student=model)
    errors, count = np.zeros(3), 0
    for one in given:
        lesson, there = lessons.read(one), (one.samples >= 0).numpy()
        read_outs = model.acn(**lesson.inputs, output_hidden_states=True).hidden_states
        errors += [errors_in_float64(model, read_out, lesson.states)[there].sum() for read_out in read_outs]
        count += there.sum() * 16
    for depth, error in enumerate(errors):
        assert metrics[f"validation/match_depth_{depth:02d}"] == pytest.approx(error / count, rel=1e-5)
    assert metrics["validation/match"] == metrics["validation/match_depth_02"]
    assert ("validation/accuracy_depth_02" in metrics) == (config is BESIDE)


@pytest.mark.parametrize("config", [ALONE, BESIDE])
def test_the_flops_are_what_torch_counts(config):
    model, lessons = student(config), Lessons(CPU, config, teacher(num_hidden_layers=3))
    model.set_attn_implementation("eager")
    lessons.teacher.model.set_attn_implementation("eager")
    one = batch()
    with FlopCounterMode(display=False) as asking:
        lesson = lessons.read(one)
    with FlopCounterMode(display=False) as forward:
        model(**lesson.arguments())
    counted = asking.get_total_flops() + 3 * forward.get_total_flops()
    expected = training_flops(model.config, 11, 2, lessons.teacher.model.config, config.masked)
    assert counted == 3 * expected  # three blocks


def test_the_weights_of_a_student_are_those_of_a_plain_run_and_its_projection():
    model = student(ALONE)
    torch.manual_seed(0)
    plain = AcnForMaskedLM(AcnConfig(**{k: v for k, v in model.config.to_dict().items() if k != "architectures"}))
    kept = {name: value for name, value in model.state_dict().items() if not is_projection(name)}
    assert kept.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in kept.items())
    assert sorted(model.state_dict().keys() - kept.keys()) == [
        "projection.dense.bias", "projection.dense.weight", "projection.norm.bias", "projection.norm.weight",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight": 1.0}, "teacher.weight=1.0 needs a teacher: name it in teacher.model, or start from it"),
        ({"weight": -1.0}, "teacher.weight=-1.0 must not be negative"),
        ({"model": "there"}, "teacher.model=there needs teacher.weight above 0"),
        ({"mlm_weight": 0.0}, "teacher.mlm_weight=0.0 needs teacher.weight above 0"),
        ({"weight": 1.0, "model": "there", "mlm_weight": -1.0}, "teacher.mlm_weight=-1.0 must not be negative"),
    ],
)
def test_what_is_no_teaching_is_refused_by_name(fields, message):
    (problem,) = TeacherConfig(**fields).problems(init_from=None)
    assert str(problem).startswith(message)


def test_a_fitted_projection_is_the_ridge_regression_of_what_the_norm_is_given():
    """In float64, from the normal equations of all tokens at once."""
    generator = torch.Generator().manual_seed(5)
    model = student(ALONE)
    read_out = torch.randn(200, 16, generator=generator) @ torch.randn(16, 16, generator=generator) + 1
    wanted = torch.randn(200, 16, generator=generator) + 0.3 * read_out
    model.projection.fit([(read_out[:70], wanted[:70]), (read_out[70:], wanted[70:])])
    x, y = read_out.double().numpy(), wanted.double().numpy()
    x_centred = x - x.mean(0)
    covariance = x_centred.T @ x_centred / len(x)
    ridge = RIDGE * np.diag(covariance).mean() * np.eye(16)
    weight = np.linalg.solve(covariance + ridge, x_centred.T @ (y - y.mean(0)) / len(x))
    dense = model.projection.dense
    np.testing.assert_allclose(dense.weight.detach().numpy(), weight.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dense.bias.detach().numpy(), y.mean(0) - x.mean(0) @ weight, rtol=1e-4, atol=1e-5)


def test_what_the_last_norm_is_given_is_told_of_dimensions_without_weight_too():
    """Two large ones, as BERTs have them: the states do not show them, and all others are small beside them."""
    taught = teacher()
    norm = taught.model.layers[-1].mlp_norm
    with torch.no_grad():
        norm.weight[:2] = 0
        taught.model.layers[-1].mlp.down_proj.bias[:2] = torch.tensor([30.0, -20.0])
    ids = batch().input_ids
    normalized, states = taught.normalized(input_ids=ids), taught.states(input_ids=ids)
    torch.testing.assert_close(normalized * norm.weight + norm.bias, states)
    assert (normalized[..., :2].abs() > 1).all()
    assert normalized.mean(-1).abs().max() < 1e-5
    assert not norm._forward_pre_hooks
    for layer in taught.model.layers:
        layer.compile(backend="eager", dynamic=False)
    taught.states(input_ids=ids)
    torch.testing.assert_close(taught.normalized(input_ids=ids), normalized)
    torch.compiler.reset()


def test_a_student_that_begins_as_its_teacher_reads_most_of_it_from_its_first_step(prepared):
    """Through the fitted projection, on tokens that it was not fitted on; the identity reads nothing of it."""
    taught = teacher()
    model = student(ALONE, taught.measure([(taught.states(input_ids=batch().input_ids), None)]))
    model.acn.load_state_dict(taught.model.state_dict(), strict=False)
    Annealing(AnnealConfig(share=0.5), [model], CPU).set(1.0)
    generator = torch.Generator().manual_seed(8)
    fitted_on, other = torch.randint(5, 53, (2, 40, 11), generator=generator)

    def match() -> float:
        return model.eval()(states=taught.states(input_ids=other), input_ids=other).match.item()

    before = match()
    pair = model.acn(input_ids=fitted_on).last_hidden_state, taught.normalized(input_ids=fitted_on)
    model.projection.fit([(pair[0].flatten(0, 1), pair[1].flatten(0, 1))])
    assert match() < 0.5 * before
    assert match() < 0.3
