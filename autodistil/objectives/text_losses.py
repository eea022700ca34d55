"""The losses of single texts, of which the loss of a block of texts is the mean: what a search compares students by.

A distillation objective gives one number a batch. Two students are told apart much sooner by the differences of their
losses text by text, which are the smaller the more alike the students are; see `student_search.racing`. Here each term
of an objective is taken apart: with B texts, term(block) = 1/B * sum of the values of its texts, whatever weights the
term gives to tokens. A block may come in several batches, of texts of like length each, so that little is padding;
relations of the teacher are the same for every student, so they are formed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from autodistil.models.attention import AttentionStates, ModelStates
from autodistil.objectives.objective import OBJECTIVES, TEMPERATURE, Objective, TermOptions, embeddings_of
from autodistil.objectives.relations import relation_log_softmax, split_relation_heads

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
        """For queries, keys and values what `relation` gives; None where that is too large to keep."""
        batch, _, seq, _ = self.states.attention.query.shape
        if 3 * batch * self.options.relation_heads * seq * seq > MAX_RELATION_ENTRIES:
            return None
        return tuple(self.relation(part) for part in self.states.attention)

    def relation(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's relation R (batch, heads, seq, seq), rows of padding zero, and the sum of R log R, (batch,)."""
        heads = split_relation_heads(states.float(), self.options.relation_heads)
        log_relation = relation_log_softmax(heads, self.mask, self.options.causal)
        relation = log_relation.exp()
        if self.mask is not None:
            relation = relation * self.mask[:, None, :, None]
        return relation, (relation * log_relation).sum((1, 2, 3))

    @cached_property
    def sizes(self) -> Tensor:
        """Real tokens of each text, (batch,)."""
        query = self.states.attention.query
        return query.new_full((len(query),), query.shape[2]) if self.mask is None else self.mask.sum(-1).to(query.dtype)


def text_losses(objective: Objective, batches: Sequence[tuple[ModelStates, Target]]) -> Tensor:
    """Loss of each text of a block, (texts,); their mean is `objective` of all its texts as one batch.

    Args:
        objective: what is measured.
        batches: the student's states and what the teacher makes of the same texts, batch by batch.
    """
    sizes = torch.cat([target.sizes for _, target in batches])
    losses = []
    for weight, name in objective.terms:
        if name in _BLOCK_TERMS:
            losses.append(weight * _BLOCK_TERMS[name](batches))
            continue
        term = _TEXT_TERMS.get(name) or partial(_one_by_one, name)
        counts = _WEIGHTS.get(name, torch.clone)(sizes)
        losses.append(weight * torch.cat([term(*batch) for batch in batches]) * counts * (len(counts) / counts.sum()))
    return torch.stack(losses).sum(0)


_WEIGHTS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"scores-mse": torch.square, "embedding-cosine": torch.ones_like, "next-token": lambda sizes: sizes - 1}
)
"""By what a text counts in its batch, made of its number of tokens; that number unless named."""


# ---- terms of one text that are fast for many at once


def _relation_kl(student: ModelStates, target: Target) -> Tensor:
    heads = target.options.relation_heads
    known = target.relations
    losses = []
    for i, (ours, theirs) in enumerate(zip(student.attention, target.states.attention, strict=True)):
        relation, negative_entropy = known[i] if known else target.relation(theirs)
        log_student = relation_log_softmax(
            split_relation_heads(ours.float(), heads), target.mask, target.options.causal
        )
        losses.append(negative_entropy - (relation * log_student).sum((1, 2, 3)))
    return torch.stack(losses).sum(0) / (target.sizes * heads)


def _last_hidden(student: ModelStates, target: Target) -> Tensor:
    assert student.output is not None, "the forward was run without its output"
    assert target.states.output is not None
    width = student.output.shape[-1]
    distance = 1 - cosine_similarity(student.output, target.states.output[..., :width], dim=-1)
    return (distance if target.mask is None else distance * target.mask).sum(-1) / target.sizes


_TEXT_TERMS: Mapping[str, Callable[[ModelStates, Target], Tensor]] = MappingProxyType(
    {"relation-kl": _relation_kl, "last-hidden": _last_hidden}
)


def _one_by_one(name: str, student: ModelStates, target: Target) -> Tensor:
    """Every other term: a text is a batch of its own."""
    values = [
        OBJECTIVES[name](_text(student, i, int(size)), _text(target.states, i, int(size)), None, target.options)
        for i, size in enumerate(target.sizes)
    ]
    return torch.stack(values)


def _text(states: ModelStates, i: int, size: int) -> ModelStates:
    """Text `i` of a batch without its padding."""
    row = slice(i, i + 1)
    return ModelStates(
        AttentionStates(*(part[row, :, :size] for part in states.attention)),
        None if states.output is None else states.output[row, :size],
        tuple(layer[row, :size] for layer in states.hidden),
        states.head,
        None if states.tokens is None else states.tokens[row, :size],
        None if states.pooled is None else states.pooled[row],
    )


# ---- terms that compare the texts of a block


def _embedding_similarity(batches: Sequence[tuple[ModelStates, Target]]) -> Tensor:
    """A row of `objectives.embedding_similarity_loss` for each text."""
    ours = _log_similarities([embeddings_of(states, target.mask, target.options) for states, target in batches])
    theirs = _log_similarities([embeddings_of(t.states, t.mask, t.options) for _, t in batches])
    return (theirs.exp() * (theirs - ours)).sum(-1)


def _log_similarities(embeddings: Sequence[Tensor]) -> Tensor:
    """Log distribution over the other texts, (texts, texts - 1)."""
    unit = normalize(torch.cat(list(embeddings)).float(), dim=-1)
    others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    return ((unit @ unit.T)[others].view(len(unit), -1) / TEMPERATURE).log_softmax(-1)


_BLOCK_TERMS: Mapping[str, Callable[[Sequence[tuple[ModelStates, Target]]], Tensor]] = MappingProxyType(
    {"embedding-similarity": _embedding_similarity}
)
