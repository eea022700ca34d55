"""Distillation objectives: weighted sums of terms, each a function of the student's and the teacher's states.

Every term is task-agnostic and takes any student width. Relations look at one layer's queries, keys and values only:
they leave what follows in that layer untrained, which is harmless before fine-tuning and not without it. Terms of the
output train it all. A student's residual dimensions are the teacher's leading ones (in its importance order), so hidden
states are compared with the teacher's leading dimensions and need no projection. Terms of decoders look at what comes
next: `logits-kl` at the teacher's distribution over it, `next-token` at the text itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss, normalize

from autodistil.errors import ConfigError, suggest
from autodistil.models.attention import AttentionStates, ModelStates
from autodistil.models.layer_maps import spread_layers
from autodistil.models.pooling import pool
from autodistil.objectives.logits import logits_kl, next_token_nats
from autodistil.objectives.relations import (
    masked_log_softmax,
    relation_kl,
    relation_log_softmax,
    relation_scores,
    row_weights,
    split_relation_heads,
)

AUTO = "auto"
NEXT_TOKEN = "next-token"
"""The term whose exponential is the perplexity."""
TEMPERATURE = 0.05
"""Of in-batch similarities: the scale at which sentence encoders are trained (SimCSE, arXiv 2104.08821)."""


@dataclass(frozen=True)
class TermOptions:
    """What terms need to know beside the states."""

    relation_heads: int
    pooling: str = "mean"
    causal: bool = False
    """Relations are those of a decoder: a token's to itself and those before it."""
    gather: Callable[[Tensor], Tensor] = lambda embeddings: embeddings
    """Embeddings of these texts -> those of all texts of the micro-batch, where workers share it."""


TermFunction = Callable[[ModelStates, ModelStates, "Tensor | None", TermOptions], Tensor]
"""(student states, teacher states, mask (batch, seq) or None, options) -> scalar loss."""


def _precise(states: Tensor) -> Tensor:
    """Half-precision states in fp32: what is left of a loss near its minimum is less than bfloat16 resolves."""
    return states.float() if states.dtype in (torch.bfloat16, torch.float16) else states


# ---- self-attention relations


def _relation_heads_of(states: AttentionStates, relation_heads: int) -> Iterable[Tensor]:
    return (split_relation_heads(part, relation_heads) for part in states)


def relation_kl_loss(student: ModelStates, teacher: ModelStates, mask: Tensor | None, options: TermOptions) -> Tensor:
    """MiniLMv2 (arXiv 2012.15828): KL of Q-Q, K-K and V-V relations, summed over the three."""
    pairs = zip(
        _relation_heads_of(student.attention, options.relation_heads),
        _relation_heads_of(teacher.attention, options.relation_heads),
        strict=True,
    )
    kept = teacher.kept[options.relation_heads] if teacher.kept is not None else (None,) * 3
    losses = [relation_kl(*pair, mask, known, options.causal) for pair, known in zip(pairs, kept, strict=True)]
    return torch.stack(losses).sum()


def relation_mse_loss(student: ModelStates, teacher: ModelStates, mask: Tensor | None, options: TermOptions) -> Tensor:
    """AutoDistil, equation 4: mean squared error of the softmaxed Q-Q, K-K and V-V relations.

    Squared errors are summed over the keys and averaged over relation heads and real tokens.
    """
    loss = student.attention.query.new_zeros(())
    for pair in zip(student.attention, teacher.attention, strict=True):
        heads = [split_relation_heads(_precise(states), options.relation_heads) for states in pair]
        relations = [relation_log_softmax(states, mask, options.causal).exp() for states in heads]
        loss = loss + ((relations[0] - relations[1]).square().sum(-1) * row_weights(relations[0], mask)).sum()
    return loss


def scores_mse_loss(student: ModelStates, teacher: ModelStates, mask: Tensor | None, options: TermOptions) -> Tensor:
    """What AutoDistil's published code does: mean squared error of the raw scaled scores, no softmax.

    Departure: pairs with a padding token are left out (in the code its mask cancels and padding is trained on). Scores
    are symmetric, so causal ones are the same.
    """
    loss = student.attention.query.new_zeros(())
    for pair in zip(student.attention, teacher.attention, strict=True):
        scores = [relation_scores(split_relation_heads(_precise(x), options.relation_heads)) for x in pair]
        if mask is None:
            loss = loss + mse_loss(scores[0], scores[1])
            continue
        pairs = (mask[:, None, :, None] & mask[:, None, None, :]).to(scores[0].dtype)
        errors = (scores[0] - scores[1]).square() * pairs
        loss = loss + errors.sum() / (pairs.sum() * options.relation_heads)
    return loss


def minilm_loss(student: ModelStates, teacher: ModelStates, mask: Tensor | None, options: TermOptions) -> Tensor:
    """MiniLM v1 (arXiv 2002.10957): KL of the attention distributions (Q-K) plus KL of the value relations.

    Departure: both are formed on the joint relation heads, so the student need not have the teacher's head count;
    with as many relation heads as attention heads on both sides it is v1 to the letter.
    """
    ours, theirs = student.attention, teacher.attention
    log_attention = [_attention_log_softmax(states, mask, options) for states in (ours, theirs)]
    divergence = (log_attention[1].exp() * (log_attention[1] - log_attention[0])).sum(-1)
    attention_loss = (divergence * row_weights(log_attention[0], mask)).sum()
    values = (split_relation_heads(states.value, options.relation_heads) for states in (ours, theirs))
    return attention_loss + relation_kl(next(values), next(values), mask, causal=options.causal)


def _attention_log_softmax(states: AttentionStates, mask: Tensor | None, options: TermOptions) -> Tensor:
    queries_per_key = states.query.shape[1] // states.key.shape[1]
    keys = states.key.repeat_interleave(queries_per_key, dim=1)
    query, key = (split_relation_heads(_precise(x), options.relation_heads) for x in (states.query, keys))
    return masked_log_softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), mask, options.causal)


# ---- outputs


def embedding_similarity_loss(
    student: ModelStates, teacher: ModelStates, mask: Tensor | None, options: TermOptions
) -> Tensor:
    """KL of in-batch similarity distributions: for each text, softmax over the other texts of cosine / temperature.

    The relational view of a sentence encoder (RKD, arXiv 1904.05068; SEED, arXiv 2101.04731). Zero for a single text.
    """
    ours, theirs = (
        _log_similarities(options.gather(embeddings_of(states, mask, options))) for states in (student, teacher)
    )
    if len(ours) < 2:
        return ours.sum() * 0
    return (theirs.exp() * (theirs - ours)).sum(-1).mean()


def _log_similarities(embeddings: Tensor) -> Tensor:
    """Log distribution over the other texts, (batch, batch - 1)."""
    unit = normalize(embeddings, dim=-1)
    return (_off_diagonal(unit @ unit.T) / TEMPERATURE).log_softmax(-1)


def _off_diagonal(square: Tensor) -> Tensor:
    """(n, n) -> (n, n - 1) without the diagonal: behind its first entry, each row of n + 1 ends with one of it."""
    n = len(square)
    return square.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)


def embedding_cosine_loss(
    student: ModelStates, teacher: ModelStates, mask: Tensor | None, options: TermOptions
) -> Tensor:
    """1 - cosine of the student's embedding and the leading dimensions of the teacher's, mean over texts."""
    ours, theirs = (embeddings_of(states, mask, options) for states in (student, teacher))
    return 1 - cosine_similarity(ours, theirs[:, : ours.shape[1]], dim=-1).mean()


def embeddings_of(states: ModelStates, mask: Tensor | None, options: TermOptions) -> Tensor:
    """One vector a text or image, (batch, hidden), in fp32."""
    assert states.output is not None, "the forward was run without its output"
    pooled = None if states.pooled is None else _precise(states.pooled)
    return pool(options.pooling, _precise(states.output), pooled, mask)


def last_hidden_loss(student: ModelStates, teacher: ModelStates, mask: Tensor | None, options: TermOptions) -> Tensor:
    """1 - cosine of last hidden states on the student's dimensions, mean over real tokens."""
    assert student.output is not None
    assert teacher.output is not None
    return _token_cosine_distance(student.output, teacher.output, mask)


def hidden_loss(student: ModelStates, teacher: ModelStates, mask: Tensor | None, options: TermOptions) -> Tensor:
    """The same for the output of every student layer, each against its place in the teacher (HomoDistil; TinyBERT)."""
    assert student.hidden, "the forward was run without its hidden states"
    places = spread_layers(len(student.hidden), len(teacher.hidden))
    distances = [
        _token_cosine_distance(ours, teacher.hidden[place], mask)
        for ours, place in zip(student.hidden, places, strict=True)
    ]
    return torch.stack(distances).mean()


def _token_cosine_distance(ours: Tensor, theirs: Tensor, mask: Tensor | None) -> Tensor:
    ours, theirs = _precise(ours), _precise(theirs)
    distance = 1 - cosine_similarity(ours, theirs[..., : ours.shape[-1]], dim=-1)
    if mask is None:
        return distance.mean()
    return (distance * mask).sum() / mask.sum()


# ---- what comes next


def logits_kl_loss(student: ModelStates, teacher: ModelStates, mask: Tensor | None, options: TermOptions) -> Tensor:
    """KL of the distributions over the next token (Hinton et al., arXiv 1503.02531), mean over real tokens."""
    return logits_kl(*_real_outputs(student, mask), *_real_outputs(teacher, mask))


def next_token_loss(student: ModelStates, teacher: ModelStates, mask: Tensor | None, options: TermOptions) -> Tensor:
    """Cross-entropy of the text's own next tokens, in nats, mean over those that have one."""
    assert student.output is not None, "the forward was run without its output"
    assert teacher.tokens is not None, "a teacher that is no decoder"
    followed = torch.ones_like(teacher.tokens, dtype=torch.bool) if mask is None else mask
    before, after = followed.clone(), followed.clone()
    before[:, :-1] &= followed[:, 1:]
    before[:, -1] = after[:, 0] = False
    return next_token_nats(*_real_outputs(student, before), teacher.tokens[after])


def _real_outputs(states: ModelStates, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Last hidden states of real tokens (tokens, hidden), and the head."""
    assert states.output is not None, "the forward was run without its output"
    assert states.head is not None, "a model without a language-model head"
    return states.output.flatten(0, 1) if mask is None else states.output[mask], states.head


OBJECTIVES: Mapping[str, TermFunction] = MappingProxyType(
    {
        "relation-kl": relation_kl_loss,
        "relation-mse": relation_mse_loss,
        "scores-mse": scores_mse_loss,
        "minilm": minilm_loss,
        "embedding-similarity": embedding_similarity_loss,
        "embedding-cosine": embedding_cosine_loss,
        "last-hidden": last_hidden_loss,
        "hidden": hidden_loss,
        "logits-kl": logits_kl_loss,
        NEXT_TOKEN: next_token_loss,
    }
)
"""Name -> loss function of a term."""
_MEAN_OVER = MappingProxyType(
    {
        "scores-mse": "pairs",
        "embedding-cosine": "texts",
        "embedding-similarity": "batch",
        NEXT_TOKEN: "predictions",
    }
)
"""What a term is a mean over, a field of `Share`; tokens unless listed."""
_RELATIONS = ("relation-kl", "relation-mse", "scores-mse", "minilm")
_ALL_HIDDEN = ("hidden",)
_OF_DECODERS = ("logits-kl", NEXT_TOKEN)
_BY_DIMENSION = ("embedding-cosine", "last-hidden", "hidden")


@dataclass(frozen=True)
class Share:
    """The part of a micro-batch that the texts at hand are, in [0, 1] by each measure, where workers share it.

    Weighted by it, the terms of all workers add up to those of the whole micro-batch.
    """

    tokens: float = 1.0
    pairs: float = 1.0
    """Of real tokens of one text, in order."""
    texts: float = 1.0
    batch: float = 1.0
    """One over the workers: of what each of them computes in full."""
    gather: Callable[[Tensor], Tensor] | None = None
    """As in `TermOptions`."""
    predictions: float = 1.0
    """Of real tokens that have one behind them."""

    def of(self, term: str, loss: Tensor) -> Tensor:
        """This share of a term's loss. A full one keeps its gradient: that is by own texts only, so a part already."""
        measure = _MEAN_OVER.get(term, "tokens")
        share = getattr(self, measure)
        return loss - (1 - share) * loss.detach() if measure == "batch" else share * loss


WHOLE = Share()
"""Of the one worker that there is."""


@dataclass(frozen=True)
class Objective:
    """An objective with what it was resolved to for one run."""

    terms: tuple[tuple[float, str], ...]
    """(weight, key of `OBJECTIVES`)."""
    options: TermOptions

    @property
    def name(self) -> str:
        """As it is written: `relation-kl+2*embedding-cosine`."""
        return "+".join(name if weight == 1 else f"{weight:g}*{name}" for weight, name in self.terms)

    @property
    def needs_attention(self) -> bool:
        """Whether some term looks at queries, keys and values."""
        return any(name in _RELATIONS for _, name in self.terms)

    @property
    def needs_output(self) -> bool:
        """Whether last hidden states must be computed."""
        return any(name not in _RELATIONS for _, name in self.terms)

    @property
    def needs_hidden(self) -> bool:
        """Whether the hidden states of every layer must be kept."""
        return any(name in _ALL_HIDDEN for _, name in self.terms)

    @property
    def needs_head(self) -> bool:
        """Whether some term looks at what comes next, so that models need a language-model head."""
        return any(name in _OF_DECODERS for _, name in self.terms)

    @property
    def compares_dimensions(self) -> bool:
        """Whether some term takes the student's dimensions for the teacher's leading ones."""
        return any(name in _BY_DIMENSION for _, name in self.terms)

    def __call__(
        self, student: ModelStates, teacher: ModelStates, mask: Tensor | None = None, share: Share = WHOLE
    ) -> Tensor:
        """The scalar loss; `mask` (batch, seq) is True at real tokens, None where the batch has no padding."""
        options = self.options if share.gather is None else replace(self.options, gather=share.gather)
        losses = [
            weight * share.of(name, OBJECTIVES[name](student, teacher, mask, options)) for weight, name in self.terms
        ]
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


def parse_objective(text: str) -> tuple[tuple[float, str], ...]:
    """Read a weighted sum such as `relation-kl + 2*embedding-cosine`.

    Raises:
        ConfigError: an unknown term, one given twice, or a weight that is not above zero.
    """
    terms = tuple(_parse_term(part.strip()) for part in text.split("+"))
    names = [name for _, name in terms]
    if len(set(names)) < len(names):
        raise ConfigError(f"objective {text!r} has a term twice; give each once, with a weight such as 2*{names[0]}")
    return terms


def _parse_term(part: str) -> tuple[float, str]:
    weight_text, _, name = part.rpartition("*")
    name, weight_text = name.strip(), weight_text.strip() or "1"
    if name not in OBJECTIVES:
        raise ConfigError(
            f"objective {name!r}{suggest(name, OBJECTIVES)} is unknown; allowed: {AUTO}, {', '.join(OBJECTIVES)}, "
            "or a weighted sum such as relation-kl+2*embedding-cosine"
        )
    if not re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?", weight_text) or not 0 < float(weight_text) < math.inf:
        raise ConfigError(f"weight {weight_text!r} of objective {name!r} is no number above 0; give such as 2*{name}")
    return float(weight_text), name


def resolve_objective(
    text: str,
    relation_heads: int | None,
    teacher_width: int,
    widths: Iterable[int],
    pooling: str | None = None,
    causal: bool = False,
) -> Objective:
    """Read an objective and choose what is left open.

    Args:
        text: a weighted sum of keys of `OBJECTIVES`, or `auto`.
        relation_heads: as asked for, or None to choose.
        teacher_width: heads x head size of the teacher's keys, which its queries are as wide as or several times.
        widths: those of all students.
        pooling: how the teacher makes sentence embeddings, None where it does not.
        causal: teacher and students are decoders.

    Raises:
        ConfigError: unknown term, bad weight, a term for decoders alone, or relation heads that do not divide every
            width.
    """
    if text == AUTO:
        text = DEFAULT_FOR_DECODERS if causal else DEFAULT_FOR_EMBEDDINGS if pooling else DEFAULT
    terms = parse_objective(text)
    stray = [name for _, name in terms if name in _OF_DECODERS and not causal]
    if stray:
        raise ConfigError(f"objective {stray[0]!r} is for decoders, which predict the next token; leave it out")
    common = math.gcd(teacher_width, *widths)
    if relation_heads is None:
        relation_heads = choose_relation_heads(teacher_width, common)
    if relation_heads < 1 or common % relation_heads:
        allowed = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
        raise ConfigError(
            f"{relation_heads} relation heads do not divide all attention widths of teacher and students; "
            f"allowed here: {allowed}"
        )
    return Objective(terms, TermOptions(relation_heads, pooling or "mean", causal))


DEFAULT = "relation-kl"
DEFAULT_FOR_EMBEDDINGS = "relation-kl+embedding-similarity+10*last-hidden"
"""For sentence encoders, whose output is used as it is."""
DEFAULT_FOR_DECODERS = "relation-kl+logits-kl"


def choose_relation_heads(teacher_width: int, common: int) -> int:
    """The largest divisor of `common` (which divides every width) that leaves the teacher at least 16 per head.

    16 is MiniLMv2's width for base teachers (768 / 48). One number for all students keeps their losses comparable.
    """
    return max(n for n in range(1, common + 1) if (common % n == 0 and teacher_width // n >= 16) or n == 1)
