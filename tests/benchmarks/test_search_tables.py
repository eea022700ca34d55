"""The hypervolume of replayed searches, and how many evaluations they take."""

from dataclasses import replace

import numpy as np
import pytest
from autodistil_helpers import inputs_of, objective_of, random_teacher
from hypothesis import given
from hypothesis import strategies as st
from search_tables import free
from search_tables.volume import evaluations_to, hypervolume, scaled

from autodistil.evaluation.heldout import HeldOut
from autodistil.models.superlm import SuperLM
from autodistil.space.space import OneStudent

UNIT = st.floats(0, 1, width=32)


@given(st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=8))
def test_volume_is_the_union_of_boxes(points):
    points = np.array(points)
    ends = [np.unique(np.append(points[:, axis], 1.0)) for axis in (0, 1)]
    area = sum(
        (b - a) * (d - c)
        for a, b in zip(ends[0], ends[0][1:], strict=False)
        for c, d in zip(ends[1], ends[1][1:], strict=False)
        if ((points[:, 0] <= a) & (points[:, 1] <= c)).any()
    )
    assert np.isclose(hypervolume(points), area)


def test_evaluations_are_counted_until_the_share_is_reached():
    points = scaled(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 4.0]))
    whole = np.array([0, 1, 2])
    assert hypervolume(points) == 0.25
    assert evaluations_to(points, whole, 1.0) == 2
    assert evaluations_to(points, np.array([0, 2, 1]), 1.0) == 3
    assert evaluations_to(points, np.array([0, 2]), 1.0) is None


def test_free_students_have_the_layers_and_widths_that_they_chose(monkeypatch):
    monkeypatch.setattr(free, "RATIOS", (free.SKIP, 1.0, 2.0))
    teacher = random_teacher()
    dims = teacher.dims
    widest = replace(dims, intermediate_size=2 * dims.hidden_size)
    superlm = SuperLM.from_teacher(teacher, OneStudent("one", widest))
    ids = inputs_of(teacher, 4, 10)["input_ids"].numpy()
    heldout = HeldOut.build(teacher, ids, objective_of("relation-kl"))

    def loss(*ranks: int) -> float:
        return free._loss(superlm, heldout, dims.hidden_size, np.array(ranks))

    depth = dims.num_layers
    assert loss(*[2] * depth) == pytest.approx(heldout.loss(superlm, widest))
    alone = [loss(*[2 * (place == layer) for place in range(depth)]) for layer in range(depth)]
    assert len(set(alone)) == depth
    assert loss(1, *[2] * (depth - 1)) != loss(*[2] * depth)
