"""Vocabulary size: tokens that a student knows; it prunes the word embeddings (models/vocabulary.py)."""

from autodistil.space.axes.axis import Axis

VOCAB_SIZE = Axis(
    "vocab_size",
    (1, 10_000_000),
    letter="V",
    words="vocabulary",
    heading="Tokens",
    of_teacher=lambda student, shape: shape.vocab_size,
    or_whole=True,
    shapes_weights=False,
    format=",",
)
"""Students that differ in it alone share all weights."""
