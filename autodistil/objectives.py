"""Distillation objectives: functions of the student's and the teacher's states, chosen by name from `OBJECTIVES`.

Every objective is task-agnostic and takes any student width. The self-attention ones look at one layer's queries, keys
and values only, so nothing behind that layer is computed (or trained).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor
from torch.nn.functional import mse_loss

from autodistil.attention import AttentionStates, ModelStates
from autodistil.errors import ConfigError, suggest
from autodistil.relations import relation_kl, relation_log_softmax, relation_scores, row_weights, split_relation_heads

TermFunction = Callable[[ModelStates, ModelStates, "Tensor | None", int], Tensor]
"""(student states, teacher states, mask (batch, seq) or None, relation heads) -> scalar loss."""


def _relation_heads_of(states: AttentionStates, relation_heads: int) -> Iterable[Tensor]:
    return (split_relation_heads(part, relation_heads) for part in states)


def relation_kl_loss(student: ModelStates, teacher: ModelStates, mask: Tensor | None, relation_heads: int) -> Tensor:
    """MiniLMv2 (arXiv 2012.15828): KL of Q-Q, K-K and V-V relations, summed over the three."""
    pairs = zip(
        _relation_heads_of(student.attention, relation_heads),
        _relation_heads_of(teacher.attention, relation_heads),
        strict=True,
    )
    return sum((relation_kl(*pair, mask) for pair in pairs), start=student.attention.query.new_zeros(()))


def relation_mse_loss(student: ModelStates, teacher: ModelStates, mask: Tensor | None, relation_heads: int) -> Tensor:
    """AutoDistil, equation 4: mean squared error of the softmaxed Q-Q, K-K and V-V relations.

    Squared errors are summed over the keys and averaged over relation heads and real tokens.
    """
    loss = student.attention.query.new_zeros(())
    for ours, theirs in zip(student.attention, teacher.attention, strict=True):
        relations = [relation_log_softmax(split_relation_heads(x, relation_heads), mask).exp() for x in (ours, theirs)]
        loss = loss + ((relations[0] - relations[1]).square().sum(-1) * row_weights(relations[0], mask)).sum()
    return loss


def scores_mse_loss(student: ModelStates, teacher: ModelStates, mask: Tensor | None, relation_heads: int) -> Tensor:
    """What AutoDistil's published code does: mean squared error of the raw scaled scores, no softmax.

    Departure: pairs with a padding token are left out (in the code its mask cancels and padding is trained on).
    """
    loss = student.attention.query.new_zeros(())
    for ours, theirs in zip(student.attention, teacher.attention, strict=True):
        scores = [relation_scores(split_relation_heads(x, relation_heads)) for x in (ours, theirs)]
        if mask is None:
            loss = loss + mse_loss(scores[0], scores[1])
            continue
        pairs = (mask[:, None, :, None] & mask[:, None, None, :]).to(scores[0].dtype)
        errors = (scores[0] - scores[1]).square() * pairs
        loss = loss + errors.sum() / (pairs.sum() * relation_heads)
    return loss


def minilm_loss(student: ModelStates, teacher: ModelStates, mask: Tensor | None, relation_heads: int) -> Tensor:
    """MiniLM v1 (arXiv 2002.10957): KL of the attention distributions (Q-K) plus KL of the value relations.

    Departure: both are formed on the joint relation heads, so the student need not have the teacher's head count;
    with as many relation heads as attention heads on both sides it is v1 to the letter.
    """
    ours, theirs = student.attention, teacher.attention
    log_attention = [_attention_log_softmax(states, mask, relation_heads) for states in (ours, theirs)]
    divergence = (log_attention[1].exp() * (log_attention[1] - log_attention[0])).sum(-1)
    attention_loss = (divergence * row_weights(log_attention[0], mask)).sum()
    values = (split_relation_heads(states.value, relation_heads) for states in (ours, theirs))
    return attention_loss + relation_kl(next(values), next(values), mask)


def _attention_log_softmax(states: AttentionStates, mask: Tensor | None, relation_heads: int) -> Tensor:
    query, key = (split_relation_heads(x, relation_heads) for x in (states.query, states.key))
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], -1e30)
    return scores.log_softmax(-1)


OBJECTIVES: Mapping[str, TermFunction] = MappingProxyType(
    {
        "relation-kl": relation_kl_loss,
        "relation-mse": relation_mse_loss,
        "scores-mse": scores_mse_loss,
        "minilm": minilm_loss,
    }
)
"""Name -> loss function."""


@dataclass(frozen=True)
class Objective:
    """An objective with what it was resolved to for one run."""

    name: str
    relation_heads: int

    @property
    def needs_output(self) -> bool:
        """Whether last hidden states must be computed."""
        return False

    def __call__(self, student: ModelStates, teacher: ModelStates, mask: Tensor | None = None) -> Tensor:
        """The scalar loss; `mask` (batch, seq) is True at real tokens, None where the batch has no padding."""
        return OBJECTIVES[self.name](student, teacher, mask, self.relation_heads)


def resolve_objective(name: str, relation_heads: int | None, teacher_width: int, widths: Iterable[int]) -> Objective:
    """Check an objective's name and choose its relation heads.

    Args:
        name: a key of `OBJECTIVES`.
        relation_heads: as asked for, or None to choose.
        teacher_width: heads x head size of the teacher.
        widths: those of all students.

    Raises:
        ConfigError: unknown name, or relation heads that do not divide every width.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"objective {name!r}{suggest(name, OBJECTIVES)} is unknown; allowed: {', '.join(OBJECTIVES)}")
    common = math.gcd(teacher_width, *widths)
    if relation_heads is None:
        relation_heads = choose_relation_heads(teacher_width, common)
    if relation_heads < 1 or common % relation_heads:
        allowed = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
        raise ConfigError(
            f"{relation_heads} relation heads do not divide all attention widths of teacher and students; "
            f"allowed here: {allowed}"
        )
    return Objective(name, relation_heads)


def choose_relation_heads(teacher_width: int, common: int) -> int:
    """The largest divisor of `common` (which divides every width) that leaves the teacher at least 16 per head.

    16 is MiniLMv2's width for base teachers (768 / 48). One number for all students keeps their losses comparable.
    """
    return max(n for n in range(1, common + 1) if (common % n == 0 and teacher_width // n >= 16) or n == 1)
