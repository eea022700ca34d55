"""Whether a runtime computes what PyTorch computes: cases with PyTorch's answers, and how far another is from them.

Needs NumPy alone, since the runner for phones and edge boxes holds this file too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autodistil.errors import IntegrityError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Compute = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]
"""`input_ids`, `attention_mask` (batch, seq) -> last hidden states (batch, seq, hidden), or logits (batch, outputs) or
(batch, seq, outputs)."""

TOLERANCE = 1e-4
"""Largest allowed difference in float32, as a share of the largest value (at least 1)."""


@dataclass(frozen=True)
class Case:
    """Inputs and PyTorch's answer."""

    input_ids: NDArray[np.int64]
    """(batch, seq)"""
    attention_mask: NDArray[np.int64]
    """(batch, seq), 0 at padding"""
    expected: NDArray[np.float32]
    """(batch, seq, hidden), or of a model with a head (batch, outputs), of tokens (batch, seq, outputs)"""
    logits: bool = False
    """It is of a model with a head."""

    def real(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """What of an answer counts, (..., hidden): that for tokens which are no padding, or that for rows."""
        counted: NDArray[np.float32] = states[self.attention_mask > 0] if self.expected.ndim > 2 else states
        return counted

    def cosines(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines of an answer with the expected one, (...), where it counts: of classes those of probabilities."""
        ours, theirs = self.real(states), self.real(self.expected)
        return cosines(shares(ours), shares(theirs)) if self.logits else cosines(ours, theirs)


@dataclass(frozen=True)
class Parity:
    """How close a runtime comes, over the real tokens of all cases."""

    max_difference: float
    """Largest absolute difference, as a share of the largest value (at least 1)."""
    mean_cosine: float
    """Of hidden states, or of the probabilities of classes."""


def agreement(run: Compute, cases: Sequence[Case]) -> Parity:
    """Compare a runtime with PyTorch; padding may hold anything."""
    differences, close = [], []
    for case in cases:
        answer = run(case.input_ids, case.attention_mask)
        ours, theirs = case.real(answer), case.real(case.expected)
        differences.append(np.abs(ours - theirs).max() / max(1.0, float(np.abs(theirs).max())))
        close.append(case.cosines(answer))
    return Parity(float(np.max(differences)), float(np.concatenate(close).mean()))


def cosines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., hidden) twice -> their cosines (...)."""
    norms = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    found: NDArray[np.float32] = (ours * theirs).sum(-1) / np.maximum(norms, 1e-12)
    return found


def shares(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of classes by their logits, (rows, classes); a single score as it is."""
    if logits.shape[-1] == 1:
        return logits
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    found: NDArray[np.float32] = raised / raised.sum(-1, keepdims=True)
    return found


def check_agreement(found: Parity, what: str, min_cosine: float | None = None) -> Parity:
    """Return `found` if it is close enough.

    Args:
        found: how close it is.
        what: names it in the message.
        min_cosine: smallest mean cosine of tokens, where weights are quantised; None: `TOLERANCE` holds.

    Raises:
        IntegrityError: it is not.
    """
    if min_cosine is None and not found.max_difference <= TOLERANCE:  # a NaN fails too
        raise IntegrityError(
            f"{what} differs from PyTorch by {found.max_difference:.1e} (allowed {TOLERANCE:.0e}); please report this"
        )
    if min_cosine is not None and not found.mean_cosine >= min_cosine:
        raise IntegrityError(
            f"{what} has a mean cosine of {found.mean_cosine:.3f} with PyTorch (allowed: {min_cosine} or more); "
            "this student does not bear quantisation, use the runtime onnx"
        )
    return found


def with_embeddings(case: Case, embed: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Case:
    """The inputs of a case, with the embeddings (batch, dim) that `embed` makes of its states and mask."""
    import torch

    states, mask = torch.from_numpy(case.expected), torch.from_numpy(case.attention_mask)
    return replace(case, expected=embed(states, mask).numpy())


_SAVED = ("input_ids", "attention_mask", "expected")


def save_cases(cases: Sequence[Case], path: Path) -> Path:
    """Write cases of a bare encoder to an .npz file; returns `path`."""
    arrays = {f"{name}{i}": getattr(case, name) for i, case in enumerate(cases) for name in _SAVED}
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def load_cases(path: Path) -> list[Case]:
    """Read what `save_cases` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return [Case(*(arrays[f"{name}{i}"] for name in _SAVED)) for i in range(len(arrays.files) // len(_SAVED))]


SHAPES = ((1, 1), (2, 16), (3, 7), (1, 33))
"""(batch, sequence) at which outputs are compared; sequences after the first of a batch end in padding."""

TEXTS = (
    "Where can I return a parcel?",
    "The committee, which had met twice that week, put the decision off until the figures for March were in.",
    "Neural networks with fewer layers answer sooner.",
    "42 % of 1,250 is 525; so is 0.42 * 1250.",
)
"""Real text of several lengths."""


def text_cases(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Case]:
    """Real text, alone and as a padded batch where the tokenizer can pad, with the model's own answers."""
    longest = model.config.max_position_embeddings - 2
    cases = []
    for texts in ([TEXTS[0]], list(TEXTS)) if tokenizer.pad_token else ([text] for text in TEXTS):
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        cases.append(_answered(model, inputs["input_ids"], inputs["attention_mask"]))
    return cases


def parity_cases(model: PreTrainedModel) -> list[Case]:
    """Random ids at several shapes, some with padding, with the model's own answers."""
    import torch

    generator = torch.Generator().manual_seed(0)
    longest = model.config.max_position_embeddings - 2  # RoBERTa keeps the first positions for padding
    words, cases = model.config.vocab_size, []
    for batch, seq_len in SHAPES:
        length = min(seq_len, longest)
        ids = torch.randint(min(10, words - 1), words, (batch, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[1:, (length + 1) // 2 :] = 0
        cases.append(_answered(model, ids.where(mask > 0, model.config.pad_token_id or 0), mask))
    return cases


def answer_of(model: PreTrainedModel) -> str:
    """What of a model's output counts, as Hugging Face calls it: that of an encoder, or of the head on it."""
    return "last_hidden_state" if model.base_model is model else "logits"


def _answered(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> Case:
    import torch

    answer = answer_of(model)
    with torch.no_grad():
        expected = getattr(model(input_ids=ids, attention_mask=mask), answer)
    return Case(ids.numpy(), mask.numpy(), expected.float().numpy(), answer == "logits")
