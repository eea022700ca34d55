"""Embedding size: width of factorised word embeddings, below the hidden size (models/factorised.py)."""

from autodistil.space.axes.axis import Axis

EMBEDDING_SIZE = Axis(
    "embedding_size",
    (1, 32_768),
    letter="E",
    words="embedding size",
    heading="Embedding size",
    of_teacher=lambda student, shape: shape.embedding_size or student.hidden_size,
    below_hidden=True,
)
