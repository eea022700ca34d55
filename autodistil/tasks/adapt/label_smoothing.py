"""Labels that are right with 0.9 and anything else alike (Szegedy et al. 2016, arXiv 1512.00567, section 7)."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from autodistil.tasks.adapt.method import CLASSES, Answers, Method

SMOOTHING = 0.1


def loss(answers: Answers) -> Tensor:
    """Cross-entropy with 0.9 of the label and 0.1 of all classes alike; 0 where there is no label."""
    labels = answers.labels.where(answers.known, -100).long()  # what torch leaves out
    weights = answers.class_weights
    return cross_entropy(answers.logits, labels, weight=weights, reduction="none", label_smoothing=SMOOTHING)


LABEL_SMOOTHING = Method(loss, only=frozenset({CLASSES}))
