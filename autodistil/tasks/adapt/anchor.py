"""Fine-tuning that stays near: attention near where it started, and the same answer with some tokens hidden.

||theta - theta_0||^2 is L2-SP's (Li et al. 2018, arXiv 1802.01483; of the attention's weights alone here), the second
term R-Drop's kind of consistency with a clean input as the teacher. In a sum with `soft-targets` the fine-tuned teacher
joins, which reads clean inputs too.
"""

from torch import Tensor

from autodistil.tasks.adapt.method import DROPPED, MOVED, Answers, Method, divergence, supervised

ANCHOR = 0.01
CONSISTENCY = 0.5


def loss(answers: Answers) -> Tensor:
    """CE + 0.5 KL(clean || tokens hidden) + 0.01 ||theta - theta_0||^2."""
    assert answers.dropped is not None
    assert answers.moved is not None
    consistency = divergence(answers.dropped.logits, answers.logits.detach())
    return supervised(answers) + CONSISTENCY * consistency + ANCHOR * answers.moved


ANCHORED = Method(loss, frozenset({DROPPED, MOVED}))
