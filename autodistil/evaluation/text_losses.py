"""The losses of single texts, of which the loss of a batch is the mean: what a search compares students by.

A distillation objective gives one number a batch. Two students are told apart much sooner by the differences of their
losses text by text, which are the smaller the more alike the students are; see `student_search.racing`. Here each term
of an objective is taken apart: with B texts, term(batch) = 1/B * sum of the values of its texts, whatever weights the
term gives to tokens. Relations of the teacher are the same for every student, so they are formed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from autodistil.attention import AttentionStates, ModelStates
from autodistil.objectives import OBJECTIVES, TEMPERATURE, Objective, TermOptions
from autodistil.pooling import POOLINGS
from autodistil.relations import relation_log_softmax, split_relation_heads

MAX_RELATION_ENTRIES = 1 << 24
"""Entries of the teacher's relations of a batch that are kept, 64 MB; larger ones are formed anew for each student."""


@dataclass(frozen=True)
class Target:
    """A batch as the teacher sees it."""

    states: ModelStates
    mask: Tensor | None
    """(batch, seq), True at real tokens; None where all are."""
    options: TermOptions

    @cached_property
    def relations(self) -> tuple[tuple[Tensor, Tensor], ...] | None:
        """For queries, keys and values: the teacher's relations (batch, heads, seq, seq), and the sum of R log R of
        each text's real rows, (batch,). None where they are too large to keep.
        """
        batch, _, seq, _ = self.states.attention.query.shape
        if 3 * batch * self.options.relation_heads * seq * seq > MAX_RELATION_ENTRIES:
            return None
        return tuple(self.relation(part) for part in self.states.attention)

    def relation(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """One entry of `relations`; rows of padding are zero."""
        log_relation = relation_log_softmax(
            split_relation_heads(states.float(), self.options.relation_heads), self.mask
        )
        relation = log_relation.exp()
        if self.mask is not None:
            relation = relation * self.mask[:, None, :, None]
        return relation, (relation * log_relation).sum((1, 2, 3))

    @cached_property
    def token_weights(self) -> Tensor:
        """(batch, seq): weight of a token such that the sum over all is the number of texts."""
        query = self.states.attention.query
        ones = query.new_ones(query.shape[0], query.shape[2]) if self.mask is None else self.mask.to(query.dtype)
        return ones * (len(ones) / ones.sum())


def text_losses(objective: Objective, student: ModelStates, target: Target) -> Tensor:
    """Loss of each text of a batch, (batch,); their mean is `objective` of the batch."""
    terms = ((weight, _TEXT_TERMS.get(name), name) for weight, name in objective.terms)
    return torch.stack(
        [
            weight * (term(student, target) if term else _one_by_one(name, student, target))
            for weight, term, name in terms
        ]
    ).sum(0)


# ---- terms that are fast for many texts at once


def _relation_kl(student: ModelStates, target: Target) -> Tensor:
    heads = target.options.relation_heads
    known = target.relations
    losses = []
    for i, (ours, theirs) in enumerate(zip(student.attention, target.states.attention, strict=True)):
        relation, negative_entropy = known[i] if known else target.relation(theirs)
        log_student = relation_log_softmax(split_relation_heads(ours.float(), heads), target.mask)
        losses.append(negative_entropy - (relation * log_student).sum((1, 2, 3)))
    return torch.stack(losses).sum(0) * (target.token_weights[:, 0] / heads)  # the first token is always real


def _embedding_similarity(student: ModelStates, target: Target) -> Tensor:
    ours, theirs = (_log_similarities(states, target) for states in (student, target.states))
    return (theirs.exp() * (theirs - ours)).sum(-1)


def _log_similarities(states: ModelStates, target: Target) -> Tensor:
    """As `objectives.embedding_similarity_loss` does: (batch, batch - 1)."""
    assert states.output is not None, "the forward was run without its output"
    unit = normalize(POOLINGS[target.options.pooling](states.output, target.mask).float(), dim=-1)
    others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    return ((unit @ unit.T)[others].view(len(unit), -1) / TEMPERATURE).log_softmax(-1)


def _last_hidden(student: ModelStates, target: Target) -> Tensor:
    assert student.output is not None, "the forward was run without its output"
    assert target.states.output is not None
    width = student.output.shape[-1]
    distance = 1 - cosine_similarity(student.output, target.states.output[..., :width], dim=-1)
    return (distance * target.token_weights).sum(-1)


_TEXT_TERMS: Mapping[str, Callable[[ModelStates, Target], Tensor]] = MappingProxyType(
    {"relation-kl": _relation_kl, "embedding-similarity": _embedding_similarity, "last-hidden": _last_hidden}
)


# ---- every other term: a text is a batch of its own

_POWER_OF_LENGTH: Mapping[str, int] = MappingProxyType({"scores-mse": 2, "embedding-cosine": 0})
"""Power of its tokens by which a text counts in its batch; 1 unless named."""


def _one_by_one(name: str, student: ModelStates, target: Target) -> Tensor:
    sizes = (target.token_weights > 0).sum(-1)
    weights = sizes.to(target.token_weights.dtype) ** _POWER_OF_LENGTH.get(name, 1)
    values = [
        OBJECTIVES[name](_text(student, i, int(size)), _text(target.states, i, int(size)), None, target.options)
        for i, size in enumerate(sizes)
    ]
    return torch.stack(values) * (weights * (len(weights) / weights.sum()))


def _text(states: ModelStates, i: int, size: int) -> ModelStates:
    """Text `i` of a batch without its padding."""
    row = slice(i, i + 1)
    return ModelStates(
        AttentionStates(*(part[row, :, :size] for part in states.attention)),
        None if states.output is None else states.output[row, :size],
        tuple(layer[row, :size] for layer in states.hidden),
    )
