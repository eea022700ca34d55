"""Named entities: runs of words with a type, written as one BIO tag a word, and the F1 of what is found.

`B-TYPE` begins an entity, `I-TYPE` goes on with it, `O` is outside of any (Tjong Kim Sang & Veenstra 1999, arXiv
cs/9907006). As in CoNLL 2003 (Tjong Kim Sang & De Meulder, arXiv cs/0306050) an entity is found where both its ends and
its type are right, and an `I-` that goes on with nothing begins one: the numbers are those of conlleval and seqeval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

OUTSIDE = "O"
ENTITY_METRICS = ("entity_f1", "precision", "recall")
"""Fractions, of the entities of all rows together (micro); the first is the headline."""

Entity = tuple[str, int, int]
"""Type, first word, and the word after the last."""


def is_tag(text: str) -> bool:
    """Whether a text is `O`, `B-TYPE` or `I-TYPE`."""
    return text == OUTSIDE or (text[:2] in ("B-", "I-") and len(text) > 2)


def tag_classes(tags: Iterable[str]) -> tuple[str, ...]:
    """The classes of words by the tags that there are: `O`, then both tags of each type in natural order."""
    kinds = sorted({tag[2:] for tag in tags} - {""})
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI"))


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of one row, in order."""
    found, kind, first = [], "", 0
    for word, tag in enumerate([*tags, OUTSIDE]):
        if kind and tag == f"I-{kind}":
            continue
        if kind:
            found.append((kind, first, word))
        kind, first = tag[2:], word
    return found


def entity_scores(tags: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> dict[str, float]:
    """`ENTITY_METRICS` of predicted tags; each is 0 where it would be 0 / 0.

    Args:
        tags: of each row, the tags of its words.
        predicted: the same, by a model.
    """
    right = there = said = 0
    for theirs, ours in zip(tags, predicted, strict=True):
        known, found = set(entities(theirs)), set(entities(ours))
        right, there, said = right + len(known & found), there + len(known), said + len(found)
    values = (2 * right / max(there + said, 1), right / max(said, 1), right / max(there, 1))
    return dict(zip(ENTITY_METRICS, values, strict=True))
