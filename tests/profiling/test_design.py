"""The design holds the ends of the space, spreads over it, and never measures more than it may."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from autodistil.profiling.latency_model import FEWEST_CHOSEN, choose_students, design_size
from autodistil.space.files import load_space
from autodistil.space.student import StudentConfig

STUDENTS = st.lists(
    st.builds(
        lambda layers, heads, ratio, vocab: StudentConfig(layers, 32 * heads, heads, 32, 32 * heads * ratio, vocab),
        st.integers(1, 12),
        st.integers(1, 12),
        st.integers(1, 4),
        st.sampled_from([None, 8000]),
    ),
    min_size=1,
    max_size=60,
)


@given(STUDENTS, st.integers(1, 80))
def test_students_are_of_the_space_and_each_is_measured_once(students, count):
    chosen = choose_students(students, count)
    assert len(chosen) == len(set(chosen)) == min(count, len(set(students)))
    assert set(chosen) <= set(students)
    assert choose_students(students[::-1], count) == chosen
    assert choose_students(students, 80)[: len(chosen)] == chosen


def test_students_that_differ_in_their_windows_are_measured_once():
    plain = [StudentConfig(layers, 64, 2, 32, 128) for layers in (2, 4, 6)]
    windowed = [replace(student, window=window) for student in plain for window in (32, 64)]
    assert sorted(choose_students([*windowed, *plain])) == plain
    assert len(choose_students(windowed)) == len(plain)


def test_layers_of_their_own_that_are_alike_on_average_are_each_measured():
    layers = [((1, 64), (2, 128)), ((2, 128), (1, 64)), ((1, 128), (2, 64)), ((2, 64), (1, 128))]
    students = [StudentConfig(2, 64, 2, 32, 128, layers=one) for one in layers]
    assert sorted(choose_students(students)) == sorted(students)


@given(STUDENTS)
def test_both_ends_come_first(students):
    sizes = [student.encoder_weights for student in students]
    chosen = choose_students(students, 2)
    assert chosen[0].encoder_weights == min(sizes)
    assert chosen[-1].encoder_weights == max(sizes)


@given(st.integers(0, 100_000))
def test_a_tenth_is_measured(total):
    assert design_size(total) <= max(FEWEST_CHOSEN, 0.1 * total)
    assert design_size(total) <= total


def test_the_ends_of_every_axis_of_a_shipped_space_are_measured():
    students = [candidate.config for candidate in load_space("minilm-l6-h384").candidates]
    chosen = choose_students(students)
    for axis in ("num_layers", "hidden_size"):
        values = [sorted({getattr(student, axis) for student in part}) for part in (chosen, students)]
        assert (values[0][0], values[0][-1]) == (values[1][0], values[1][-1])
        assert len(values[0]) > 0.7 * len(values[1])
