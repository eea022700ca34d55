"""An objective of fine-tuning: a weighted sum of methods, such as `soft-targets+0.5*ps-kd`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from autodistil.errors import ConfigError
from autodistil.tasks.adapt import METHODS
from autodistil.tasks.adapt.method import CLASSES, PAIRS, SCORES, TEACHER, TEXTS, Answers, Method
from autodistil.utils import read_weighted_sum, weighted_sum

AUTO = "auto"
"""Soft targets where there is a teacher, else cross-entropy."""
PLAIN = "cross-entropy"
"""The labels alone."""
_TAUGHT = "soft-targets"
_IMAGES = "images"


@dataclass(frozen=True)
class MethodSum:
    """A sum of methods, for a task of so many classes."""

    terms: tuple[tuple[float, str], ...]
    """(weight, key of `METHODS`)."""
    classes: int
    """1 where scores are predicted."""

    @property
    def name(self) -> str:
        """The objective as it is written."""
        return weighted_sum(self.terms)

    @property
    def methods(self) -> tuple[Method, ...]:
        """Those of the terms."""
        return tuple(METHODS[name] for _, name in self.terms)

    @cached_property
    def needs(self) -> frozenset[str]:
        """What the methods need together."""
        return frozenset().union(*(method.needs for method in self.methods))

    @property
    def outputs(self) -> int:
        """Outputs of the head while it trains: of the classes, then what each method asks for further."""
        return self.classes + sum(self._further)

    @property
    def _further(self) -> list[int]:
        return [method.further(self.classes) if method.further else 0 for method in self.methods]

    @cached_property
    def head(self) -> Tensor:
        """How outputs make logits, (classes, outputs): the mean of what the methods that have a say want of it."""
        further, maps = self._further, []
        for number, method in enumerate(self.methods):
            own = torch.eye(self.classes) if method.head is None else method.head(self.classes)
            if own.shape[1] == self.classes:
                own = torch.cat([own, own.new_zeros(self.classes, further[number])], dim=1)
            before, behind = (
                own.new_zeros(self.classes, sum(part)) for part in (further[:number], further[number + 1 :])
            )
            maps.append(torch.cat([own[:, : self.classes], before, own[:, self.classes :], behind], dim=1))
        return torch.stack(maps).mean(0)

    def loss(self, answers: Answers, told: Sequence[Tensor | None]) -> Tensor:
        """The weighted sum of the methods' losses of each row, (rows,); `told`: what each one's preparation found."""
        total, start = torch.zeros_like(answers.logits[:, 0]), 0
        for (weight, _), method, count, own in zip(self.terms, self.methods, self._further, told, strict=True):
            part = replace(_with_further(answers, start, count), told=own)
            total, start = total + weight * method.loss(part), start + count
        return total


def _with_further(answers: Answers, start: int, count: int) -> Answers:
    """The same with some of the head's further outputs alone, in every view."""
    further = None if answers.further is None else answers.further[:, start : start + count]
    views = (None if view is None else _with_further(view, start, count) for view in (answers.dropped, answers.swapped))
    dropped, swapped = views
    return replace(answers, further=further, dropped=dropped, swapped=swapped)


def read_methods(
    text: str, taught: bool, classes: int, pairs: bool, images: bool = False, spans: bool = False
) -> MethodSum:
    """Read a weighted sum of methods, or `auto`.

    Args:
        text: as typed.
        taught: whether there is a teacher.
        classes: of the task; 1 where scores are predicted.
        pairs: whether rows are pairs of texts.
        images: whether rows are images.
        spans: whether spans of texts are looked for.

    Raises:
        ConfigError: an unknown method, a weight that is not above zero, one that needs a teacher where none is, or one
            that is for other tasks.
    """
    if text == AUTO:
        text = _TAUGHT if taught else PLAIN
    objective = MethodSum(read_weighted_sum(text, METHODS, AUTO, "soft-targets+0.5*ps-kd"), classes)
    has = {SCORES if classes == 1 else CLASSES, _IMAGES if images else TEXTS} | ({PAIRS} if pairs else set())
    fit = [name for name, method in METHODS.items() if method.only <= has and (taught or TEACHER not in method.needs)]
    for (_, name), method in zip(objective.terms, objective.methods, strict=True):
        if TEACHER in method.needs and not taught:
            raise ConfigError(f"objective {name!r} needs a fine-tuned teacher; give --teacher, or another --objective")
        if spans and not method.spans:
            allowed = ", ".join(name for name, method in METHODS.items() if method.spans)
            raise ConfigError(
                f"objective {name!r} is for classes or scores of rows, this task is of spans; allowed: {allowed}"
            )
        if not method.only <= has:
            raise ConfigError(
                f"objective {name!r} is for tasks of {' and '.join(sorted(method.only))}, this is one of "
                f"{' and '.join(sorted(has))}; allowed: {', '.join(fit)}; give another --objective"
            )
    return objective
