"""Knowledge distillation: what the teacher answers, softened, and the labels (Hinton et al. 2015, arXiv 1503.02531)."""

from torch import Tensor

from autodistil.tasks.adapt.method import TEACHER, Answers, Method, divergence, supervised

TEMPERATURE = 2.0
SHARE = 0.7
"""Of the loss that is the teacher's, of rows that have a label; of others it is all."""


def loss(answers: Answers) -> Tensor:
    """0.7 T^2 KL + 0.3 CE at T = 2."""
    assert answers.teacher is not None
    taught = divergence(answers.logits, answers.teacher, TEMPERATURE)
    return taught.where(~answers.known, SHARE * taught + (1 - SHARE) * supervised(answers))


SOFT_TARGETS = Method(loss, frozenset({TEACHER}), spans=True)
