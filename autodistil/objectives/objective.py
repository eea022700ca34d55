"""An objective of distillation: a weighted sum of terms, read from text and resolved for one run.

    loss = sum over terms of weight * term(student states, teacher states),   such as relation-kl+2*embedding-cosine

Relations look at one layer's queries, keys and values only: they leave what follows in that layer untrained, which is
harmless before fine-tuning and not without it. So for encoders whose output is used as it is, terms of the output join.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autodistil.errors import ConfigError
from autodistil.models.attention import ModelStates
from autodistil.objectives import TERMS
from autodistil.objectives.term import Block, Mask, Term, TermOptions, compared, one_by_one, outputs_of, tokens_of
from autodistil.utils import read_weighted_sum, weighted_sum

MOST_DIMENSIONS = 65_536
"""Of an embedding; more is a slip of the finger."""
AUTO = "auto"
DEFAULT = "relation-kl"
DEFAULT_FOR_EMBEDDINGS = "relation-kl+20*embedding-cosine"
"""Objective for encoders of sentences and images, whose output is used as it is. Twice the cosine term is the squared
error of embeddings, which sentence-transformers distils by. Of the objectives tried it was ahead where compression is
mild, and ahead on retrieval but behind on STS-B for the smallest student trained alone (reports/LOG.md)."""
DEFAULT_FOR_OUTPUTS = "relation-kl+20*output-cosine"
"""Objective where there is an output teacher."""
DEFAULT_FOR_DECODERS = "relation-kl+logits-kl"
FOR_CUTS = "+matryoshka"
"""What joins them where embeddings are to be useful when cut."""
FOR_EXITS = "+20*exits"
"""And where students are to be useful when they are left before the last layer."""


@dataclass(frozen=True)
class Share:
    """The part of a training step's batch that the texts at hand are, in [0, 1] by each measure.

    Weighted by it, the terms of all parts, micro-batches and workers' rows of these, add up to those of the batch.
    """

    tokens: float = 1.0
    pairs: float = 1.0
    """Share of the ordered pairs of real tokens of one text."""
    texts: float = 1.0
    predictions: float = 1.0
    """Share of the real tokens that have another one behind them."""
    batch: float = 1.0
    """One over the parts: of what is computed in full for each of them."""

    def of(self, term: Term, loss: Tensor) -> Tensor:
        """This share of a term's loss. A full one keeps its gradient: that is by own texts only, so a part already."""
        share = getattr(self, term.mean_over)
        return loss - (1 - share) * loss.detach() if term.mean_over == "batch" else share * loss


WHOLE = Share()
"""Share of a batch that one worker takes in one piece."""


_TEXT_WEIGHTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tokens": torch.clone,
    "pairs": torch.square,
    "texts": torch.ones_like,
    "predictions": lambda tokens: tokens - 1,
    "batch": torch.ones_like,
}
"""What a text counts in a term's mean, by `Term.mean_over`, made of its number of tokens."""


@dataclass(frozen=True)
class Objective:
    """An objective with what it was resolved to for one run."""

    terms: tuple[tuple[float, str], ...]
    """(weight, key of `TERMS`)."""
    options: TermOptions

    @property
    def name(self) -> str:
        """The objective as it is written, such as `relation-kl+2*embedding-cosine`."""
        return weighted_sum(self.terms)

    @property
    def needs_attention(self) -> bool:
        """Whether some term looks at queries, keys and values."""
        return any(TERMS[name].needs == "attention" for _, name in self.terms)

    @property
    def needs_output(self) -> bool:
        """Whether last hidden states must be computed."""
        return any(TERMS[name].needs != "attention" for _, name in self.terms)

    @property
    def needs_hidden(self) -> bool:
        """Whether the hidden states of every layer must be kept."""
        return any(TERMS[name].needs == "hidden" for _, name in self.terms)

    @property
    def needs_head(self) -> bool:
        """Whether some term looks at what comes next, so that models need a language-model head."""
        return any(TERMS[name].decoders_only for _, name in self.terms)

    @property
    def compares_dimensions(self) -> bool:
        """Whether some term takes the student's dimensions for the teacher's leading ones."""
        return any(TERMS[name].by_dimension for _, name in self.terms)

    @property
    def compares_texts(self) -> bool:
        """Whether some term compares the texts of a batch with each other, so that it has to see all of them."""
        return any(TERMS[name].mean_over == "batch" for _, name in self.terms)

    def outputs(self, states: ModelStates, mask: Mask) -> Tensor:
        """What users get of texts, (texts, dim)."""
        return outputs_of(states, mask, self.options)

    def compared(self, states: ModelStates, mask: Mask) -> Tensor:
        """What such terms compare texts by, (texts, hidden + dim)."""
        return compared(states, mask, self.options)

    def __call__(self, student: ModelStates, teacher: ModelStates, mask: Mask = None, share: Share = WHOLE) -> Tensor:
        """The scalar loss; `mask` (batch, seq) is True at real tokens, None where the batch has no padding."""
        losses = [
            weight * share.of(TERMS[name], TERMS[name].loss(student, teacher, mask, self.options))
            for weight, name in self.terms
        ]
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

    def text_losses(self, block: Block) -> Tensor:
        """Loss of each text of a block, (texts,); their mean is the objective of all its texts as one batch.

        With B texts, term(block) = 1/B * sum of the values of its texts, whatever weights the term gives to tokens. A
        block may come in several batches, of texts of like length each, so that little is padding.

        Args:
            block: the student's states, the teacher's and the mask, batch by batch. What terms form of the teacher's
                is formed once for all students where its states are shared (`ModelStates.for_many`).
        """
        tokens = torch.cat([tokens_of(teacher, mask) for _, teacher, mask in block])
        losses = []
        for weight, name in self.terms:
            term = TERMS[name]
            values = term.texts(block, self.options) if term.texts else one_by_one(term.loss, block, self.options)
            counts = _TEXT_WEIGHTS[term.mean_over](tokens)
            losses.append(weight * values * counts * (len(counts) / counts.sum()))
        return torch.stack(losses).sum(0)


def parse_objective(text: str) -> tuple[tuple[float, str], ...]:
    """Read a weighted sum such as `relation-kl + 2*embedding-cosine`.

    Raises:
        ConfigError: an unknown term, one given twice, or a weight that is not above zero.
    """
    return read_weighted_sum(text, TERMS, AUTO, "relation-kl+2*embedding-cosine")


def resolve_objective(
    text: str,
    relation_heads: int | None,
    teacher_width: int,
    widths: Iterable[int],
    pooling: str | None = None,
    causal: bool = False,
    output_teacher: bool = False,
    cuts: Sequence[int] = (),
    exits: bool = False,
) -> Objective:
    """Read an objective and choose what is left open.

    Args:
        text: a weighted sum of keys of `TERMS`, or `auto`.
        relation_heads: as asked for, or None to choose.
        teacher_width: heads x head size of the teacher's keys, which its queries are as wide as or several times.
        widths: those of all students.
        pooling: how the teacher makes sentence embeddings, None where it does not.
        causal: teacher and students are decoders.
        output_teacher: there is one.
        cuts: dimensions to which users may cut embeddings.
        exits: students may be left after any layer; `auto` then has the term of it.

    Raises:
        ConfigError: unknown term, bad weight, a term for decoders alone, one that compares with an output teacher where
            there is none or none where there is, likewise one of cut embeddings, or relation heads that do not divide
            every width.
    """
    if text == AUTO:
        of_embeddings = DEFAULT_FOR_OUTPUTS if output_teacher else DEFAULT_FOR_EMBEDDINGS if pooling else DEFAULT
        text = DEFAULT_FOR_DECODERS if causal else of_embeddings + FOR_CUTS * bool(cuts) + FOR_EXITS * exits
    terms = parse_objective(text)
    stray = [name for _, name in terms if TERMS[name].decoders_only and not causal]
    if stray:
        raise ConfigError(f"objective {stray[0]!r} is for decoders, which predict the next token; leave it out")
    asking = [name for _, name in terms if TERMS[name].output_teacher]
    if bool(asking) != output_teacher:
        what = f"objective {asking[0]!r} compares with one" if asking else f"objective {text!r} has no term of it"
        raise ConfigError(f"output_teacher: {what}; give both --output-teacher and a term such as output-cosine")
    cutting = [name for _, name in terms if TERMS[name].cuts]
    if bool(cutting) != bool(cuts):
        what = f"objective {cutting[0]!r} needs dimensions" if cutting else f"objective {text!r} has no term of cuts"
        raise ConfigError(f"matryoshka: {what}; give both, such as --matryoshka 256,128,64 and a term matryoshka")
    common = math.gcd(teacher_width, *widths)
    if exits and not any(TERMS[name].exits for _, name in terms):
        raise ConfigError(f"exits: objective {text!r} has no term of it; leave one out, or add such as 20*exits")
    if relation_heads is None:
        relation_heads = choose_relation_heads(teacher_width, common)
    if relation_heads < 1 or common % relation_heads:
        allowed = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
        raise ConfigError(
            f"{relation_heads} relation heads do not divide all attention widths of teacher and students; "
            f"allowed here: {allowed}"
        )
    return Objective(terms, TermOptions(relation_heads, pooling or "mean", causal, tuple(cuts)))


def read_cuts(text: str, option: str = "matryoshka") -> tuple[int, ...]:
    """Read dimensions such as `256,128,64`, in falling order; `option` is what they are given to.

    Raises:
        ConfigError: they are no numbers above zero, or one comes twice.
    """
    parts = [part.strip() for part in text.split(",")]
    cuts = {int(part) for part in parts if part.isdecimal()}
    if len(cuts) < len(parts) or not all(0 < cut <= MOST_DIMENSIONS for cut in cuts):
        allowed = f"dimensions are whole numbers from 1 to {MOST_DIMENSIONS:,}, each once"
        raise ConfigError(f"{option} = {text!r}: {allowed}; give such as 256,128,64")
    return tuple(sorted(cuts, reverse=True))


def choose_relation_heads(teacher_width: int, common: int) -> int:
    """The largest divisor of `common` (which divides every width) that leaves the teacher at least 16 per head.

    16 is MiniLMv2's width for base teachers (768 / 48). One number for all students keeps their losses comparable.
    """
    return max(n for n in range(1, common + 1) if (common % n == 0 and teacher_width // n >= 16) or n == 1)
