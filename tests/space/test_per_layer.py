"""Students whose layers have sizes of their own: as values, in ids, and in sub-spaces that do not list them."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.errors import SpaceError
from autodistil.space.files import load_space, space_from_dict, space_to_dict
from autodistil.space.fit import check_fits
from autodistil.space.per_layer import PerLayerSubSpace
from autodistil.space.student import Candidate, LayerSizes, StudentConfig, layers_text, read_layers

AXES = {
    "num_layers": (2, 3, 4),
    "hidden_size": (32, 64),
    "head_size": (16,),
    "num_heads": (0, 1, 2, 4),
    "mlp_ratio": (0.0, 1.0, 2.0),
}
SUB = PerLayerSubSpace("base", AXES)
LAYERS = st.lists(st.builds(LayerSizes, st.integers(0, 9), st.integers(0, 999)), min_size=2, max_size=8)
WHOLE = LAYERS.filter(lambda layers: all(map(any, zip(*layers, strict=True))))
UNEVEN = st.builds(
    lambda layers, hidden, head, vocab, size: StudentConfig.of_layers(
        layers, hidden_size=hidden, head_size=head, vocab_size=vocab, embedding_size=size
    ),
    *(WHOLE, st.integers(1, 999), st.integers(1, 99)),
    *(st.none() | st.integers(1, 9_999), st.none() | st.integers(1, 99)),
)
ALIKE = st.builds(StudentConfig, *[st.integers(1, 99)] * 5)


@given(UNEVEN | ALIKE)
def test_a_label_says_all_of_a_student(student):
    candidate = Candidate("base", student)
    if student.layers or student.free_attention or student.hidden_size % student.num_heads == 0:
        assert StudentConfig.of_label(student.label) == student
        assert Candidate.of_id(candidate.id) == candidate
    assert pickle.loads(pickle.dumps(student)) == student
    assert read_layers(layers_text(student.layers)) == student.layers


@given(st.lists(UNEVEN | ALIKE, min_size=2, max_size=6))
def test_students_of_both_kinds_have_one_order_and_labels_of_their_own(students):
    ordered = sorted(students)
    assert sorted(reversed(students)) == ordered
    assert len({student.label for student in students}) == len(set(students))


@given(UNEVEN)
def test_a_student_is_made_of_the_layers_that_it_has(student):
    own, (attentions, ffns, heads, units) = student.own_layers, student.totals
    assert student.num_layers == len(own) == len(student.kept_layers)
    assert [student.layers[i] for i in student.kept_layers] == list(own)
    assert attentions == sum(layer.num_heads > 0 for layer in own)
    assert ffns == sum(layer.intermediate_size > 0 for layer in own)
    assert (heads, units) == tuple(map(sum, zip(*own, strict=True)))
    for i, layer in enumerate(own):
        at = student.at(i)
        assert not at.layers
        assert at.num_heads == (layer.num_heads or student.num_heads)
        assert at.intermediate_size == (layer.intermediate_size or student.intermediate_size)


def test_alike_layers_cost_what_they_did():
    alike = StudentConfig(3, 32, 2, 16, 64)
    layers = StudentConfig.of_layers([LayerSizes(2, 64)] * 3, hidden_size=32, head_size=16)
    assert alike.totals == layers.totals
    assert alike.encoder_weights == layers.encoder_weights
    assert not layers.uneven
    assert layers.plain
    assert alike != layers, "one says which layers it has, of the other a layer map does"


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("L3", "got the sizes 'L3'"),
        ("L3-H32-A1_2x16-F1_2", "L2-H32-A1_2x16-F1_2, as its layers say"),
        ("L2-H32-A1_2x16-F1_2_3", "as its layers say"),
        ("L2-H32-A0_0x16-F1_2", "dimensions of at least 1"),
        ("L2-H32-A1__2x16-F1_2", "got the sizes"),
        ("L2-H0-A0-F2", "dimensions of at least 1"),
    ],
)
def test_what_is_no_label_is_refused(label, said):
    with pytest.raises(SpaceError, match=re.escape(said)):
        StudentConfig.of_label(label)


def test_layers_of_other_dimensions_are_refused():
    with pytest.raises(SpaceError, match="as many layers"):
        StudentConfig(3, 32, 2, 16, 64, layers=(LayerSizes(2, 64), LayerSizes(1, 64)))


# ---- sub-spaces


@given(st.integers(0, 10_000))
def test_a_drawn_student_has_genes_that_make_it_again(seed):
    generator = np.random.default_rng(seed)
    ends = (SUB.largest, SUB.smallest)
    for student in SUB.drawn(generator, 4, but=ends):
        assert student not in ends
        assert student.num_layers in AXES["num_layers"]
        assert SUB.student(**SUB.point_of(student)) == student
        assert SUB.student(**SUB.point_of(student)).sort_key <= SUB.largest.sort_key
    again = SUB.drawn(np.random.default_rng(seed), 4, but=ends)
    assert again == SUB.drawn(np.random.default_rng(seed), 4, but=ends)


def test_draws_reach_small_and_large_students_and_leave_out_blocks():
    drawn = SUB.drawn(np.random.default_rng(0), 300)
    share = np.array([student.encoder_weights / SUB.largest.encoder_weights for student in drawn])
    assert len(set(drawn)) == 300
    assert (share < 0.2).mean() > 0.15
    assert (share > 0.6).mean() > 0.15
    assert {student.num_layers for student in drawn} == {2, 3, 4}
    assert any(layer.num_heads and not layer.intermediate_size for student in drawn for layer in student.own_layers)


def test_it_lists_a_ladder_from_end_to_end():
    assert SUB.largest == StudentConfig.of_layers([LayerSizes(4, 128)] * 4, hidden_size=64, head_size=16)
    assert SUB.smallest == StudentConfig.of_layers([LayerSizes(1, 32)] * 4, hidden_size=32, head_size=16)
    assert not any(student.uneven for student in SUB.students)
    assert len(SUB.students) == 2 * 3
    assert SUB.num_combinations == 2 * (4 * 3) ** 4
    assert not SUB.is_listed


def test_axes_that_layers_share_are_one_gene():
    sub = PerLayerSubSpace("base", AXES, per_layer=("mlp_ratio",))
    assert [gene for gene in sub.genes if gene.startswith("num_heads")] == ["num_heads"]
    for student in sub.drawn(np.random.default_rng(0), 20):
        assert len({layer.num_heads for layer in student.layers}) == 1


def test_the_layout_of_files_has_it():
    raw = {"num_layers": [1, 2], "hidden_size": 64, "head_size": 16, "num_heads": [0, 2], "mlp_ratio": [0, 2]}
    space = space_from_dict({"sub_spaces": {"base": {**raw, "per_layer": True}}}, "mine.yaml")
    assert space_from_dict(space_to_dict(space), "mine.yaml") == space
    some = space_from_dict({"sub_spaces": {"base": {**raw, "per_layer": ["mlp_ratio"], "num_heads": 2}}}, "mine.yaml")
    assert some.sub_spaces[0].per_layer == ("mlp_ratio",)
    assert not space.is_listed
    assert space_from_dict(
        {"sub_spaces": {"base": {**raw, "per_layer": False, "num_heads": 4, "mlp_ratio": 2}}}, "x"
    ).is_listed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"per_layer": "heads"}, "allowed: true, false, or some of num_heads, mlp_ratio"),
        ({"per_layer": ["hidden_size"]}, "allowed: true, false, or some of num_heads, mlp_ratio"),
        ({"num_heads": None}, "num_heads"),
        ({"num_layers": 1}, "allowed: up to the teacher's layers"),
        ({"mlp_ratio": 0}, "mlp_ratio: got 0; allowed: a value above 0 among them"),
        ({"per_layer": False}, "num_heads: got 0; allowed: whole numbers from 1"),
        ({"head_size": None}, "got no head_size"),
    ],
)
def test_what_makes_no_layers_is_refused(change, said):
    raw = {"num_layers": [1, 2], "hidden_size": 64, "head_size": 16, "num_heads": [0, 2], "mlp_ratio": [0, 2]}
    given = {axis: values for axis, values in {**raw, "per_layer": True, **change}.items() if values is not None}
    with pytest.raises(SpaceError, match=re.escape(said)):
        space_from_dict({"sub_spaces": {"base": given}}, "mine.yaml")


def test_the_space_of_another_depth_is_refused():
    space = load_space("minilm-l6-h384-layers")
    check_fits(space, StudentConfig(6, 384, 12, 32, 1536))
    with pytest.raises(SpaceError, match="up to the teacher's 12"):
        check_fits(space, StudentConfig(12, 384, 12, 32, 1536))


def test_a_student_is_found_by_its_id_though_nobody_lists_it():
    space = load_space("minilm-l6-h384-layers")
    student = space.candidate("base-L3-H192-A1_0_0_0_3_2x32-F0_0_0_0_768_192")
    assert student not in space.candidates
    assert student.config.kept_layers == (0, 4, 5)
    for unknown in ("base-L3-H193-A1_0_0_0_3_2x32-F0_0_0_0_768_192", "big-L3", "base-L1-H192-A1_0x32-F48_0"):
        with pytest.raises(SpaceError, match="got no student"):
            space.candidate(unknown)
