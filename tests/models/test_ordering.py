"""Reordering keeps the function, puts what matters first, and survives the disk."""

import pytest
import torch
from autodistil_helpers import ALL_CONFIGS, inputs_of, random_teacher, small_space
from hypothesis import given, settings
from hypothesis import strategies as st

from autodistil.errors import RunError
from autodistil.models.ordering import ORDERS, Importance, ImportanceOrder, apply_order, block_influence, energy_scores
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import load_teacher


def batches_of(teacher, length=12):
    return [inputs_of(teacher, 4, length, seed) for seed in (2, 3)]


def random_order(teacher, seed):
    generator = torch.Generator().manual_seed(seed)
    dims = teacher.dims
    shapes = {
        "hidden_size": (dims.hidden_size,),
        "num_heads": (dims.num_layers, dims.num_heads),
        "head_size": (dims.num_layers, dims.num_heads, dims.head_size),
        "intermediate_size": (dims.num_layers, dims.intermediate_size),
        "num_layers": (dims.num_layers,),
    }
    scores = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    if teacher.family.shares_heads:
        scores["num_heads"][:] = scores["num_heads"][0]
    return Importance(**scores).order()


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(sorted(ALL_CONFIGS)), st.integers(0, 1000))
def test_any_order_keeps_the_function(kind, seed):
    teacher = random_teacher(kind)
    order = random_order(teacher, seed)
    batch = batches_of(teacher)[0]
    ours = apply_order(teacher, order).states(batch, output=True).output
    theirs = teacher.states(batch, output=True).output
    assert not torch.equal(ours, theirs)
    torch.testing.assert_close(ours, theirs[..., order.hidden_size], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ORDERS))
@pytest.mark.parametrize("kind", sorted(ALL_CONFIGS))
def test_importance_order_preserves_the_student_of_full_size(name, kind):
    teacher = random_teacher(kind)
    batches = batches_of(teacher)
    order = ORDERS[name](teacher, batches).order()
    ordered = apply_order(teacher, order)
    superlm = SuperLM.from_teacher(ordered, small_space(teacher))
    full = superlm.forward(teacher.dims, batches[0], output=True).output
    theirs = teacher.states(batches[0], output=True).output
    torch.testing.assert_close(full, theirs[..., order.hidden_size], rtol=0, atol=1e-5)
    assert ordered.fingerprint == teacher.fingerprint
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_the_real_teacher_keeps_its_function():
    teacher = load_teacher()
    ids = teacher.tokenizer(["The quick brown fox jumps over the lazy dog."], return_tensors="pt")["input_ids"]
    order = ORDERS["both"](teacher, [{"input_ids": ids}]).order()
    ours = apply_order(teacher, order).states({"input_ids": ids}, output=True).output
    theirs = teacher.states({"input_ids": ids}, output=True).output
    torch.testing.assert_close(ours, theirs[..., order.hidden_size], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_dead_units_and_heads_come_last(name):
    """FFN units and heads that nothing reads end at the back of the order."""
    teacher = random_teacher("bert")
    dims = teacher.dims
    dead = apply_order(teacher, random_order(teacher, 0))
    layer = dead.model.encoder.layer[1]
    with torch.no_grad():
        layer.output.dense.weight[:, [3, 70]] = 0
        layer.attention.output.dense.weight.view(dims.hidden_size, dims.num_heads, dims.head_size)[:, 2] = 0
    importance = ORDERS[name](dead, batches_of(teacher))
    order = importance.order()
    assert set(order.intermediate_size[1, -2:].tolist()) == {3, 70}
    assert order.num_heads[1, -1] == 2
    assert (importance.intermediate_size[0] > 0).all()


def test_energy_is_the_variance_that_a_linear_map_reads():
    teacher = random_teacher("bert")
    batches = batches_of(teacher)
    name = "encoder.layer.0.attention.self.query"
    with torch.no_grad():
        read = torch.cat([teacher.model.embeddings(batch["input_ids"]) for batch in batches]).flatten(0, 1)
    expected = read.var(0, correction=0) * teacher.model.get_submodule(name).weight.square().sum(0)
    torch.testing.assert_close(energy_scores(teacher, batches)[name].float(), expected, rtol=1e-4, atol=1e-7)


def test_padding_does_not_count():
    teacher = random_teacher("bert")
    (batch, _) = batches_of(teacher, 8)
    ids = torch.cat([batch["input_ids"], torch.full((4, 5), 90)], 1)
    padded = {"input_ids": ids, "attention_mask": (torch.arange(13) < 8).long().expand(4, 13)}
    for rank in ORDERS.values():
        ours, theirs = rank(teacher, [padded]), rank(teacher, [batch])
        for axis in Importance.__dataclass_fields__:
            torch.testing.assert_close(getattr(ours, axis), getattr(theirs, axis), rtol=1e-3, atol=1e-6)


def test_influential_layers_keep_the_last_and_skip_what_does_nothing():
    teacher = random_teacher("bert")
    idle = apply_order(teacher, random_order(teacher, 0))
    layer = idle.model.encoder.layer[1]
    with torch.no_grad():
        for part in (layer.attention.output.dense, layer.output.dense):
            part.weight.zero_()
            part.bias.zero_()
        for part in (layer.attention.output.LayerNorm, layer.output.LayerNorm):
            part.weight.fill_(1)
            part.bias.zero_()
    assert block_influence(idle, batches_of(teacher)).argmin() == 1
    order = ORDERS["activation"](idle, batches_of(teacher)).order()
    assert order.influential_layers(3, 4) == (0, 2, 3)
    assert order.influential_layers(1, 4) == (3,)
    assert order.influential_layers(4, 4) == (0, 1, 2, 3)


def test_order_roundtrip_and_damage(tmp_path):
    order = random_order(random_teacher("bert"), 0)
    path = tmp_path / "order.safetensors"
    order.save(path)
    read = ImportanceOrder.load(path)
    assert all(torch.equal(getattr(read, name), getattr(order, name)) for name in Importance.__dataclass_fields__)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(RunError, match="damaged"):
        ImportanceOrder.load(path)
