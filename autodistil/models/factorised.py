"""Factorised embeddings: tables of size E and a projection to the hidden size (ALBERT, arXiv 1909.11942; ELECTRA).

Students of a sub-space with the axis `embedding_size` are ELECTRA models, the plain Hugging Face class with such
embeddings: E-wide tables of words, positions and types, summed, a LayerNorm at E, `embeddings_project` to the hidden
size, then BERT's encoder. Their SuperLM starts from a teacher with BERT's embeddings, y = gain * normalised(x) + shift
with x the sum of the three rows, so:

1. The leading E right singular vectors V of y - shift over tokens of the corpus span most of it, in descending order:
   leading slices hold most. Normalising a row scales it, so z = x C diag(gain) V (C takes the mean out) has, up to that
   scale, the coordinates of y - shift; it is linear in x, so that the tables are just multiplied by it. The LayerNorm
   at E makes up the scale.
2. The projection is the least-squares fit of y by the normalised z, over all embedding sizes of the sub-space at once,
   each a leading slice of z normalised by itself.

Not exact: what lies outside of the E directions is lost, and so is the mean over the E coordinates of z, which the
LayerNorm takes out. Training goes on from there. Word embeddings are not of low rank: of
all-MiniLM-L6-v2's on held-out text, sizes 64 and 128 leave 46 % and 26 % of the variance unexplained at hidden size
384, 33 % and 11 % at 192 (fitted together on 8,192 tokens; 74 % and 61 % at 384 where every word counts once instead).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import layer_norm
from transformers import ElectraConfig, PretrainedConfig

from autodistil.errors import TeacherError
from autodistil.models.families.bert import BERT, ELECTRA
from autodistil.models.families.family import Family

_TABLES = tuple(f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type"))
_CONFIG_FIELDS = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size",
    "initializer_range", "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip


def check_factorisable(family: Family, config: PretrainedConfig) -> None:
    """Check that a teacher has the embeddings that `factorise` starts from.

    Raises:
        TeacherError: it has others.
    """
    plain = getattr(config, "embedding_size", config.hidden_size) == config.hidden_size
    if family not in (BERT, ELECTRA) or not plain:
        what = "with factorised embeddings of its own" if not plain else "whose embeddings differ from ELECTRA's"
        raise TeacherError(
            f"the axis embedding_size is not for a {config.model_type} teacher {what}; allowed: BERT, and ELECTRA "
            "whose embedding size is its hidden size; leave the axis out"
        )


def electra_config(config: PretrainedConfig, embedding_size: int) -> ElectraConfig:
    """The config of an ELECTRA with the encoder of a BERT or ELECTRA."""
    fields = {name: getattr(config, name) for name in _CONFIG_FIELDS if hasattr(config, name)}
    return ElectraConfig(**fields, embedding_size=embedding_size)


def factorise(
    parameters: Mapping[str, Tensor], eps: float, sizes: Sequence[int], tokens: Tensor | None = None
) -> dict[str, Tensor]:
    """Parameters of an encoder with plain embeddings -> those of one with factorised ones.

    Args:
        parameters: named as in BERT; tables (rows, hidden), LayerNorm (hidden,).
        eps: of the LayerNorm.
        sizes: the embedding sizes of the students; the tables get the largest.
        tokens: ids (sequences, seq) whose embeddings are fitted; each word of the vocabulary at some position unless
            given.
    """
    words, positions, types = tables = [parameters[name].detach().double() for name in _TABLES]
    gain, shift = (parameters[f"embeddings.LayerNorm.{kind}"].detach().double() for kind in ("weight", "bias"))
    tokens = _every_word(words, len(positions)) if tokens is None else tokens.to(words.device)
    inputs = (words[tokens] + positions[: tokens.shape[1]] + types[0]).flatten(0, 1)
    targets = layer_norm(inputs, gain.shape, gain, shift, eps)
    rows = targets - shift
    directions = torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1)[
        :, : max(sizes)
    ]  # (hidden, embedding), leading first
    into = gain[:, None] * directions
    into = into - into.mean(0)
    projection, bias = _fit(inputs @ into, targets, sizes, eps)
    new = {name: table @ into for name, table in zip(_TABLES, tables, strict=True)}
    new |= {"embeddings.LayerNorm.weight": torch.ones_like(into[0]), "embeddings.LayerNorm.bias": 0 * into[0]}
    new |= {"embeddings_project.weight": projection, "embeddings_project.bias": bias}
    others = {name: value for name, value in parameters.items() if not name.startswith(("embeddings.", "pooler."))}
    return {**{name: value.float() for name, value in new.items()}, **others}


def _every_word(words: Tensor, length: int) -> Tensor:
    """Each word once, in sequences of `length`; the last one is filled up from the start."""
    count = -(-len(words) // length)
    return (torch.arange(count * length, device=words.device) % len(words)).reshape(count, length)


def _fit(codes: Tensor, targets: Tensor, sizes: Sequence[int], eps: float) -> tuple[Tensor, Tensor]:
    """Least squares of targets (rows, hidden) by normalised leading slices of the codes (rows, embedding)."""
    width = codes.shape[1]
    gram, moments = codes.new_zeros(width + 1, width + 1), codes.new_zeros(width + 1, targets.shape[1])
    for size in sizes:
        slice_ = layer_norm(codes[:, :size], (size,), eps=eps)
        padded = torch.cat([slice_, codes.new_zeros(len(codes), width - size), codes.new_ones(len(codes), 1)], 1)
        gram += padded.T @ padded
        moments += padded.T @ targets
    solution = torch.linalg.pinv(gram, hermitian=True) @ moments  # normalised rows sum to zero: the Gram is singular
    return solution[:-1].T.contiguous(), solution[-1]
