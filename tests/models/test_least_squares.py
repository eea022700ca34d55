"""Least squares: linear maps of a slice are fitted to the teacher's; every family, no gradient."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from autodistil_helpers import ALL_CONFIGS, DECODER_CONFIGS, random_teacher, small_space
from variants import slow_but

from autodistil.models import least_squares
from autodistil.models.least_squares import fit_linear_maps
from autodistil.models.superlm import SuperLM
from autodistil.space.per_layer import PerLayerSubSpace
from autodistil.space.space import OneStudent, SubSpace
from autodistil.space.student import LayerSizes, StudentConfig, size_key

CUTS = {
    "narrow": {"hidden_size": 32, "num_heads": 2},
    "shallow": {"num_layers": 2},
    "fewer units": {"intermediate_size": 64},
}


def batches_of(teacher, count=4):
    """Texts with padding, or images."""
    generator = torch.Generator().manual_seed(0)
    config = teacher.model.config
    if teacher.family.modality == "image":
        size = (8, getattr(config, "num_channels", 3), config.image_size, config.image_size)
        return [{"pixel_values": torch.randn(size, generator=generator)} for _ in range(count)]
    found = []
    for length in range(12, 12 + count):
        ids = torch.randint(3, 97, (16, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[::2, -3:] = 0
        found.append({"input_ids": ids.masked_fill(mask == 0, config.pad_token_id or 0), "attention_mask": mask})
    return found


def slice_of(teacher, **cut):
    if not teacher.family.position_table and "hidden_size" in cut:
        cut = {**cut, "head_size": teacher.dims.head_size}
    return SuperLM.from_teacher(teacher, OneStudent("alone", replace(teacher.dims, **cut)))


def fit_alone(superlm, teacher, batches):
    fit_linear_maps(superlm, teacher, batches, [superlm.sub_space.largest])


def error(superlm, teacher, batches, student=None):
    """Mean squared difference of the last states from the teacher's, of the real tokens."""
    student = student or superlm.sub_space.largest
    total = []
    for batch in batches:
        real = batch["attention_mask"].bool() if "attention_mask" in batch else slice(None)
        with torch.no_grad():
            ours = superlm.forward(student, batch, output=True).output[real]
            theirs = teacher.states(batch, output=True).output[real][..., : student.hidden_size]
        total.append((ours - theirs).square().mean())
    return float(torch.stack(total).mean())


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", slow_but(["bert", "mpnet", "vit", "llama"], [*ALL_CONFIGS, *DECODER_CONFIGS]))
def test_a_fitted_slice_is_nearer_to_its_teacher(kind, cut):
    teacher = random_teacher(kind)
    batches = batches_of(teacher)
    plain, fitted = (slice_of(teacher, **CUTS[cut]) for _ in range(2))
    fit_alone(fitted, teacher, batches)
    assert error(fitted, teacher, batches) < 0.99 * error(plain, teacher, batches)


LAYERS = [LayerSizes(0, 64), LayerSizes(2, 32), LayerSizes(4, 0), LayerSizes(2, 128)]


@pytest.mark.parametrize("kind", ["bert", "mpnet", "vit", "llama"])
def test_a_student_with_layers_of_its_own_is_fitted_to_what_it_has(kind):
    teacher = random_teacher(kind)
    batches = batches_of(teacher)
    student = StudentConfig.of_layers(LAYERS, hidden_size=32, head_size=16)
    plain, fitted = (SuperLM.from_teacher(teacher, OneStudent("alone", student)) for _ in range(2))
    fit_linear_maps(fitted, teacher, batches, [student])
    assert error(fitted, teacher, batches, student) < 0.99 * error(plain, teacher, batches, student)


def test_students_that_lack_blocks_of_each_other_are_fitted_together():
    teacher, batches = random_teacher("bert"), batches_of(random_teacher("bert"), 12)
    axes = {"num_layers": (2, 3, 4), "hidden_size": (32,), "head_size": (16,), "num_heads": (0, 2, 4)}
    superlm = SuperLM.from_teacher(teacher, PerLayerSubSpace("layers", {**axes, "mlp_ratio": (0, 1, 2, 4)}))
    students = [
        StudentConfig.of_layers(layers, hidden_size=32, head_size=16)
        for layers in (LAYERS, LAYERS[::-1], [LayerSizes(4, 128)] * 4)
    ]
    before = [error(superlm, teacher, batches, student) for student in students]
    fit_linear_maps(superlm, teacher, batches, students)
    after = [error(superlm, teacher, batches, student) for student in students]
    assert sum(after) < 0.9 * sum(before)
    assert after[-1] < before[-1]


@pytest.mark.parametrize("kind", ["bert", "modernbert", "qwen3", "vit"])
def test_what_already_is_the_teacher_stays_as_it_is(kind):
    teacher = random_teacher(kind)
    superlm = slice_of(teacher)
    before = copy.deepcopy(superlm.state_dict())
    fit_alone(superlm, teacher, batches_of(teacher))
    for name, value in superlm.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-4, atol=1e-5)


def test_left_out_units_that_say_nothing_new_are_made_good(monkeypatch):
    monkeypatch.setattr(least_squares, "RIDGE", 1e-7)
    teacher = random_teacher("bert")
    teacher = replace(teacher, model=copy.deepcopy(teacher.model))
    with torch.no_grad():
        for layer in teacher.model.encoder.layer:  # the second half of the units repeats the first
            for parameter in layer.intermediate.dense.parameters():
                parameter[64:] = parameter[:64]
    superlm = slice_of(teacher, intermediate_size=64)
    batches = batches_of(teacher, 12)
    before = error(superlm, teacher, batches)
    fit_alone(superlm, teacher, batches)
    assert error(superlm, teacher, batches) < 1e-4 * before


def test_the_first_maps_are_those_of_ridge_regression():
    """Counted independently: queries of layer 0 on the embeddings, by numpy, rows of real tokens only."""
    teacher = random_teacher("bert")
    superlm, batches = slice_of(teacher, hidden_size=32, num_heads=2), batches_of(teacher)
    own, theirs = superlm.extract(superlm.sub_space.largest), teacher.model
    x, y = [], []
    with torch.no_grad():
        for batch in batches:
            real = batch["attention_mask"].bool()
            x.append(own.embeddings(batch["input_ids"])[real].numpy())
            query = theirs.encoder.layer[0].attention.self.query(theirs.embeddings(batch["input_ids"]))
            y.append(query[real][:, : 2 * teacher.dims.head_size].numpy())
    query = own.encoder.layer[0].attention.self.query
    x = np.concatenate([np.concatenate(x), np.ones((sum(map(len, x)), 1))], axis=1).astype(np.float64)
    weights = np.concatenate([query.weight.detach(), query.bias.detach()[:, None]], axis=1).astype(np.float64)
    ridge = least_squares.RIDGE * np.square(x).sum(0).mean()
    expected = weights.T + np.linalg.solve(x.T @ x + ridge * np.eye(33), x.T @ (np.concatenate(y) - x @ weights.T))
    fit_alone(superlm, teacher, batches)
    found = superlm.extract(superlm.sub_space.largest).encoder.layer[0].attention.self.query
    np.testing.assert_allclose(found.weight.detach().numpy(), expected[:32].T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.bias.detach().numpy(), expected[32], rtol=1e-3, atol=1e-4)


def test_dimensions_that_a_norm_holds_constant_stay_finite():
    teacher = random_teacher("bert")
    teacher = replace(teacher, model=copy.deepcopy(teacher.model))
    with torch.no_grad():
        for layer in teacher.model.encoder.layer:
            layer.output.LayerNorm.weight[:5] = 0
    superlm = slice_of(teacher, hidden_size=32, num_heads=2)
    fit_alone(superlm, teacher, batches_of(teacher))
    assert all(value.isfinite().all() for value in superlm.state_dict().values())


def test_students_that_share_their_maps_are_fitted_together():
    """All are nearer to the teacher, the mean of their errors too; rows that no student has stay as they are."""
    teacher, batches = random_teacher("bert"), batches_of(random_teacher("bert"), 12)
    space = SubSpace("pair", {"num_layers": (2, 3), "hidden_size": (32, 48), "head_size": (16,), "mlp_ratio": (1.0,)})
    fitted = SuperLM.from_teacher(teacher, space)
    plain = copy.deepcopy(fitted.state_dict())
    students = sorted(space.architectures, key=size_key)
    before = {student: error(fitted, teacher, batches, student) for student in students}
    fit_linear_maps(fitted, teacher, batches, students)
    for student in students:
        assert error(fitted, teacher, batches, student) < before[student]
    small = SuperLM.from_teacher(teacher, space)
    fit_linear_maps(small, teacher, batches, students[:1])
    moved = {name for name, value in small.parameters.items() if not torch.equal(value, plain[name])}
    assert {name.split(".")[2] for name in moved} == {"0", "2"}  # the middle one of three is not the small student's
    for name in moved:
        if name.endswith("output.dense.weight"):
            assert torch.equal(small.parameters[name][32:], plain[name][32:])


def test_a_shared_fit_of_one_student_is_that_of_the_student_alone():
    teacher, batches = random_teacher("modernbert"), batches_of(random_teacher("modernbert"))
    space = small_space(teacher)
    shared = SuperLM.from_teacher(teacher, space)
    alone = shared.alone(space.smallest)
    fit_linear_maps(shared, teacher, batches, [space.smallest])
    fit_alone(alone, teacher, batches)
    for name, value in shared.weights(space.smallest).items():
        torch.testing.assert_close(value, alone.weights(space.smallest)[name], rtol=1e-4, atol=1e-5)


def test_factorised_embeddings_are_fitted_around():
    teacher, batches = random_teacher("bert"), batches_of(random_teacher("bert"), 12)
    sizes = {"num_layers": (2,), "hidden_size": (32,), "head_size": (16,), "mlp_ratio": (1.0,), "embedding_size": (16,)}
    space = SubSpace("factorised", sizes)
    superlm = SuperLM.from_teacher(teacher, space, tokens=batches[0]["input_ids"])
    before = error(superlm, teacher, batches)
    fit_alone(superlm, teacher, batches)
    assert error(superlm, teacher, batches) < before


def test_layers_in_bfloat16_give_nearly_the_same_fit():
    teacher = random_teacher("bert")
    batches = batches_of(teacher)
    plain, whole, half = (slice_of(teacher, hidden_size=32, num_heads=2) for _ in range(3))
    fit_alone(whole, teacher, batches)
    fit_linear_maps(half, teacher, batches, [half.sub_space.largest], "bf16")
    assert all(value.dtype == torch.float32 for value in half.state_dict().values())
    gain = error(plain, teacher, batches) - error(whole, teacher, batches)
    assert error(plain, teacher, batches) - error(half, teacher, batches) > 0.98 * gain


@pytest.mark.parametrize("kind", ["bert", "modernbert", "mpnet", "qwen3", "vit"])
def test_layers_run_as_they_did_once_they_were_looked_at(kind):
    teacher = random_teacher(kind)
    (batch,) = batches_of(teacher, 1)
    stack = teacher.model.get_submodule(teacher.family.layers)
    with torch.no_grad():
        before = teacher.model(**batch).last_hidden_state
        calls = least_squares._calls(teacher.model, stack, batch, None)
        after = teacher.model(**batch).last_hidden_state
        states = calls[0].hidden
        for call, layer in zip(calls, stack, strict=True):
            states = replace(call, hidden=states).run(layer)
    assert torch.equal(before, after)
    assert len(calls) == len(stack)
    norm = getattr(teacher.model, "norm", None) or getattr(teacher.model, "final_norm", None)
    norm = norm or getattr(teacher.model, "layernorm", None)
    torch.testing.assert_close(states if norm is None else norm(states), before)
