"""A student is its exported model; gradients reach its slice only; leaves carry the same gradients as views."""

import pytest
import torch
from autodistil_helpers import ALL_CONFIGS, inputs_of, objective_of, random_teacher, small_space, uneven_students
from hypothesis import given, settings
from hypothesis import strategies as st

from autodistil.data.batch import real_tokens
from autodistil.models.attention import run_tapped
from autodistil.models.families.bert import BERT
from autodistil.models.families.family import leading
from autodistil.models.layer_maps import LAYER_MAPS, spread_layers, stride_layers
from autodistil.models.superlm import SuperLM, TokenRows, used_layers


@pytest.fixture(params=sorted(ALL_CONFIGS))
def teacher(request):
    return random_teacher(request.param)


def batch_of(teacher, length=12):
    batch = inputs_of(teacher, 3, length)
    if "pixel_values" in batch:
        return batch
    ids = batch["input_ids"]
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    ids[1, length // 2 :] = teacher.model.config.pad_token_id
    return {"input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def test_sliced_equals_extracted_for_every_student(teacher):
    sub_space = small_space(teacher)
    superlm = SuperLM.from_teacher(teacher, sub_space)
    batch = batch_of(teacher)
    for student in (*sub_space.students, *uneven_students(teacher)):
        sliced = superlm.forward(student, batch, output=True).output
        extracted = superlm.extract(student)(**batch).last_hidden_state
        assert torch.equal(sliced, extracted), student.label


@torch.no_grad()
def test_extracted_equals_reloaded(teacher, tmp_path):
    from transformers import AutoModel

    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    student = superlm.sub_space.smallest
    model = superlm.extract(student)
    model.save_pretrained(tmp_path)
    batch = batch_of(teacher)
    reloaded = AutoModel.from_pretrained(tmp_path).eval()
    assert reloaded.config.model_type == teacher.model.config.model_type
    assert torch.equal(reloaded(**batch).last_hidden_state, model(**batch).last_hidden_state)


@torch.no_grad()
def test_student_of_full_size_is_the_teacher(teacher):
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    batch = batch_of(teacher)
    ours = superlm.forward(teacher.dims, batch, output=True)
    theirs = teacher.states(batch, output=True)
    assert torch.equal(ours.output, theirs.output)
    for mine, other in zip(ours.attention, theirs.attention, strict=True):
        assert torch.equal(mine, other)


def turned(states, theta):
    """Rotary positions written anew: dimension i and i + d/2 of position p are turned by p * theta^(-2i/d)."""
    length, dims = states.shape[-2:]
    angle = torch.arange(length)[:, None] * theta ** (-2 * torch.arange(dims // 2) / dims)
    first, second = states.chunk(2, -1)
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)


def recomputed(teacher, layer, projected):
    """Q, K and V (batch, heads, seq, head_size) of a layer from what its projections gave."""
    if len(projected) == 1:
        projected = projected[0].chunk(3, -1)
    query, key, value = (x.unflatten(-1, (teacher.dims.num_heads, -1)).transpose(1, 2) for x in projected)
    if not teacher.family.rotary:
        return query, key, value
    config = teacher.model.config
    theta = config.rope_parameters[config.layer_types[layer]]["rope_theta"]
    return turned(query, theta), turned(key, theta), value


@pytest.mark.parametrize("layer", [0, 1])
def test_captured_states_are_the_projections_of_the_layer(teacher, layer):
    """Q, K, V from the tap equal the layer's own projections of its input."""
    suffixes = [name for name, atoms in teacher.family.linears.items() if "num_heads" in atoms[0]]
    seen = []
    hooks = []
    for suffix in suffixes:
        module = teacher.model.get_submodule(f"{teacher.family.layers}.{layer}.{suffix}")
        hooks.append(module.register_forward_hook(lambda _m, _i, out: seen.append(out)))
    states = teacher.states(batch_of(teacher), layer=layer, output=True)
    for hook in hooks:
        hook.remove()
    for captured, projected in zip(states.attention, recomputed(teacher, layer, seen), strict=True):
        torch.testing.assert_close(captured, projected, rtol=0, atol=1e-5 if teacher.family.rotary else 0)


def test_teacher_stops_after_the_layer(teacher):
    calls = []
    last = teacher.model.get_submodule(f"{teacher.family.layers}.{teacher.dims.num_layers - 1}")
    hook = last.register_forward_hook(lambda *_: calls.append(1))
    teacher.states(batch_of(teacher), layer=0)
    hook.remove()
    assert calls == []
    assert teacher.states(batch_of(teacher)).output is None


def gradients_by(superlm, student, batch, teacher_states, leaves):
    objective = objective_of("relation-kl")
    mask = real_tokens(batch)
    if leaves:
        rows = superlm.token_rows(batch)
        weights = superlm.leaf_weights(student, rows)
        states = superlm.forward(student, rows.batch if rows else batch, weights)
        objective(states, teacher_states, mask).backward()
        superlm.accumulate(student, weights, rows)
    else:
        objective(superlm.forward(student, batch), teacher_states, mask).backward()
    gradients = {name: p.grad for name, p in superlm.parameters.items()}
    for parameter in superlm.parameters.values():
        parameter.grad = None
    return gradients


def test_leaf_gradients_equal_autograd_through_views(teacher):
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    batch = batch_of(teacher)
    states = teacher.states(batch)
    for student in (superlm.sub_space.smallest, superlm.sub_space.largest, *uneven_students(teacher)):
        by_view = gradients_by(superlm, student, batch, states, leaves=False)
        by_leaf = gradients_by(superlm, student, batch, states, leaves=True)
        for name, expected in by_view.items():
            assert (expected is None) == (by_leaf[name] is None), name
            if expected is not None:
                torch.testing.assert_close(by_leaf[name], expected, rtol=1e-5, atol=1e-7, msg=name)


def test_gradients_reach_only_the_students_slice(teacher):
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    student = superlm.sub_space.smallest
    batch = batch_of(teacher)
    gradients = gradients_by(superlm, student, batch, teacher.states(batch), leaves=True)
    touched = 0
    for name, gradient in gradients.items():
        if gradient is None:
            continue
        inside = torch.zeros_like(gradient)
        value = superlm.parameters[name]
        hf_ndim = value.dim() - value_layout(superlm, name).count("head_size")
        inside[leading(superlm.family.layout(name, hf_ndim, superlm.base_config), student)] = 1
        assert not gradient[inside == 0].any(), name
        touched += int(gradient.any())
    assert touched > 0


def value_layout(superlm, name):
    ndim = 1 if name.endswith("bias") or "norm" in name.lower() else 2
    return superlm.family.layout(name, ndim, superlm.base_config)


def test_what_follows_the_last_relation_gets_no_gradient():
    teacher = random_teacher("bert")
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    batch = batch_of(teacher)
    gradients = gradients_by(superlm, superlm.sub_space.largest, batch, teacher.states(batch), leaves=True)
    last = teacher.dims.num_layers - 1
    assert gradients[f"encoder.layer.{last}.attention.self.value.weight"] is not None
    assert gradients[f"encoder.layer.{last}.output.dense.weight"] is None


@given(st.integers(0, 3), st.lists(st.integers(0, 40), min_size=4, max_size=12))
def test_token_rows_restore_the_ids_and_keep_the_padding_id(padding, ids):
    batch = {"input_ids": torch.tensor([ids])}
    rows = TokenRows.of(batch, padding)
    if rows is None:
        assert len({*ids, padding}) <= padding
        return
    renumbered = rows.batch["input_ids"]
    assert torch.equal(rows.rows[renumbered], batch["input_ids"])
    assert torch.equal(renumbered == padding, batch["input_ids"] == padding)
    assert rows.rows.unique().numel() == rows.rows.numel()


@given(st.sampled_from(sorted(LAYER_MAPS)), st.integers(1, 24), st.data())
def test_layer_maps_are_increasing_and_inside_the_teacher(name, teacher_depth, data):
    depth = data.draw(st.integers(1, teacher_depth))
    layers = LAYER_MAPS[name](depth, teacher_depth)
    assert len(layers) == depth
    assert list(layers) == sorted(set(layers))
    assert 0 <= layers[0] <= layers[-1] < teacher_depth
    if name == "spread":
        assert layers[-1] == teacher_depth - 1


def test_layer_maps_of_the_paper():
    assert stride_layers(4, 12) == (0, 3, 6, 9)
    assert stride_layers(7, 12) == (0, 1, 3, 5, 6, 8, 10)
    assert spread_layers(4, 12) == (0, 4, 7, 11)
    assert spread_layers(1, 12) == (11,)


def test_superlm_holds_only_layers_that_students_use():
    teacher = random_teacher("bert")
    sub_space = small_space(teacher)
    superlm = SuperLM.from_teacher(teacher, sub_space)
    layers = used_layers(sub_space, teacher.dims.num_layers, spread_layers)
    held = {BERT.layer_of(name) for name in superlm.parameters} - {None}
    assert held == set(range(len(layers)))


@settings(max_examples=5)
@given(st.integers(0, 3))
def test_tap_outside_of_run_tapped_is_plain_attention(layer):
    teacher = random_teacher("bert")
    batch = batch_of(teacher)
    plain = teacher.model(**batch).last_hidden_state
    assert torch.equal(run_tapped(teacher.model, batch, layer, output=True).output, plain)


@torch.no_grad()
def test_a_student_alone_is_the_student_of_its_superlm(teacher):
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    batch = batch_of(teacher)
    for student in (*superlm.sub_space.students, *uneven_students(teacher)):
        alone = superlm.alone(student)
        assert alone.sub_space.students == (student,)
        assert torch.equal(
            alone.forward(student, batch, output=True).output, superlm.forward(student, batch, output=True).output
        )
        fresh = SuperLM.from_teacher(teacher, alone.sub_space).state_dict()
        assert fresh.keys() >= alone.state_dict().keys()  # ELECTRA has no projection where both sizes agree
        assert all(torch.equal(fresh[name], value) for name, value in alone.state_dict().items())


def test_whole_parameters_are_shared_and_slices_copied():
    """Nothing is copied that lies in one piece; a backward through leaves leaves the parameters as they are."""
    teacher = random_teacher("bert")
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    before = {name: value.clone() for name, value in superlm.state_dict().items()}
    own = "encoder.layer.0.intermediate.dense.weight"
    for student in (superlm.sub_space.largest, superlm.sub_space.smallest):
        leaves = superlm.leaf_weights(student, None)
        shared = leaves[own].data_ptr() == superlm.parameters[own].data_ptr()
        assert shared == (student == superlm.sub_space.largest)
        assert leaves[own].is_leaf
        assert leaves[own].is_contiguous()
    gradients_by(superlm, superlm.sub_space.largest, batch_of(teacher), teacher.states(batch_of(teacher)), leaves=True)
    assert all(torch.equal(before[name], value) for name, value in superlm.state_dict().items())
