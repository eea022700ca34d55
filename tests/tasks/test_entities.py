"""Entities and their F1: against values worked out by hand (and by seqeval), and what holds of any tags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.tasks.entities import OUTSIDE, entities, entity_scores, is_tag, tag_classes

TAG = st.sampled_from(["O", "B-a", "I-a", "B-b-c", "I-b-c"])
ROW = st.lists(TAG, max_size=8)
PAIRS = st.lists(st.lists(st.tuples(TAG, TAG), max_size=8), max_size=4)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-a", [("a", 0, 1)]),
        ("O B-a I-a O", [("a", 1, 3)]),
        ("B-a B-a", [("a", 0, 1), ("a", 1, 2)]),
        ("I-a I-a O I-a", [("a", 0, 2), ("a", 3, 4)]),  # an I- without its B- begins one
        ("B-a I-b I-b", [("a", 0, 1), ("b", 1, 3)]),
        ("I-a B-a I-a", [("a", 0, 1), ("a", 1, 3)]),
        ("B-a-b I-a-b I-a", [("a-b", 0, 2), ("a", 2, 3)]),
    ],
)
def test_entities_of_a_row(tags, expected):
    assert entities(tags.split()) == expected


@pytest.mark.parametrize(
    ("tags", "predicted", "f1", "precision", "recall"),
    [
        (["B-a I-a O B-b"], ["B-a I-a O B-b"], 1, 1, 1),
        (["B-a I-a O B-b"], ["B-a O O B-b"], 1 / 2, 1 / 2, 1 / 2),  # half an entity is none
        (["B-a I-a O B-b"], ["B-b I-b O B-b"], 1 / 2, 1 / 2, 1 / 2),  # nor is one of another type
        (["B-a I-a"], ["I-a I-a"], 1, 1, 1),
        (["B-a", "B-a O"], ["B-a", "O B-a"], 1 / 2, 1 / 2, 1 / 2),  # the same words of another row do not count
        (["B-a B-a B-b"], ["B-a O O"], 1 / 2, 1, 1 / 3),
        (["O B-a"], ["O O"], 0, 0, 0),
        (["O O"], ["O B-a"], 0, 0, 0),
        (["O", ""], ["O", ""], 0, 0, 0),
    ],
)
def test_scores_by_hand(tags, predicted, f1, precision, recall):
    found = entity_scores(*([row.split() for row in rows] for rows in (tags, predicted)))
    assert found == pytest.approx({"entity_f1": f1, "precision": precision, "recall": recall})


@given(PAIRS)
def test_what_holds_of_any_tags(rows):
    tags, predicted = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    found, turned = entity_scores(tags, predicted), entity_scores(predicted, tags)
    precision, recall = found["precision"], found["recall"]
    assert (turned["precision"], turned["recall"]) == (recall, precision)
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert found["entity_f1"] == turned["entity_f1"] == pytest.approx(harmonic)
    some = any(map(entities, tags))
    assert set(entity_scores(tags, tags).values()) == {1.0 if some else 0.0}
    # An `O` between rows joins them without a change, as no entity goes on after it.
    joined = ([tag for row in part for tag in (*row, OUTSIDE)] for part in (tags, predicted))
    assert entity_scores(*([part] for part in joined)) == found


@given(ROW)
def test_entities_are_in_order_apart_and_cover_all_words_with_a_tag(tags):
    found = entities(tags)
    words = [word for _, first, end in found for word in range(first, end)]
    assert words == [word for word, tag in enumerate(tags) if tag != OUTSIDE]
    assert all(tags[word][2:] == kind for kind, first, end in found for word in range(first, end))
    written = [OUTSIDE] * len(tags)
    for kind, first, end in found:
        written[first:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - first - 1)
    assert entities(written) == found


def test_tags_and_their_classes():
    assert all(map(is_tag, ("O", "B-a", "I-creative-work")))
    assert not any(map(is_tag, ("", "o", "B", "B-", "S-a", "a", "O-a")))
    assert tag_classes(["I-b", "O", "B-a"]) == ("O", "B-a", "I-a", "B-b", "I-b")
