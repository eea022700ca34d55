"""Progressive self-knowledge distillation: targets drift from the labels to one's own answers of an epoch ago.

Kim et al. 2021 (arXiv 2006.12000): (1 - a_t) y + a_t p_(t-1) with a_t = 0.8 t / T. No teacher is needed.
"""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softmax

from autodistil.tasks.adapt.method import BEFORE, Answers, Method, supervised

LAST_SHARE = 0.8
"""Share of one's own answers in the targets at the end."""


def loss(answers: Answers) -> Tensor:
    """Cross-entropy with the mixed targets; of scores, the squared error."""
    if answers.before is None:
        return supervised(answers)
    share = LAST_SHARE * answers.progress
    if answers.scores:
        own = answers.before[:, 0]
        targets = ((1 - share) * answers.labels + share * own).where(answers.known, own)
        return (answers.logits[:, 0] - targets).square()
    own = -(softmax(answers.before, dim=-1) * log_softmax(answers.logits, dim=-1)).sum(-1)
    return ((1 - share) * supervised(answers) + share * own).where(answers.known, torch.as_tensor(share) * own)


PS_KD = Method(loss, frozenset({BEFORE}))
