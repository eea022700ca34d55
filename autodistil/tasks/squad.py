"""Extractive question answering: questions whose answers stand in a text, in the format and by the metrics of SQuAD.

Rajpurkar et al. 2016 (arXiv 1606.05250), and 2018 (arXiv 1806.03822) for questions without an answer. Metrics are those
of the official `evaluate-v2.0.py`, which of questions with answers gives what `evaluate-v1.1.py` does: exact match and
F1 of words, both without case, punctuation and articles, of several answers by the best one. Where a text has no answer
the empty one is right. One departure from v1.1: an answer that is nothing but articles or punctuation counts as none.
"""

from __future__ import annotations

import json
import logging
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autodistil.data.sources import dataset_errors
from autodistil.errors import CorpusError, TaskError, one_line_named
from autodistil.utils import optional_import

logger = logging.getLogger(__name__)

SPAN_METRICS = ("token_f1", "exact_match")
"""Fractions, means over questions; the first is the headline."""

_NO_ID = (None, "")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Answer(NamedTuple):
    """A span of a text."""

    start: int
    """Its first character."""
    text: str


Row = tuple[str, str, tuple[Answer, ...]]
"""A question, the text that it is asked of, and its right answers."""


@dataclass(frozen=True)
class Questions:
    """Questions of one split, in order."""

    questions: tuple[str, ...]
    contexts: tuple[str, ...]
    """Text that each question is asked of."""
    answers: tuple[tuple[Answer, ...], ...]
    """Right answers to each; none where its text has none."""


# ---- files


def squad_file(folder: Path, split: str) -> Path | None:
    """The file of a split, `train.json` or as the official ones are called `train-v1.1.json`; None where there is none.

    Raises:
        TaskError: there are several.
    """
    found = sorted(path for path in (folder / f"{split}.json", *folder.glob(f"{split}-v*.json")) if path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise TaskError(f"task folder {str(folder)!r} has several files of {split} ({names}); leave one of them there")
    return found[0] if found else None


def read_squad(path: Path) -> Questions:
    """Read a file of SQuAD, version 1.1 or 2.0.

    Ids only name questions in messages, and may be missing. An answer that does not stand at its `answer_start` is
    taken where it stands nearest; a warning counts such.

    Raises:
        TaskError: it cannot be read, is none, holds no question, one is empty, asked of an empty text or has the id of
            another one, or an answer does not stand in its text.
    """
    where, place = f"task file {str(path)!r}", ""
    rows = _Rows(where)
    try:
        for article_number, article in enumerate(json.loads(path.read_text(encoding="utf-8-sig"))["data"], 1):
            place = f"article {article_number}"
            for paragraph_number, paragraph in enumerate(article["paragraphs"], 1):
                of = place = f"paragraph {paragraph_number} of article {article_number}"
                context = paragraph["context"]
                for number, qa in enumerate(paragraph["qas"], 1):
                    place = f"question {number} of {of}"
                    place = f"question {number}{_id(qa)} of {of}"
                    known = [] if qa.get("is_impossible") else qa["answers"]
                    spans = [(one["text"], int(one["answer_start"])) for one in known]
                    rows.add(qa, context, spans, place)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"no {error}" if isinstance(error, KeyError) else one_line_named(error, 80)
        raise TaskError(
            f"{where} is no SQuAD JSON ({place and place + ': '}{problem}); allowed: data, paragraphs, context, qas, "
            "question, answers, text, answer_start; write it so, or give tab-separated files"
        ) from error
    return rows.questions()


def hub_questions(name: str, splits: Mapping[str, str]) -> dict[str, Questions]:
    """The splits of a set on the Hub with the columns of `squad`: question, context, answers.

    Args:
        name: of the set.
        splits: ours -> theirs.

    Raises:
        TaskError: `datasets` is not installed, the set cannot be had, or as of `read_squad`.
    """
    where, found = f"Hugging Face data set {name!r}", {}
    try:
        datasets = optional_import("datasets", where)
        with dataset_errors(where):
            for split, theirs in splits.items():
                rows = _Rows(f"{theirs} of {where}")
                for number, row in enumerate(datasets.load_dataset(name, split=theirs), 1):
                    spans = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
                    rows.add(row, row["context"], spans, f"row {number}{_id(row)}")
                found[split] = rows.questions()
    except CorpusError as error:
        raise TaskError(f"{error}; or give --data a folder that holds the task") from error
    return found


class _Rows:
    """Questions of one file or split while it is read."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._rows: list[Row] = []
        self._places: dict[str, str] = {}  # of ids
        self._answers, self._moved = 0, list[str]()

    def add(self, row: Mapping[str, Any], context: Any, spans: Iterable[tuple[Any, int]], place: str) -> None:
        """Take a question with its answers, each a text and where it starts.

        Raises:
            TaskError: it cannot be used.
        """
        at = f"{place} in {self._where}"
        for what, value in (("question", row["question"]), ("context", context)):
            _check_text(value, f"the {what} of {at}", "write it, or leave the question out")
        known, answers = row.get("id"), list[Answer]()
        if known not in _NO_ID and (first := self._places.setdefault(str(known), place)) is not place:
            raise TaskError(
                f"{first} has the id of {at}; allowed: each once; leave one of both out, or give it an id of its own"
            )
        for text, start in spans:
            _check_text(text, f"an answer to {at}", "write what stands in its context; where nothing does, no answer")
            start += len(text) - len(text.lstrip())
            answers.append(_located(context, text.strip(), start, at))
            self._moved += [] if answers[-1].start == start else [place]
        self._answers += len(answers)
        self._rows.append((row["question"], context, tuple(answers)))

    def questions(self) -> Questions:
        """All that were taken.

        Raises:
            TaskError: there are none.
        """
        if not self._rows:
            raise TaskError(f"{self._where} holds no question; add some, or remove the file")
        if self._moved:
            logger.warning(
                "%s: %s of %s answers do not start at their answer_start, the first to %s; each was taken where it "
                "stands nearest in its context",
                self._where,
                f"{len(self._moved):,}",
                f"{self._answers:,}",
                self._moved[0],
            )
        return Questions(*zip(*self._rows, strict=True))


def _id(row: Mapping[str, Any]) -> str:
    known = row.get("id")
    return "" if known in _NO_ID else f" (id {' '.join(str(known).split())[:40]})"


def _check_text(value: Any, what: str, advice: str) -> None:
    if not isinstance(value, str) or not value.strip():
        got = "empty" if isinstance(value, str) else f"{str(value)[:20]!r} and no text"
        raise TaskError(f"{what} is {got}; allowed: some text; {advice}")


def _located(context: str, text: str, start: int, at: str) -> Answer:
    """An answer where it stands; of several places the one nearest to `start`."""
    if start >= 0 and context.startswith(text, start):
        return Answer(start, text)
    places = [match.start() for match in re.finditer(re.escape(text), context)]
    if not places:
        raise TaskError(f"the answer {text[:40]!r} to {at} does not stand in its context; correct it")
    return Answer(min(places, key=lambda found: abs(found - start)), text)


# ---- metrics


def normalised(text: str) -> str:
    """A text in lower case, without ASCII punctuation and the articles a, an, the, single blanks between words."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(right: str, answer: str) -> float:
    """1 where both are the same once they are normalised, else 0."""
    return float(normalised(right) == normalised(answer))


def token_f1(right: str, answer: str) -> float:
    """Harmonic mean of the shares of common words in both; where one has none, 1 if neither has any."""
    theirs, ours = normalised(right).split(), normalised(answer).split()
    if not theirs or not ours:
        return float(theirs == ours)
    return 2 * sum((Counter(theirs) & Counter(ours)).values()) / (len(theirs) + len(ours))


def question_scores(answers: Sequence[Sequence[Answer]], found: Sequence[str]) -> dict[str, list[float]]:
    """`SPAN_METRICS` of each question.

    Args:
        answers: the right ones to each question; none where it has none.
        found: what is answered, empty where nothing is.
    """
    scores: dict[str, list[float]] = {name: [] for name in SPAN_METRICS}
    for right, answer in zip(answers, found, strict=True):
        texts = [one.text for one in right if normalised(one.text)] or [""]
        for name, metric in zip(SPAN_METRICS, (token_f1, exact_match), strict=True):
            scores[name].append(max(metric(text, answer) for text in texts))
    return scores


def span_scores(answers: Sequence[Sequence[Answer]], found: Sequence[str]) -> dict[str, float]:
    """`SPAN_METRICS`, means over questions; arguments as of `question_scores`."""
    return {name: float(np.mean(values)) for name, values in question_scores(answers, found).items()}


def scores_by_kind(answers: Sequence[Sequence[Answer]], found: Sequence[str]) -> dict[str, dict[str, float]]:
    """The same of the questions with an answer, and of those without, where there are any of a kind."""
    kinds = {"answerable": [bool(right) for right in answers], "unanswerable": [not right for right in answers]}
    values = question_scores(answers, found)
    return {
        kind: {"questions": sum(mask), **{name: float(np.mean(np.array(of)[mask])) for name, of in values.items()}}
        for kind, mask in kinds.items()
        if any(mask)
    }
