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
    learning_rate: float
    """Peak learning rate of AdamW."""
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

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then linear decay that would reach zero one step after the last."""
        warmup_steps = round(self.warmup * self.steps)
        if step < warmup_steps:
            return self.learning_rate * (step + 1) / (warmup_steps + 1)
        return self.learning_rate * (self.steps - step) / (self.steps - warmup_steps)
