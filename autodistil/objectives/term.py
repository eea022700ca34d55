"""What a term of an objective is: a loss of a student's states beside the teacher's, and what it needs.

Every term is task-agnostic and takes any student width. A term is a file beside this one, entered in the dict of
`autodistil.objectives`. It has two functions: the loss of a batch, for training, and the losses of single texts, by
which a search tells students apart (see `student_search.racing`). Their sums run in other orders, so they agree to
rounding: the mean of the texts' losses, weighted by what the term is a mean over, is the loss of all texts as a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.models.pooling import pool

Mask = Tensor | None
"""(batch, seq), True at real tokens; None where the batch has no padding."""
Block = Sequence[tuple[ModelStates, ModelStates, Mask]]
"""Texts in batches: the student's states, the teacher's, and the mask of each batch."""


@dataclass(frozen=True)
class TermOptions:
    """What terms need to know beside the states."""

    relation_heads: int
    pooling: str = "mean"
    causal: bool = False
    """Relations are those of a decoder: a token's to itself and those before it."""
    cuts: tuple[int, ...] = ()
    """Dimensions to which users may cut an embedding, its leading ones."""


Loss = Callable[[ModelStates, ModelStates, Mask, TermOptions], Tensor]
"""(student states, teacher states, mask, options) -> scalar loss of the batch."""


@dataclass(frozen=True)
class Term:
    """One term of an objective."""

    loss: Loss
    texts: Callable[[Block, TermOptions], Tensor] | None = None
    """Losses of the texts of a block, (texts,); None: each text is a batch of its own."""
    mean_over: Literal["tokens", "pairs", "texts", "predictions", "batch"] = "tokens"
    """What the loss is a mean over, a field of `Share`. `batch`: it compares the texts of a batch with each other, by
    `batch_embeddings_of` or `batch_outputs_of`, so it has to see those of all of them."""
    needs: Literal["attention", "output", "hidden"] = "attention"
    """Q, K, V of the distilled layer; the last hidden states; or those of every layer."""
    by_dimension: bool = False
    """The student's dimensions are taken for the teacher's leading ones (in its importance order): no projection."""
    output_teacher: bool = False
    """It compares with the embeddings of an output teacher."""
    cuts: bool = False
    """It compares embeddings cut to their leading dimensions, `TermOptions.cuts`."""
    exits: bool = False
    """It takes a layer's states for the output of the model cut after it, which they are where norms come last."""
    contrastive: bool = False
    """It tells each text from the others of its batch, which not even the teacher does perfectly."""
    decoders_only: bool = False
    """It looks at what comes next, so both models need a language-model head."""

    @property
    def vanishes_on_the_teacher(self) -> bool:
        """Whether the teacher itself has a loss of 0; beside the text that comes next, which has one of its own."""
        return not (self.output_teacher or self.cuts or self.exits or self.contrastive)


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compute: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> Tensor:
        needed = any(states.requires_grad for states in inputs)
        with torch.autocast(inputs[0].device.type, enabled=False):
            loss, *gradients = compute(needed, *(states.float() for states in inputs))
        if needed:
            pairs = zip(gradients, inputs, strict=True)
            ctx.save_for_backward(*(gradient.to(states.dtype) for gradient, states in pairs))
        return loss

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(gradient * grad_loss for gradient in ctx.saved_tensors)


def with_gradients(compute: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> Tensor:
    """A scalar whose gradients are formed with it, in the forward and in fp32, instead of by autograd.

    Args:
        compute: (whether gradients are needed, inputs in fp32) -> the scalar and its gradient by each input.
        inputs: what the scalar is differentiable in.
    """
    result: Tensor = _ClosedForm.apply(compute, *inputs)
    return result


def precise(states: Tensor) -> Tensor:
    """Half-precision states in fp32: what is left of a loss near its minimum is less than bfloat16 resolves."""
    return states.float() if states.dtype in (torch.bfloat16, torch.float16) else states


def tokens_of(teacher: ModelStates, mask: Mask) -> Tensor:
    """Real tokens of each text, (batch,), in the type of the states."""
    query = teacher.attention.query
    return query.new_full((len(query),), query.shape[2]) if mask is None else mask.sum(-1).to(query.dtype)


def one_by_one(loss: Loss, block: Block, options: TermOptions) -> Tensor:
    """Losses of the texts of a block as batches of their own, without padding, (texts,)."""
    losses = [
        loss(student.text(i, int(size)), teacher.text(i, int(size)), None, options)
        for student, teacher, mask in block
        for i, size in enumerate(tokens_of(teacher, mask))
    ]
    return torch.stack(losses)


def embeddings_of(states: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """One vector a text or image, (batch, hidden), in fp32."""
    assert states.output is not None, "the forward was run without its output"
    pooled = None if states.pooled is None else precise(states.pooled)
    return pool(options.pooling, precise(states.output), pooled, mask)


def token_states(student: ModelStates, teacher: ModelStates) -> tuple[Tensor, Tensor]:
    """Last hidden states of both in fp32, (batch, seq, the student's width): the teacher's leading dimensions."""
    assert student.output is not None, "the forward was run without its output"
    assert teacher.output is not None, "the teacher's forward was run without its output"
    return precise(student.output), precise(teacher.output[..., : student.output.shape[-1]])


def outputs_of(states: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """What users get of texts, (batch, dim) in fp32: embeddings, in the space of an output teacher where there is one.

    Targets are there already; a student's head maps into it.
    """
    return states.targets if states.targets is not None else _mapped(embeddings_of(states, mask, options), states)


def _mapped(embeddings: Tensor, states: ModelStates) -> Tensor:
    return embeddings if states.output_head is None else embeddings @ precise(states.output_head).T


def compared(states: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """What terms compare the texts of a batch by: embeddings, (batch, hidden), and behind them outputs that are others.

    So (batch, hidden + dim) with an output teacher.
    """
    embeddings = embeddings_of(states, mask, options)
    outputs = states.targets if states.targets is not None else _mapped(embeddings, states)
    return embeddings if outputs is embeddings else torch.cat([embeddings, outputs], dim=1)


def batch_embeddings_of(states: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """Embeddings of all texts of the step's batch, (texts, hidden), in whatever parts it goes through the model."""
    return _of_batch(states, mask, options)[0]


def batch_outputs_of(states: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """Outputs of all texts of the step's batch, (texts, dim), likewise."""
    return _of_batch(states, mask, options)[1]


def _of_batch(states: ModelStates, mask: Mask, options: TermOptions) -> tuple[Tensor, Tensor]:
    rows = compared(states, mask, options)
    rows = rows if states.gather is None else states.gather(rows)
    assert states.output is not None
    hidden = states.output.shape[-1]
    return rows[:, :hidden], rows[:, hidden:] if rows.shape[1] > hidden else rows


def of_block(
    vectors: Callable[[ModelStates, Mask, TermOptions], Tensor], block: Block, options: TermOptions
) -> tuple[Tensor, Tensor]:
    """Vectors of all texts of a block, (texts, dim), of the student and of the teacher."""
    ours = torch.cat([vectors(student, mask, options) for student, _, mask in block])
    theirs = torch.cat([vectors(teacher, mask, options) for _, teacher, mask in block])
    return ours, theirs
