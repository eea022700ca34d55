"""What a person would choose: within the budget, near it where that is possible, and of the shape that is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quality_table.shapes import ENOUGH, forward_flops, hand_made, truncated

from autodistil.space.shape import EncoderShape
from autodistil.space.student import StudentConfig

TEACHER = StudentConfig(6, 384, 12, 32, 1536)
SHAPE = EncoderShape(30522, 514, None, pooler=True)
WHOLE = forward_flops(TEACHER, SHAPE, 128)


@pytest.mark.parametrize(
    ("percent", "label"),
    [(60, "L6-H288-A9-F1152"), (40, "L6-H224-A7-F896"), (20, "L6-H160-A5-F640"), (10, "L3-H160-A5-F640")],
)
def test_the_choices_of_the_docstring(percent, label):
    limit = percent / 100 * WHOLE
    student = hand_made(TEACHER, SHAPE, 128, limit)
    assert student.label == label
    assert ENOUGH * limit <= forward_flops(student, SHAPE, 128) <= limit


@given(percent=st.floats(1, 100))
def test_a_choice_fits_and_is_the_teacher_made_smaller(percent):
    limit = percent / 100 * WHOLE
    student = hand_made(TEACHER, SHAPE, 128, limit)
    if student is None:
        assert forward_flops(StudentConfig(1, 32, 1, 32, 128), SHAPE, 128) > limit
        return
    assert forward_flops(student, SHAPE, 128) <= limit
    assert student.head_size == TEACHER.head_size
    assert student.intermediate_size == 4 * student.hidden_size
    wider = StudentConfig(
        student.num_layers, student.hidden_size + 32, student.num_heads + 1, 32, 4 * (student.hidden_size + 32)
    )
    assert wider.hidden_size > TEACHER.hidden_size or forward_flops(wider, SHAPE, 128) > limit


def test_the_whole_budget_is_the_teacher():
    assert hand_made(TEACHER, SHAPE, 128, WHOLE) == TEACHER
    assert truncated(TEACHER, SHAPE, 128, WHOLE) == TEACHER


@pytest.mark.parametrize(("percent", "layers"), [(60, 3), (40, 2), (20, 1)])
def test_truncation_keeps_the_width_and_as_many_layers_as_fit(percent, layers):
    student = truncated(TEACHER, SHAPE, 128, percent / 100 * WHOLE)
    assert student == StudentConfig(layers, 384, 12, 32, 1536)


def test_nothing_fits_into_nothing():
    assert truncated(TEACHER, SHAPE, 128, 0.1 * WHOLE) is None
    assert hand_made(TEACHER, SHAPE, 128, 1000) is None
