"""The design holds the ends of the space, spreads over it, and never measures more than it may."""

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
