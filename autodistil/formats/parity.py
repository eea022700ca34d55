"""Whether a runtime computes what PyTorch computes: cases with PyTorch's answers, and how far another is from them.

Needs NumPy alone, since the runner for phones and edge boxes holds this file too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autodistil.errors import IntegrityError
from autodistil.formats.inputs import Inputs, Tokens, inputs_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Compute = Callable[[Inputs], NDArray[np.float32]]
"""Inputs -> last hidden states (batch, seq, hidden), or logits (batch, outputs) or (batch, seq, outputs)."""

TOLERANCE = 1e-4
"""Largest allowed difference in float32, as a share of the largest value (at least 1)."""


@dataclass(frozen=True)
class Case:
    """Inputs and PyTorch's answer."""

    inputs: Inputs
    expected: NDArray[np.float32]
    """(batch, seq, hidden), or of a model with a head (batch, outputs), of tokens (batch, seq, outputs)"""
    logits: bool = False
    """It is of a model with a head."""

    @property
    def mask(self) -> NDArray[np.int64] | None:
        """(batch, seq), 0 at padding; None where there is none."""
        return self.inputs.get("attention_mask")

    def real(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """What of an answer counts, (..., hidden): that for tokens which are no padding, or that for rows."""
        if self.mask is None or self.expected.ndim < 3:
            return states
        counted: NDArray[np.float32] = states[self.mask > 0]
        return counted

    def vectors(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """What stands for each sample, (batch, hidden): of a text the mean of its tokens, of an image its first one."""
        if self.mask is None:
            return states[:, 0]
        weights = self.mask[..., None].astype(np.float32)
        means: NDArray[np.float32] = (states * weights).sum(1) / weights.sum(1)
        return means

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
        answer = run(case.inputs)
        ours, theirs = case.real(answer), case.real(case.expected)
        differences.append(np.abs(ours - theirs).max() / max(1.0, float(np.abs(theirs).max())))
        close.append(case.cosines(answer).ravel())
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

    states, mask = torch.from_numpy(case.expected), torch.from_numpy(case.inputs["attention_mask"])
    return replace(case, expected=embed(states, mask).numpy())


_ANSWER = "expected"


def save_cases(cases: Sequence[Case], path: Path) -> Path:
    """Write cases of a bare encoder to an .npz file; returns `path`."""
    arrays: dict[str, Any] = {
        f"{i} {name}": array
        for i, case in enumerate(cases)
        for name, array in {**case.inputs, _ANSWER: case.expected}.items()
    }
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def load_cases(path: Path) -> list[Case]:
    """Read what `save_cases` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        found: dict[str, dict[str, NDArray[Any]]] = {}
        for key in arrays.files:
            number, name = key.split(" ")
            found.setdefault(number, {})[name] = arrays[key]
    return [Case(case, case.pop(_ANSWER)) for case in found.values()]


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
        read = tokenizer(texts, padding=len(texts) > 1, truncation=True, max_length=longest, return_tensors="np")
        cases.append(answered(model, {name: read[name].astype(np.int64) for name in ("input_ids", "attention_mask")}))
    return cases


def image_cases(model: PreTrainedModel, images: NDArray[np.float32]) -> list[Case]:
    """Real images (images, channels, height, width), one alone and the others as a batch, with the model's answers."""
    return [answered(model, {"pixel_values": some}) for some in (images[:1], images[1:]) if len(some)]


def parity_cases(model: PreTrainedModel) -> list[Case]:
    """Random inputs of several shapes, some with padding, with the model's own answers."""
    return [answered(model, inputs) for inputs in inputs_of(model).several()]


_WRITTEN = 16
"""Tokens of `written_case`, or as many as the model takes."""


def written_case(model: PreTrainedModel) -> Case:
    """A text that a decoder goes on with greedily, from one random token, with its own answers."""
    import torch

    kind = inputs_of(model)
    assert isinstance(kind, Tokens)
    ids = torch.from_numpy(kind.random(1, 1)["input_ids"])
    with torch.no_grad():
        for _ in range(min(_WRITTEN, kind.longest) - 1):
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
    return answered(model, {"input_ids": ids.numpy(), "attention_mask": np.ones(ids.shape, np.int64)})


def answer_of(model: PreTrainedModel) -> str:
    """What of a model's output counts, as Hugging Face calls it: that of an encoder, or of the head on it."""
    return "last_hidden_state" if model.base_model is model else "logits"


def answered(model: PreTrainedModel, inputs: Inputs) -> Case:
    """Inputs with the model's own answer."""
    import torch

    answer = answer_of(model)
    with torch.no_grad():
        expected = getattr(model(**{name: torch.from_numpy(array) for name, array in inputs.items()}), answer)
    return Case(inputs, expected.float().numpy(), answer == "logits")
