"""Students with weights of few bits: sliced = extracted = reloaded, the file they are served as, straight-through
training, and a search under MB."""

from dataclasses import replace
from functools import partial

import onnx
import pytest
import torch
from autodistil_helpers import FAMILY_CONFIGS, RECIPE, own_inputs, random_teacher, small_space
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel
from variants import slow_but

from autodistil.costs.closed_form import size_mb
from autodistil.errors import ProfileError, SpaceError
from autodistil.formats.quantise import dequantised, quantised
from autodistil.formats.writing import write_formats
from autodistil.models.pooling import embedded
from autodistil.models.quantised import compute_rounded, quantisers, round_weights, rounded
from autodistil.models.superlm import SuperLM
from autodistil.space.axes.bits import BITS
from autodistil.space.files import space_from_dict, space_to_dict
from autodistil.space.student import StudentConfig
from autodistil.training.sampling import SAMPLINGS, draw_students

AXES = {"embedding_bits": (2, 4, 8, 32), "layer_bits": (4, 8, 32)}


def superlm_of(kind="bert") -> SuperLM:
    teacher = random_teacher(kind)
    return SuperLM.from_teacher(teacher, small_space(teacher).with_axes(**AXES))


# ---- the codes

MATRICES = st.tuples(st.integers(1, 5), st.integers(1, 70), st.integers(0, 2**31 - 1)).map(
    lambda drawn: torch.randn(drawn[0], drawn[1], generator=torch.Generator().manual_seed(drawn[2]))
)


@given(MATRICES, st.sampled_from([2, 4, 8]), st.sampled_from([None, 16, 64]))
def test_codes_fit_and_are_a_fixed_point(weight, bits, block):
    codes, scales = quantised(weight, bits, block)
    assert codes.min() >= -(2 ** (bits - 1))
    assert codes.max() < 2 ** (bits - 1)
    assert torch.equal(codes, codes.round())
    once = dequantised(codes, scales, weight.shape[1])
    again = dequantised(*quantised(once, bits, block), weight.shape[1])
    assert torch.allclose(once, again, rtol=1e-6, atol=0)


@given(MATRICES, st.sampled_from([None, 16]))
def test_no_error_is_beyond_that_of_the_plain_scale(weight, block):
    """By hand: the block's largest value at -8 of 15 steps, the others rounded."""
    codes, scales = quantised(weight, 4, block)
    size = block or weight.shape[1]
    error = (dequantised(codes, scales, weight.shape[1]) - weight).square()
    for row in range(len(weight)):
        for start in range(0, weight.shape[1], size):
            part = weight[row, start : start + size]
            scale = part[part.abs().argmax()] / -8
            plain = (part / scale).round().clamp(-8, 7) * scale
            assert error[row, start : start + size].sum() <= (plain - part).square().sum() * (1 + 1e-5)


def test_zeros_stay_zeros():
    codes, scales = quantised(torch.zeros(2, 5), 4, 4)
    assert not dequantised(codes, scales, 5).any()
    assert scales.isfinite().all()


def test_gradients_go_straight_through():
    weight = torch.randn(3, 5, requires_grad=True)
    (rounded(weight, (4, None)) * torch.arange(15.0).view(3, 5)).sum().backward()
    assert torch.equal(weight.grad, torch.arange(15.0).view(3, 5))


# ---- the model


@pytest.mark.parametrize("kind", sorted(FAMILY_CONFIGS))
@torch.no_grad()
def test_sliced_is_extracted_is_reloaded(kind, tmp_path):
    superlm = superlm_of(kind)
    generator = torch.Generator().manual_seed(0)
    for student in superlm.sub_space.students[::13]:
        model = superlm.extract(student)
        ids, mask, batch = own_inputs(superlm, student, generator)
        ours = superlm.forward(student, batch, output=True).output
        assert torch.equal(model(input_ids=ids, attention_mask=mask).last_hidden_state[mask == 1], ours[mask == 1])
    model.save_pretrained(tmp_path)
    reloaded = AutoModel.from_pretrained(tmp_path).eval()
    again = reloaded(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(again[mask == 1], ours[mask == 1])
    bits = {"embeddings": student.embedding_bits, "layers": student.layer_bits}
    assert getattr(reloaded.config, "weight_bits", None) == (bits if student.quantised else None)


def test_few_bits_are_few_values():
    superlm = superlm_of()
    student = superlm.sub_space.largest
    few = replace(student, embedding_bits=2, layer_bits=4)
    names = quantisers(superlm.extract(few), few.weight_bits)
    weights, floats = superlm.weights(few), superlm.weights(student)
    assert {bits for bits, _ in names.values()} == {2, 4}
    for name, (bits, block) in names.items():
        width = weights[name].shape[1]
        for row in weights[name].split(1):
            for part in row.split(block or width, dim=1):
                assert len(part.unique()) <= 2**bits
    for name in floats.keys() - names.keys():
        assert torch.equal(weights[name], floats[name])


def test_floats_train_on_the_gradients_of_what_was_rounded():
    """A step on the float weights, by the gradient at the rounded ones."""
    superlm = superlm_of()
    student = replace(superlm.sub_space.largest, embedding_bits=4, layer_bits=4)
    generator = torch.Generator().manual_seed(0)
    _, _, batch = own_inputs(superlm, student, generator)
    rows = superlm.token_rows(batch)
    leaves = superlm.leaf_weights(student, rows)
    superlm.forward(student, rows.batch, leaves, output=True).output.square().sum().backward()
    superlm.accumulate(student, leaves, rows)
    weights = {name: value.detach().requires_grad_() for name, value in superlm.weights(student).items()}
    superlm.forward(student, batch, weights, output=True).output.square().sum().backward()
    assert any(value.grad is not None for value in weights.values())
    for name, own, index, shape in superlm._slices(student):
        theirs, ours = weights[name].grad, superlm.parameters[own].grad
        if theirs is not None:
            assert torch.allclose(ours[index].reshape(shape), theirs, rtol=1e-4, atol=1e-5)


def test_a_model_that_computes_rounded_is_the_one_of_rounded_weights():
    """Answers and gradients: those of the rounded weights, which are left as floats until they are rounded."""
    superlm = superlm_of("bert")
    student = superlm.sub_space.largest
    ids = torch.arange(10, 22)[None]
    model, other = superlm.extract(student), superlm.extract(student)
    for one in (model, other):
        one.config.weight_bits = {"embeddings": 2, "layers": 4}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    compute_rounded(model)
    round_weights(other)
    answers = [one(input_ids=ids).last_hidden_state for one in (model, other)]
    assert torch.allclose(*answers, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for answer in answers:
        answer.square().sum().backward()
    gradients = dict(other.named_parameters())
    for name, value in model.named_parameters():
        if value.grad is not None:
            assert torch.allclose(value.grad, gradients[name].grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bits", ["4", {"embeddings": 3, "layers": 4}, {"embeddings": 4, "layers": 2}, [4, 4]])
def test_a_config_that_says_something_else_of_bits_is_refused(bits):
    model = superlm_of().extract(superlm_of().sub_space.largest)
    model.config.weight_bits = bits
    with pytest.raises(ProfileError, match=r"weight_bits in config.json: got .*; allowed: .*; restore it"):
        round_weights(model)


@pytest.mark.parametrize("sampling", sorted(SAMPLINGS))
def test_draws_are_the_architectures_with_bits_of_the_set(sampling):
    teacher = random_teacher()
    plain = small_space(teacher)
    recipe = replace(RECIPE, sampling=sampling)
    drawn = [draw_students(plain.with_axes(**AXES), recipe, step) for step in range(40)]
    assert [[student.architecture for student in step] for step in drawn] == [
        draw_students(plain, recipe, step) for step in range(40)
    ]
    found = {(student.embedding_bits, student.layer_bits) for step in drawn for student in step}
    assert len(found) == 12


# ---- the file


FILES = [("bert", 4, 4), ("bert", 2, 8), ("bert", 8, None), ("mpnet", None, 4), ("electra-factorised", 4, 4)]
OTHERS = [(kind, 4, 4) for kind in sorted(FAMILY_CONFIGS.keys() - {"bert", "electra-factorised"})]


@pytest.mark.parametrize(
    ("kind", "embedding_bits", "layer_bits"), slow_but([("bert", 4, 4), ("bert", 8, None)], [*FILES, *OTHERS])
)
def test_the_file_holds_the_students_bits_and_no_more_than_the_closed_form_says(
    kind, embedding_bits, layer_bits, tmp_path
):
    superlm = superlm_of(kind)
    student = replace(superlm.sub_space.largest, embedding_bits=embedding_bits, layer_bits=layer_bits)
    (file,) = write_formats(superlm.extract(student), None, ["onnx-bits"], tmp_path)
    assert file.size_mb <= size_mb([student], random_teacher(kind).encoder_shape)[0] <= file.size_mb + 0.05
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / file.file).graph.initializer}
    assert (onnx.TensorProto.INT4 in kinds) == (layer_bits == 4)
    if layer_bits is None:  # activations are floats, so all is exact
        assert file.agreement.max_difference < 1e-5


# ---- spaces


def space(**axes):
    grid = {"num_layers": [2], "hidden_size": [64], "head_size": 32, "mlp_ratio": 2.0, **axes}
    return space_from_dict({"name": "x", "sub_spaces": {"base": grid}}, "my.yaml")


def test_bits_are_read_written_and_shown():
    found = space(embedding_bits=[32, 4], layer_bits=8)
    labels = {candidate.config.label for candidate in found.candidates}
    assert labels == {"L2-H64-A2-F128-EB4-LB8", "L2-H64-A2-F128-LB8"}
    assert {StudentConfig.of_label(label).label for label in labels} == labels
    assert space_from_dict(space_to_dict(found), "x") == found


@pytest.mark.parametrize("axis", BITS)
def test_other_bits_are_refused(axis):
    with pytest.raises(SpaceError, match=f"{axis}: got 3; allowed: .*8, 32; correct it"):
        space(**{axis: [3, 8]})


@pytest.mark.parametrize("bits", slow_but([2], [2, 4]))
def test_tables_of_widths_that_fill_no_whole_bytes_are_exact(bits, tmp_path):
    teacher = random_teacher("bert")
    sub_space = small_space(teacher).with_axes(hidden_size=(9,), head_size=(9,), num_heads=(1,))
    superlm = SuperLM.from_teacher(teacher, sub_space)
    student = replace(superlm.sub_space.smallest, embedding_bits=bits)
    (file,) = write_formats(superlm.extract(student), None, ["onnx-bits"], tmp_path)
    assert file.size_mb <= size_mb([student], teacher.encoder_shape)[0]
    assert file.agreement.max_difference < 1e-5


@pytest.mark.slow
def test_the_map_to_the_output_teachers_embeddings_stays_exact(tmp_path):
    """It is multiplied with states of texts, not of tokens, and no budget in MB counts it."""
    superlm = superlm_of()
    student = replace(superlm.sub_space.largest, embedding_bits=4, layer_bits=4)
    head = torch.randn(96, student.hidden_size)
    embed = partial(embedded, head=head, normalize=True)
    (file,) = write_formats(superlm.extract(student), None, ["onnx-bits"], tmp_path, embed)
    kept = {tuple(one.dims) for one in onnx.load(tmp_path / file.file).graph.initializer if one.data_type == 1}
    assert (student.hidden_size, 96) in kept
    assert file.embedding.mean_cosine > 0.9
