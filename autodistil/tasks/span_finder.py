"""A model under a head that finds answers in texts, and its training: where an answer starts and ends are two choices.

Start and end are classes of a window, which are its tokens (`tasks.context_windows`), so objectives for classes teach
them as they are: the labels by the mean of two cross-entropies (Devlin et al. 2019, section 4.2), a teacher by KL of
both (DistilBERT, Sanh et al. 2019, arXiv 1910.01108, section 4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autodistil.errors import ConfigError
from autodistil.formats.pairs import takes_types
from autodistil.models.hf_folder import EvaluatedModel, usable_length
from autodistil.models.quantised import compute_rounded
from autodistil.tasks.adapt.method import Answers
from autodistil.tasks.adapt.method_sum import PLAIN, MethodSum, read_methods
from autodistil.tasks.batching import BATCH_SIZE, sorted_batches
from autodistil.tasks.catalogue import Split, TaskData
from autodistil.tasks.context_windows import SHORTEST, ContextWindows
from autodistil.tasks.descent import Descent
from autodistil.utils import resolve_device

if TYPE_CHECKING:
    from autodistil.tasks.finetune import EvaluationSettings

_FAR = -1e9
"""Logit of a token that is no candidate: its probability is 0, and what is computed of it stays finite."""
_TOKENS = 32_768
"""Tokens of windows that are read together at most, where nothing is trained."""


@dataclass(frozen=True)
class SpanFinder:
    """A model, and how it reads questions."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    length: int
    """Tokens of a window."""
    device: torch.device
    batch_size: int
    """Windows a step."""

    @classmethod
    def of(cls, model: EvaluatedModel, settings: EvaluationSettings, new_head: bool = True) -> SpanFinder:
        """A model under a new head, drawn from torch's global generator, or under its own.

        Raises:
            ConfigError: a file is to compute in the place of the weights, or windows are too short.
            TeacherError: the model cannot be loaded, or its family has no such head.
        """
        if model.file is not None:
            raise ConfigError(f"file {model.file!r}: answers in texts are found by weights alone; leave --file out")
        if settings.max_length < SHORTEST:
            raise ConfigError(
                f"max_length = {settings.max_length}: windows of texts have {SHORTEST} tokens at least, usual are 384; "
                "give more"
            )
        device, tokenizer = resolve_device(settings.device), model.tokenizer()
        network = model.span_finder(device) if new_head else model.fine_tuned(device)
        if new_head:
            compute_rounded(network)
        length = usable_length(network, tokenizer, settings.max_length)
        return cls(network, tokenizer, length, device, settings.batch_size)

    def save(self, folder: Path) -> None:
        """Write network and tokenizer, as Hugging Face folders have them."""
        self.network.eval().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def windows(self, questions: Sequence[str], contexts: Sequence[str] | None) -> ContextWindows:
        """Questions as the model reads them."""
        assert contexts is not None
        found = ContextWindows.of(self.tokenizer, questions, contexts, self.length)
        return found if takes_types(self.network) else replace(found, rows=replace(found.rows, types=None))

    def logits(self, windows: ContextWindows, batch: np.ndarray) -> Tensor:
        """Of starts and of ends, (indices, 2, longest); far below all others where a token is no candidate."""
        outputs = self.network(**windows.rows.batch(batch, self.device))
        both = torch.stack([outputs.start_logits, outputs.end_logits], dim=1).float()
        return both.masked_fill(~windows.candidates(batch).to(self.device)[:, None], _FAR)

    def read(self, windows: ContextWindows) -> list[np.ndarray]:
        """The same of each window without padding, (2, tokens)."""
        self.network.eval()
        lengths = windows.rows.lengths
        found = [np.zeros((2, 0), dtype=np.float32)] * len(windows)
        for batch in sorted_batches(lengths, min(BATCH_SIZE, max(1, _TOKENS // int(lengths.max())))):
            with torch.no_grad():
                logits = self.logits(windows, batch).cpu().numpy()
            for window, of_window in zip(batch, logits, strict=True):
                found[window] = of_window[:, : lengths[window]]
        return found

    def found(self, split: Split, windows: ContextWindows | None = None) -> np.ndarray:
        """The answers that it finds to questions, texts (rows,), empty where it finds none."""
        assert split.text_b is not None
        windows = windows or self.windows(split.text_a, split.text_b)
        return np.array(windows.best(self.read(windows), split.text_b, split.unanswerable), dtype=object)


@dataclass(frozen=True)
class SpansTaught:
    """What a fine-tuned teacher says of the windows of the training questions and the unlabelled ones."""

    windows: ContextWindows
    logits: list[np.ndarray]
    """Of each window, of starts and of ends, (2, tokens)."""

    @property
    def said(self) -> Sequence[np.ndarray]:
        """All of it."""
        return self.logits


class SpanTuning(Descent):
    """A training on windows."""

    def __init__(
        self,
        finder: SpanFinder,
        windows: ContextWindows,
        split: Split,
        objective: MethodSum,
        epochs: int,
        rate: float,
        seed: int,
        teacher: Sequence[np.ndarray] | None = None,
    ) -> None:
        """Make ready.

        Args:
            finder: trained in place.
            windows: of the questions of `split`, then of those that nobody answered.
            split: the answers; of several to a question the first is taught.
            objective: whose loss falls.
            epochs: how many, over which the learning rate warms up and falls to 0.
            rate: peak learning rate.
            seed: decides the order of windows.
            teacher: a fine-tuned model's logits of each window, (2, tokens).
        """
        assert split.answers is not None
        super().__init__(finder.network, windows.rows.lengths, self._loss, finder.batch_size, epochs, rate, seed)
        self.finder, self.windows, self.objective, self.teacher = finder, windows, objective, teacher
        more = int(windows.questions.max()) + 1 - len(split)
        answers = [right[0] if right else None for right in split.answers] + [None] * more
        self._places = torch.from_numpy(windows.places(answers))
        self._known = torch.from_numpy(windows.questions < len(split))

    def _loss(self, batch: np.ndarray, progress: float) -> Tensor:
        """Mean over windows, and over start and end, each of which is a row to the objective."""
        device, logits, teacher = self.finder.device, self.finder.logits(self.windows, batch), None
        if self.teacher is not None:
            of_windows = [torch.from_numpy(self.teacher[window].T) for window in batch]
            padded = pad_sequence(of_windows, batch_first=True, padding_value=_FAR)
            teacher = padded.transpose(1, 2).flatten(0, 1).to(device)
        answers = Answers(
            logits=logits.flatten(0, 1),
            labels=self._places[batch].flatten().to(device),
            known=self._known[batch].repeat_interleave(2).to(device),
            progress=progress,
            teacher=teacher,
        )
        return self.objective.loss(answers, [None] * len(self.objective.terms)).mean()


def span_training(
    model: EvaluatedModel,
    data: TaskData,
    train: Split,
    settings: EvaluationSettings,
    epochs: int,
    rate: float,
    seed: int,
) -> tuple[SpanTuning, Callable[[], np.ndarray]]:
    """A training of a model under a new head, and what it answers to the questions of the evaluated split by now."""
    evaluated = data.evaluated
    finder = SpanFinder.of(model, settings)
    windows, tested = (finder.windows(part.text_a, part.text_b) for part in (train, evaluated))
    objective = read_methods(PLAIN, False, 2, pairs=True, spans=True)
    tuning = SpanTuning(finder, windows, train, objective, epochs, rate, seed)
    return tuning, lambda: finder.found(evaluated, tested)
