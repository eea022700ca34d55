"""KL(R_teacher || R_student) of self-attention relations in closed form (MiniLMv2, arXiv 2012.15828, equations 2 to 5).

With relations R = softmax(A A^T / sqrt(d)), as `relations.py` has them, of A_r relation heads a and |x| real tokens t:

    L = sum over A in {Q, K, V} of 1 / (A_r |x|) sum over a, t of KL(R_teacher[a, t] || R_student[a, t])

Departures: padding is masked, and A_r is a number that divides every width (`objective.choose_relation_heads`). What
follows Q, K and V in their layer stays untrained, which is harmless before fine-tuning and not without it.

Neither loss nor gradient needs autograd. With Z = S S^T / sqrt(d), P = softmax(Z), Y and T the teacher's, a row's
divergence is sum(T (Y - Z)) - lse(Y) + lse(Z), and with D = P - T the gradient of its sum is dL/dS = (D + D^T) S /
sqrt(d). Both are formed in the forward, some rows at a time, so that no seq x seq matrix is ever there: memory is
linear in the length. Texts are taken without their padding, those of one length together. T is the same for all
students of a batch: as far as it fits into a fixed size, it is kept for the next one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.objectives.relations import (
    hide_later,
    relation_head_pair,
    relation_log_softmax,
    row_weights,
    split_relation_heads,
    student_relation_heads,
)
from autodistil.objectives.term import Block, Mask, Term, TermOptions, one_by_one, tokens_of, with_gradients

logger = logging.getLogger(__name__)

_CHUNK_ENTRIES = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Entries of a relation matrix formed at a time, by device: what stays in a CPU's cache, what fills a GPU."""
_KEPT_ENTRIES = 1 << 22
"""Entries of a teacher's relations that are kept, 16 MB for queries, keys and values each, whatever the length."""
_WHOLE_ENTRIES = 1 << 24
"""Entries of the teacher's relations of a batch that are formed whole, and kept, for losses of texts: 64 MB. More are
formed some rows at a time for each student, which is faster than whole and takes no memory to speak of (LOG.md)."""


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The divergence of Q-Q, K-K and V-V relations, summed; students of one batch share what the teacher's need."""
    heads, kept = options.relation_heads, [None] * 3
    if teacher.shared is not None:
        kept = teacher.shared.setdefault(("relation-kl", heads), [KeptRelations() for _ in kept])
    losses = [
        relation_kl(*relation_head_pair(ours, theirs, heads), mask, known, options.causal)
        for ours, theirs, known in zip(student.attention, teacher.attention, kept, strict=True)
    ]
    return torch.stack(losses).sum()


def texts(block: Block, options: TermOptions) -> Tensor:
    """The divergence of each text: H(R_teacher, R_student) - H(R_teacher), the teacher's part kept for all students.

    Long texts, whose relations are too large for that, go one by one.
    """
    losses = []
    for student, teacher, mask in block:
        batch, _, seq, _ = teacher.attention.query.shape
        if 3 * batch * options.relation_heads * seq**2 > _WHOLE_ENTRIES:
            losses.append(one_by_one(loss, [(student, teacher, mask)], options))
            continue
        sums = []
        for part, (ours, theirs) in enumerate(zip(student.attention, teacher.attention, strict=True)):
            relation, negative_entropy = _whole_relations(teacher, part, mask, options)
            heads = student_relation_heads(ours.float(), theirs, options.relation_heads)
            log_student = relation_log_softmax(heads, mask, options.causal)
            sums.append(negative_entropy - (relation * log_student).sum((1, 2, 3)))
        losses.append(torch.stack(sums).sum(0) / (tokens_of(teacher, mask) * options.relation_heads))
    return torch.cat(losses)


def _whole_relations(teacher: ModelStates, part: int, mask: Mask, options: TermOptions) -> tuple[Tensor, Tensor]:
    """R (batch, heads, seq, seq) of Q, K or V by number, zero in rows of padding, and the sum of R log R, (batch,)."""
    shared, key = teacher.shared, ("relation-kl by text", options.relation_heads, part)
    if shared is not None and key in shared:
        return shared[key]
    heads = split_relation_heads(tuple(teacher.attention)[part].float(), options.relation_heads)
    log_relation = relation_log_softmax(heads, mask, options.causal)
    relation = log_relation.exp()
    if mask is not None:
        relation = relation * mask[:, None, :, None]
    found = relation, (relation * log_relation).sum((1, 2, 3))
    if shared is not None:
        shared[key] = found
    return found


TERM = Term(loss, texts)


# ---- the closed form


def relation_kl(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    kept: KeptRelations | None = None,
    causal: bool = False,
) -> Tensor:
    """KL(R_teacher || R_student), mean over relation heads and real tokens; differentiable in `student` only.

    On a CUDA device it runs as a Triton kernel (`relations_triton.py`) where Triton is installed, unless causal.

    Args:
        student: (batch, relation_heads, seq, d_student).
        teacher: (batch, relation_heads, seq, d_teacher); gets no gradient.
        mask: (batch, seq), True at real tokens; None where all are.
        kept: what other students had of the same teacher on the same batch; the Triton kernel has no use for it.
        causal: a token is related to none behind it; padding is then behind all real tokens.
    """
    fits = student.is_cuda and student.dtype in _TRITON_TYPES and not causal
    kernel = _triton_kernel() if fits else None
    if kernel is not None:
        return kernel(student, teacher, mask)
    known = KeptRelations(room=0) if kept is None else kept
    return with_gradients(
        lambda needed, ours: _kl_and_gradient(needed, ours, teacher.float(), mask, known, causal), student
    )


def relation_kl_autograd(student: Tensor, teacher: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
    """The same divergence as `relation_kl` by autograd, to check and to time against.

    Args:
        student: (batch, relation_heads, seq, d_student).
        teacher: (batch, relation_heads, seq, d_teacher).
        mask: (batch, seq), True at real tokens; None where all are.
        causal: a token is related to none behind it.
    """
    log_student = relation_log_softmax(student, mask, causal)
    log_teacher = relation_log_softmax(teacher, mask, causal)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
    return (divergence * row_weights(student, mask)).sum()


Chunk = tuple[int, int, int]
"""Numbers of the texts of one length, and of the first relation and row."""


@dataclass
class KeptRelations:
    """What the teacher's relations of a batch contribute to the loss of any student, chunk by chunk.

    It belongs to one teacher's queries, keys or values on one batch, split into one number of relation heads.
    """

    room: int = _KEPT_ENTRIES
    """Entries that are kept yet; chunks for which there is none are formed anew each time."""
    chunks: dict[Chunk, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Relations R (relations, rows, seq), and the sum of R log R."""

    def get(self, key: Chunk, states: Tensor, rows: slice, causal: bool) -> tuple[Tensor, Tensor]:
        """A chunk: some rows of the relations of states (relations, seq, d)."""
        if key in self.chunks:
            return self.chunks[key]
        scores, relation, normaliser = _relation_rows(states, rows, causal)
        chunk = relation, torch.dot(scores.view(-1), relation.view(-1)) - normaliser.sum()
        if relation.numel() <= self.room:
            self.room -= relation.numel()
            self.chunks[key] = chunk
        return chunk


_TRITON_TYPES = (torch.float32, torch.bfloat16, torch.float16)


@cache
def _triton_kernel() -> Callable[[Tensor, Tensor, Tensor | None], Tensor] | None:
    try:
        from autodistil.objectives.relations_triton import relation_kl_triton
    except ImportError:
        logger.info("Triton is not installed; relations are computed by PyTorch")
        return None
    return relation_kl_triton


def _kl_and_gradient(
    need_gradient: bool, student: Tensor, teacher: Tensor, mask: Tensor | None, kept: KeptRelations, causal: bool
) -> tuple[Tensor, ...]:
    """The loss and, where needed, dL/dstudent."""
    heads, width = student.shape[1], student.shape[-1]
    tokens = student[:, 0, :, 0].numel() if mask is None else mask.sum()
    gradient = torch.zeros_like(student, memory_format=torch.contiguous_format) if need_gradient else None
    loss = student.new_zeros(())
    for number, texts in enumerate(_of_one_length(mask)):
        ours, theirs = _taken(student, texts), _taken(teacher, texts)
        own = torch.zeros_like(ours) if need_gradient else None
        loss += _sum_over_rows(ours, theirs, own, kept, number, causal)
        if gradient is not None and own is not None:
            _put_back(gradient, texts, own)
    if gradient is None:
        return (loss / (heads * tokens),)
    gradient *= 1 / (heads * tokens * math.sqrt(width))
    return loss / (heads * tokens), gradient


Texts = tuple[Tensor, Tensor] | None
"""Numbers of texts in the batch (texts, 1) and of their real tokens (texts, tokens); None: all, whole."""


def _of_one_length(mask: Tensor | None) -> Iterator[Texts]:
    """The texts of a batch, those with as many real tokens together."""
    if mask is None:
        yield None
        return
    lengths = mask.sum(1)
    for length in lengths.unique().tolist():
        if length:
            texts = (lengths == length).nonzero()
            yield texts, mask[texts[:, 0]].nonzero()[:, 1].view(-1, length)


def _taken(states: Tensor, texts: Texts) -> Tensor:
    """Real tokens of some texts, (batch, heads, seq, d) -> (texts * heads, tokens, d), contiguous."""
    if texts is not None:
        states = states[texts[0], :, texts[1]].transpose(1, 2)
    return states.reshape(-1, *states.shape[2:]).contiguous()


def _put_back(states: Tensor, texts: Texts, values: Tensor) -> None:
    """Write what `_taken` took."""
    if texts is None:
        states.copy_(values.view_as(states))
    else:
        per_text = values.view(len(texts[0]), -1, *values.shape[1:])
        states[texts[0], :, texts[1]] = per_text.transpose(1, 2)


def _sum_over_rows(
    student: Tensor, teacher: Tensor, gradient: Tensor | None, kept: KeptRelations, number: int, causal: bool
) -> Tensor:
    """Sum of the divergences of all rows of relations (relations, seq, d); its gradient, times sqrt(d), is added."""
    relations, seq, _ = student.shape
    entries = _CHUNK_ENTRIES.get(student.device.type, min(_CHUNK_ENTRIES.values()))
    together, step = max(1, entries // seq**2), min(seq, max(1, entries // seq))
    loss = student.new_zeros(())
    for first in range(0, relations, together):
        part = slice(first, first + together)
        grad = None if gradient is None else gradient[part]
        for start in range(0, seq, step):
            rows = slice(start, start + step)
            target, negative_entropy = kept.get((number, first, start), teacher[part], rows, causal)
            loss += negative_entropy + _cross_entropy(student[part], target, rows, grad, causal)
    return loss


def _cross_entropy(student: Tensor, target: Tensor, rows: slice, gradient: Tensor | None, causal: bool) -> Tensor:
    """Sum of -T log P over some rows of some relations; its gradient is added as by `_sum_over_rows`."""
    scores, relation, normaliser = _relation_rows(student, rows, causal)
    if gradient is not None:
        difference, seen = relation.sub_(target), slice(target.shape[-1])
        gradient[:, rows].baddbmm_(difference, student[:, seen])
        gradient[:, seen].baddbmm_(difference.transpose(1, 2), student[:, rows])
    return normaliser.sum() - torch.dot(scores.view(-1), target.view(-1))


def _relation_rows(states: Tensor, rows: slice, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and relations (relations, rows, seq), and the log-sum-exp of the scores (relations, rows).

    Causal ones end with the column of the last row.
    """
    seen = states[:, : rows.stop] if causal else states
    scores = (states[:, rows] * (1 / math.sqrt(states.shape[-1]))) @ seen.transpose(1, 2)
    scores = hide_later(scores, rows.start) if causal else scores
    relation = scores.softmax(-1)
    # The largest entry of a softmax is 1 / sum(exp(scores - max)): cheaper than another pass of exponentials.
    return scores, relation, scores.amax(-1) - relation.amax(-1).log()
