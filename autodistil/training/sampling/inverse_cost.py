"""Random students, each as likely as its forward is cheap: so the compute is spread evenly over students."""

from __future__ import annotations

import numpy as np

from autodistil.space.student import StudentConfig
from autodistil.training.sampling.draw import Draw


def sample(draw: Draw) -> list[StudentConfig]:
    """The students of a step, as many as the sandwich draws; their cost is the number of weights of the layers."""
    costs = np.array([student.encoder_weights for student in draw.students.architectures], dtype=float)
    return draw.choose(draw.students.architectures, draw.num_random + 2, (1 / costs) / (1 / costs).sum())
