"""Every shipped space builds its ends; YAML is read strictly; derived spaces fit and leave no gap."""

import itertools
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autodistil.costs.closed_form import flops
from autodistil.errors import SpaceError
from autodistil.space.files import load_space, shipped_spaces, space_from_dict, space_to_dict
from autodistil.space.fit import auto_space, check_fits
from autodistil.space.shape import EncoderShape
from autodistil.space.space import SearchSpace
from autodistil.space.student import StudentConfig

MINILM = StudentConfig(6, 384, 12, 32, 1536)
BERT = StudentConfig(12, 768, 12, 64, 3072)
SHAPE = EncoderShape(30522, 514, None, pooler=True)


def assert_no_gap(space: SearchSpace):
    costs = [flops(sub.students, SHAPE, 128) for sub in space.sub_spaces]
    for low, high in itertools.pairwise(costs):
        assert high.min() <= low.max()


def test_what_is_shipped():
    assert {"minilm-l6-h384", "bert-base", "autodistil-paper", "smoke"} <= set(shipped_spaces())


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_every_shipped_space_has_ends_that_obey_the_shape_rule(name):
    space = load_space(name)
    assert len({candidate.id for candidate in space.candidates}) == len(space.candidates)
    for sub in space.sub_spaces:
        assert sub.smallest.encoder_weights <= sub.largest.encoder_weights
        assert sub.free_attention or not any(student.free_attention for student in sub.students)
    assert space_from_dict(space_to_dict(space), "copy") == space


@pytest.mark.parametrize(
    ("name", "teacher"), [("minilm-l6-h384", MINILM), ("bert-base", BERT), ("autodistil-paper", BERT)]
)
def test_spaces_fit_their_teachers(name, teacher):
    space = load_space(name)
    check_fits(space, teacher)
    if name != "autodistil-paper":
        assert_no_gap(space)
        assert space.largest == teacher


def test_the_papers_grid_is_whole_and_without_free_attention_thinned_by_the_rule():
    space = load_space("autodistil-paper")
    assert space.frees_attention
    for sub in space.sub_spaces:
        assert (len(sub.students), sub.excluded) == (256, 0)
        plain = replace(sub.with_axes(head_size=None), free_attention=False)
        assert len(plain.students) + plain.excluded == 256
        assert not any(student.free_attention for student in plain.students)


@given(st.integers(1, 24), st.integers(1, 16), st.sampled_from([16, 32, 64]), st.integers(2, 6), st.integers(1, 5))
def test_derived_spaces_fit_and_leave_no_gap(layers, heads, head_size, ratio, k):
    teacher = StudentConfig(layers, heads * head_size, heads, head_size, ratio * heads * head_size)
    space = auto_space(teacher, k)
    check_fits(space, teacher)
    assert space.largest == teacher
    assert_no_gap(space)
    assert space_from_dict(space_to_dict(space), "copy") == space


VALID = {"num_layers": [2, 4], "hidden_size": {"low": 64, "high": 128, "step": 32}, "head_size": 32, "mlp_ratio": [2.0]}


def space_with(**changes):
    axes = {key: value for key, value in {**VALID, **changes}.items() if value is not None}
    return {"name": "x", "description": "", "sub_spaces": {"base": axes}}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (space_with(num_layer=[2]), "did you mean 'num_layers'"),
        (space_with(num_layers=[]), "empty"),
        (space_with(hidden_size={"low": 128, "high": 64, "step": 32}), "above high"),
        (space_with(hidden_size={"low": 64, "high": 128, "step": 0}), "step"),
        (space_with(hidden_size=[100]), "multiples of head_size"),
        (space_with(num_layers=[2.5]), "whole numbers"),
        (space_with(free_attention="yes"), "free_attention: got 'yes'; allowed: true or false"),
        (space_with(num_layers=["two"]), "whole numbers"),
        (space_with(mlp_ratio=[-1]), "mlp_ratio"),
        (space_with(head_size=None), "num_heads"),
        (space_with(num_layers=None), "num_layers"),
        ({"sub_spaces": {}}, "sub_spaces"),
        ({"spaces": {}}, "did you mean 'sub_spaces'"),
        ([], "mapping"),
        (
            space_with(
                num_layers={"low": 1, "high": 500, "step": 1},
                hidden_size={"low": 32, "high": 32000, "step": 32},
                mlp_ratio={"low": 1, "high": 30, "step": 0.5},
            ),
            "combinations",
        ),
    ],
)
def test_malformed_spaces_are_one_clear_line(raw, expected):
    with pytest.raises(SpaceError, match=expected) as caught:
        space_from_dict(raw, "file.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("file.yaml")


@pytest.mark.parametrize("content", ["a: [", "\x00", "name: x\nname: y\n", "!!python/object:os.system {}"])
def test_broken_yaml_is_refused(tmp_path, content):
    path = tmp_path / "space.yaml"
    path.write_text(content)
    with pytest.raises(SpaceError):
        load_space(str(path))


def test_unknown_names_get_a_hint():
    with pytest.raises(SpaceError, match="did you mean 'bert-base'"):
        load_space("bert-bas")


def test_a_file_is_a_space(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(space_with()))
    assert len(load_space(str(path)).candidates) == 2 * 3


def test_a_space_larger_than_its_teacher_is_refused():
    with pytest.raises(SpaceError, match=r"tiny.*num_layers.*at most the teacher's 6"):
        check_fits(load_space("bert-base"), MINILM)


def test_a_point_of_the_grid_is_its_student():
    sub = load_space("minilm-l6-h384").sub_spaces[0]
    assert sub.student(num_layers=3, hidden_size=96, head_size=32, mlp_ratio=2.0) == StudentConfig(3, 96, 3, 32, 192)
    paper = load_space("autodistil-paper").sub_spaces[0]
    point = {"num_layers": 4, "hidden_size": 128, "num_heads": 7, "mlp_ratio": 2.0}
    assert paper.student(**point, head_size=64) == StudentConfig(4, 128, 7, 64, 256)
    plain = replace(paper.with_axes(head_size=None), free_attention=False)
    assert plain.student(**point) is None
