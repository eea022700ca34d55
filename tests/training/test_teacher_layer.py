"""Where another layer than the last is distilled, students start from what leads to it, and are ranked by that."""

import pytest
import torch
from autodistil_helpers import ALL_CONFIGS, DECODER_CONFIGS, inputs_of, objective_of, random_teacher, small_space
from hypothesis import given
from hypothesis import strategies as st
from run_helpers import run_options

from autodistil.errors import ConfigError, SpaceError
from autodistil.models.layer_maps import LAYER_MAPS, ending_in, spread_layers
from autodistil.models.ordering import ORDERS, apply_order, cut_after
from autodistil.models.superlm import SuperLM
from autodistil.objectives.hidden import nearest
from autodistil.run.inputs import space_for
from autodistil.run.run import Run

KINDS = [*ALL_CONFIGS, *DECODER_CONFIGS]
SPACE = """
sub_spaces:
  small: {num_layers: [2, 3], hidden_size: [32, 64], head_size: 16, mlp_ratio: [2.0, 4.0]}
"""


@given(st.sampled_from(sorted(LAYER_MAPS)), st.integers(0, 23), st.data())
def test_maps_end_where_the_distilled_layer_is(name, layer, data):
    depth = data.draw(st.integers(1, layer + 1))
    layers = ending_in(LAYER_MAPS[name], layer)(depth, 24)
    assert layers == LAYER_MAPS[name](depth, layer + 1)
    assert len(set(layers)) == depth
    assert max(layers) <= layer
    assert name != "spread" or layers[-1] == layer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", [1, 2])
@torch.no_grad()
def test_relations_of_the_full_slice_are_the_teachers_at_the_start(kind, layer):
    teacher, objective = random_teacher(kind), objective_of("relation-kl")
    space = small_space(teacher).with_axes(num_layers=(layer + 1,))
    superlm = SuperLM.from_teacher(teacher, space, ending_in(spread_layers, layer))
    batch = inputs_of(teacher)
    targets = teacher.states(batch, layer)
    assert objective(superlm.forward(space.largest, batch), targets) < 1e-6
    assert objective(superlm.forward(space.smallest, batch), targets) > 1e-6


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_cut_teacher_is_ranked_and_orders_the_whole_one(kind):
    teacher, batch = random_teacher(kind), inputs_of(random_teacher(kind))
    cut = cut_after(teacher, 1)
    assert (cut.dims.num_layers, teacher.dims.num_layers) == (2, 4)
    for ours, theirs in zip(cut.states(batch).attention, teacher.states(batch, 1).attention, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.enable_grad():
        order = ORDERS["both"](cut, [batch]).order().extended(4)
    assert sorted(order.num_layers.tolist()) == [0, 1, 2, 3]
    assert order.influential_layers(1, 2) == (1,)
    assert order.influential_layers(2, 2) == (0, 1)
    expected, found = (one.states(batch, output=True).output for one in (teacher, apply_order(teacher, order)))
    back = found[..., order.hidden_size.argsort()]
    torch.testing.assert_close(back, expected, rtol=1e-3, atol=1e-4)


# ---- hidden


def test_the_nearest_layer():
    assert nearest((0.0, 0.4, 1.0), (0.0, 0.2, 0.4, 0.6, 1.0)) == [0, 2, 4]
    assert nearest((0.0, 0.5, 0.6), (0.0, 1.0)) == [0, 0, 1]


@pytest.mark.parametrize("name", LAYER_MAPS)
@torch.no_grad()
def test_hidden_compares_a_layer_with_the_one_it_started_from(name):
    teacher, batch = random_teacher(), inputs_of(random_teacher())
    space = small_space(teacher).with_axes(num_layers=(2, 3))
    superlm = SuperLM.from_teacher(teacher, space, LAYER_MAPS[name])
    states, targets = (one(batch) for one in (_student(superlm), lambda batch: teacher.states(batch, None, True, True)))
    layers = LAYER_MAPS[name](3, 4)
    expected = [
        1 - torch.cosine_similarity(ours, targets.hidden[layer], dim=-1).mean()
        for ours, layer in zip(states.hidden, layers, strict=True)
    ]
    loss = objective_of("hidden")(states, targets)
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    if name == "first":  # a truncated teacher is right in every layer that it has
        assert loss < 1e-6


@torch.no_grad()
def test_hidden_of_an_assistant_or_in_place_is_by_depth_too():
    teacher, batch = random_teacher(), inputs_of(random_teacher())
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    states = _student(superlm)(batch)
    assert objective_of("hidden")(states, states) < 1e-6


def _student(superlm):
    return lambda batch: superlm.forward(superlm.sub_space.largest, batch, output=True, hidden=True)


# ---- a run


@pytest.mark.parametrize("layer_map", ["spread", "influence"])
def test_a_run_starts_at_relations_of_zero(layer_map, quickstart_teacher_dir, tmp_path):
    options = run_options(tmp_path, quickstart_teacher_dir, SPACE, objective="relation-kl", teacher_layer=2)
    run = Run.open(tmp_path / "run", {**options, "layer_map": layer_map})
    run.inputs.write_record()
    sub_space = run.inputs.space.sub_spaces[0]
    heldout = run.inputs.read_heldout()
    assert heldout.loss(run.superlms.new(sub_space), sub_space.largest) < 1e-5


def test_spaces_are_no_deeper_than_the_distilled_layer(tmp_path):
    config = random_teacher("bert").model.config
    assert {c.config.num_layers for c in space_for(None, config, 2).candidates} == {1, 2, 3}
    (tmp_path / "space.yaml").write_text(SPACE.replace(", 4.0", ""))
    assert space_for(str(tmp_path / "space.yaml"), config, 2)
    with pytest.raises(
        SpaceError, match=r"num_layers: got 3; allowed: at most 2, as students end in teacher_layer = 1"
    ):
        space_for(str(tmp_path / "space.yaml"), config, 1)
    with pytest.raises(ConfigError, match="teacher_layer = 4 is not there; allowed: 0 to 3"):
        space_for(None, config, 4)
