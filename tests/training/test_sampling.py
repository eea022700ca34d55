"""The contract of samplings: students of the sub-space, decided by seed, step and name; and what each is about."""

from collections import Counter
from dataclasses import replace

import pytest
from autodistil_helpers import RECIPE, random_teacher, small_space
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from autodistil.training.sampling import SAMPLINGS, draw_students

TEACHER = random_teacher("bert")


@pytest.mark.parametrize("sampling", SAMPLINGS)
@given(st.integers(0, 100), st.integers(0, RECIPE.steps - 1), st.integers(0, 30))
def test_a_draw_is_of_distinct_students_and_depends_on_seed_and_step_alone(sampling, seed, step, num_random):
    sub_space = small_space(TEACHER)
    recipe = replace(RECIPE, sampling=sampling, seed=seed, random_students=num_random)
    students = draw_students(sub_space, recipe, step)
    assert 1 <= len(set(students)) == len(students) <= num_random + 2
    assert set(students) <= set(sub_space.students)
    assert students == draw_students(small_space(TEACHER), recipe, step)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_steps_seeds_and_superlms_draw_differently(sampling):
    recipe = replace(RECIPE, sampling=sampling, steps=40)

    def draws(name="small", seed=0):
        return [draw_students(small_space(TEACHER, name), replace(recipe, seed=seed), step) for step in range(40)]

    assert len({tuple(students) for students in draws()}) > 10
    assert draws() != draws(seed=1)
    assert draws() != draws("other")


@given(st.integers(0, 5), st.integers(0, 10_000), st.integers(0, 6))
def test_sandwich_draws_the_ends_and_distinct_random_students(seed, step, num_random):
    sub_space = small_space(TEACHER)
    students = draw_students(sub_space, replace(RECIPE, random_students=num_random, seed=seed), step)
    assert students[0] == sub_space.largest
    assert students[-1] == sub_space.smallest
    assert len(set(students)) == len(students) == min(num_random + 2, len(sub_space.students))
    assert students == draw_students(sub_space, replace(RECIPE, random_students=num_random, seed=seed), step)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_student_is_drawn_sooner_or_later(sampling):
    sub_space = small_space(TEACHER)
    recipe = replace(RECIPE, sampling=sampling, steps=200)
    drawn = {student for step in range(200) for student in draw_students(sub_space, recipe, step)}
    assert drawn == set(sub_space.students)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_each_drawn_architecture_gets_one_of_its_vocabularies(sampling):
    plain, pruned = small_space(TEACHER), small_space(TEACHER).with_axes(vocab_size=(50, 70, 97))
    recipe = replace(RECIPE, sampling=sampling, steps=200)
    seen = set()
    for step in range(200):
        students = draw_students(pruned, recipe, step)
        assert [student.architecture for student in students] == draw_students(plain, recipe, step)
        seen.update(students)
    assert seen <= set(pruned.students)
    assert {student.vocab_size for student in seen} == {student.vocab_size for student in pruned.students}


def test_inverse_cost_draws_cheap_students_more_often():
    sub_space = small_space(TEACHER)
    recipe = replace(RECIPE, sampling="inverse-cost", steps=2000, random_students=0)
    draws = Counter(student for step in range(2000) for student in draw_students(sub_space, recipe, step))
    cost = {student: student.encoder_weights for student in sub_space.students}
    assert spearmanr([cost[s] for s in cost], [draws[s] for s in cost]).statistic < -0.9


def test_progressive_shrinking_starts_with_the_largest_and_ends_with_the_sandwich():
    sub_space = small_space(TEACHER)
    recipe = replace(RECIPE, sampling="progressive", steps=100)
    assert draw_students(sub_space, recipe, 0) == [sub_space.largest]
    smallest = [draw_students(sub_space, recipe, step)[-1].encoder_weights for step in range(100)]
    assert smallest[:51] == sorted(smallest[:51], reverse=True)
    assert set(smallest[50:]) == {sub_space.smallest.encoder_weights}
    assert all(draw_students(sub_space, recipe, step)[0] == sub_space.largest for step in range(100))
