"""The hyper-parameters of a SuperLM training and its learning-rate schedule."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights beside teacher, text and search space."""

    steps: int
    """Optimiser steps."""
    accumulate: int
    """Micro-batches that a step is cut into (gradient accumulation); the gradient is that of the whole batch."""
    learning_rate: float | None
    """Peak learning rate of AdamW; None: by the width of what is trained (`rate_at`)."""
    warmup: float
    """Share of the steps in which the learning rate rises linearly."""
    weight_decay: float
    """Decoupled weight decay of matrices (not of biases and norms)."""
    clip: float
    """Largest norm of a SuperLM's gradient."""
    sampling: str
    """Key of `sampling.SAMPLINGS`."""
    in_place: bool
    """The smaller students of a step learn from its largest one instead of the teacher."""
    random_students: int
    """Random students a step, beside the largest and the smallest."""
    seed: int
    precision: str
    """`fp32`, or `bf16`: students compute in bfloat16, shared weights and optimiser stay in fp32."""
    on_policy: float = 0.0
    """Share of the steps whose texts the largest student writes (`on_policy`)."""

    def peak_rate(self, width: int) -> float:
        """The peak learning rate for a SuperLM, or a student, of such a hidden size at most."""
        return rate_at(width) if self.learning_rate is None else self.learning_rate

    def rate_share(self, step: int) -> float:
        """Share of the peak: linear warm-up, then linear decay that would reach zero one step after the last."""
        warmup_steps = round(self.warmup * self.steps)
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return (self.steps - step) / (self.steps - warmup_steps)


WIDTH, RATE_AT_WIDTH, HIGHEST_RATE = 384, 5e-4, 1e-3
"""The hidden size at which the rate was chosen, the rate there, and the highest one that was tried (LOG.md)."""


def rate_at(width: int) -> float:
    """The peak learning rate of what has a hidden size of `width`: inversely proportional to it.

    So do updates of hidden matrices by Adam change what they compute alike at every width (Yang et al. 2022, Tensor
    Programs V, arXiv 2203.03466, table 3). Small students want more than large ones, which start near the teacher.
    """
    return min(HIGHEST_RATE, RATE_AT_WIDTH * WIDTH / width)


STEPS_ALONE = 6
"""Steps of a refinement for each one of the SuperLM. With one student a step they take from a half to a third more than
its multiply-adds, and are what brings most: of a student of 20 % of the teacher's FLOPs 720 beside 240 brought 0.8
points of STS-B test, 1.3 of the STS mean and 3.4 of retrieval (LOG.md)."""


def steps_alone(asked: int | None, steps: int) -> int:
    """Steps of a refinement after a SuperLM of so many: those that are asked for, if any are."""
    return asked or STEPS_ALONE * steps
