"""Which students of a sub-space a training step draws: a file a way, and the dict of all."""

import zlib
from collections.abc import Mapping

import numpy as np

from autodistil.space.space import StudentSet
from autodistil.space.student import WITHOUT_WEIGHTS, StudentConfig
from autodistil.training.recipe import Recipe
from autodistil.training.sampling import inverse_cost, progressive, sandwich, uniform
from autodistil.training.sampling.draw import Draw, Sampling

SAMPLINGS: Mapping[str, Sampling] = {
    "sandwich": sandwich.sample,
    "uniform": uniform.sample,
    "inverse-cost": inverse_cost.sample,
    "progressive": progressive.sample,
}


def draw_students(students: StudentSet, recipe: Recipe, step: int) -> list[StudentConfig]:
    """The students of step `step`, each with a vocabulary and bits that its architecture has in the set."""
    generator = np.random.default_rng([recipe.seed, step, zlib.crc32(students.name.encode())])
    draw = Draw(students, recipe.random_students, step / recipe.steps, generator)
    drawn = SAMPLINGS[recipe.sampling](draw)
    if not any(map(students.has_axis_of, WITHOUT_WEIGHTS)):
        return drawn
    return [draw.choose(students.of_architecture(architecture), 1)[0] for architecture in drawn]
