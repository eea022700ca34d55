"""Questions with windows of their texts as tokens, and which span of characters two rows of logits mean.

As BERT reads SQuAD (Devlin et al. 2019, section 4.2) and Hugging Face's examples do: a window is the question and as
much of the text as there is room for, neighbours share `OVERLAP` tokens, and a window that does not hold the whole
answer is taught to point at its first token ([CLS]), which stands for no answer. The answer is the span of the highest
sum of start and end logit over all windows; none where [CLS] has a higher one, the lowest of all windows, and the task
has such questions (section 4.3, threshold 0). Departures: the best span is looked for among all and not the 20 best
starts and ends, and tokens of the question are no candidates in training either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from autodistil.errors import TeacherError
from autodistil.tasks.batching import TokenizedRows
from autodistil.tasks.squad import Answer

OVERLAP = 128
"""Tokens of the text that a window shares with the one before it, half of a window's at most."""
LONGEST_QUESTION = 64
"""Tokens after which a question is cut, half of a window at most."""
SHORTEST = 32
"""Tokens of a window at least: half of it is the question, and the text has to hold an answer."""
LONGEST_ANSWER = 30
"""Tokens of an answer at most."""


@dataclass(frozen=True)
class ContextWindows:
    """Windows of some questions, in their order."""

    rows: TokenizedRows
    """Each window's tokens."""
    questions: np.ndarray
    """Which question each belongs to, (windows,)."""
    first: np.ndarray
    """Where the text begins among its tokens, (windows,)."""
    offsets: Sequence[np.ndarray]
    """Of each token of the text its first character and the one after its last, (tokens of the text, 2)."""
    none: np.ndarray
    """Which token stands for no answer, (windows,)."""

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], contexts: Sequence[str], length: int
    ) -> ContextWindows:
        """Tokenise; no window has more than `length` tokens.

        Raises:
            TeacherError: the tokenizer does not say where its tokens stand.
        """
        if not tokenizer.is_fast:
            raise TeacherError(
                f"tokenizer {type(tokenizer).__name__} does not tell which characters a token is, which tasks of spans "
                "need; give a model with a tokenizer.json"
            )
        room = length - tokenizer.num_special_tokens_to_add(pair=True)
        longest = min(LONGEST_QUESTION, room // 2)
        encoded = tokenizer(
            _cut(tokenizer, questions, longest),
            list(contexts),
            truncation="only_second",
            max_length=length,
            stride=min(OVERLAP, (room - longest) // 2),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=False,
        )
        ids = [np.array(window, dtype=np.int32) for window in encoded["input_ids"]]
        types = encoded.get("token_type_ids")
        first, offsets = [], []
        for number, of_all in enumerate(encoded["offset_mapping"]):
            sequences = encoded.sequence_ids(number)
            begin = sequences.index(1) if 1 in sequences else len(sequences)
            first.append(begin)
            offsets.append(np.array(of_all[begin : begin + sequences.count(1)], dtype=np.int32).reshape(-1, 2))
        rows = TokenizedRows(ids, types, tokenizer.pad_token_id or 0)
        none = np.array([_no_answer(tokenizer, window) for window in ids])
        return cls(rows, np.array(encoded["overflow_to_sample_mapping"]), np.array(first), offsets, none)

    def __len__(self) -> int:
        return len(self.questions)

    def alike(self, other: ContextWindows) -> bool:
        """Whether tokens of both stand for the same characters, so that logits of one are logits of the other."""
        places = ((self.questions, other.questions), (self.first, other.first), (self.none, other.none))
        pairs = zip(self.offsets, other.offsets, strict=False)
        return all(np.array_equal(*pair) for pair in places) and all(np.array_equal(*pair) for pair in pairs)

    def candidates(self, batch: np.ndarray) -> Tensor:
        """Which tokens a span may begin or end at, or stand for none, (indices, longest) of bool."""
        mask = torch.zeros(len(batch), int(self.rows.lengths[batch].max()), dtype=torch.bool)
        for row, window in enumerate(batch):
            mask[row, self.first[window] : self.first[window] + len(self.offsets[window])] = True
            mask[row, self.none[window]] = True
        return mask

    def places(self, answers: Sequence[Answer | None]) -> np.ndarray:
        """First and last token of the answer in each window, (windows, 2); twice `none` where it does not hold it.

        Args:
            answers: one to each question, None where there is none.
        """
        found = np.stack([self.none, self.none], axis=1)
        for window, question in enumerate(self.questions):
            answer, offsets = answers[question], self.offsets[window]
            if answer is None or not len(offsets):
                continue
            end = answer.start + len(answer.text)
            if offsets[0, 0] <= answer.start and end <= offsets[-1, 1]:
                begin = np.searchsorted(offsets[:, 1], answer.start, side="right")
                last = np.searchsorted(offsets[:, 0], end, side="left") - 1
                if begin <= last:
                    found[window] = self.first[window] + np.array([begin, last])
        return found

    def best(self, logits: Sequence[np.ndarray], contexts: Sequence[str], unanswerable: bool) -> list[str]:
        """The answer to each question.

        Args:
            logits: of each window, of starts and of ends, (2, tokens).
            contexts: text of each question.
            unanswerable: whether no answer, which is the empty one, may be the best.
        """
        found, scores, none = [""] * len(contexts), np.full(len(contexts), -np.inf), np.full(len(contexts), np.inf)
        for window, question in enumerate(self.questions):
            begin, offsets, of_window = self.first[window], self.offsets[window], logits[window]
            none[question] = min(none[question], of_window[:, self.none[window]].sum())
            score, first, last = best_span(*of_window[:, begin : begin + len(offsets)])
            if score > scores[question]:
                scores[question] = score
                found[question] = contexts[question][offsets[first, 0] : offsets[last, 1]].strip()
        if unanswerable:
            return [answer if score >= other else "" for answer, score, other in zip(found, scores, none, strict=True)]
        return found


def best_span(starts: np.ndarray, ends: np.ndarray) -> tuple[float, int, int]:
    """The highest sum of a start and an end that is not before it, of `LONGEST_ANSWER` tokens at most.

    Args:
        starts: logits, (tokens,).
        ends: logits, (tokens,).

    Returns:
        The sum, first and last token; -inf where there are no tokens.
    """
    best = (-np.inf, 0, 0)
    for more in range(min(LONGEST_ANSWER, len(starts))):
        sums = starts[: len(starts) - more] + ends[more:]
        first = int(sums.argmax())
        if sums[first] > best[0]:
            best = (float(sums[first]), first, first + more)
    return best


def _cut(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], longest: int) -> list[str]:
    """Questions, of which those that have more than `longest` tokens end there."""
    encoded = tokenizer(list(questions), add_special_tokens=False, return_offsets_mapping=True)
    return [
        question if len(offsets) <= longest else question[: offsets[longest - 1][1]]
        for question, offsets in zip(questions, encoded["offset_mapping"], strict=True)
    ]


def _no_answer(tokenizer: PreTrainedTokenizerBase, window: np.ndarray) -> int:
    """Where the token stands that no answer is read from: [CLS], else the one that begins a text, else the first."""
    for token in (tokenizer.cls_token_id, tokenizer.bos_token_id):
        if token is not None and (places := np.flatnonzero(window == token)).size:
            return int(places[0])
    return 0
