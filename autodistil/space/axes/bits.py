"""Bits of a weight: of the tables of embeddings, and of the linear maps of layers (models/quantised.py)."""

from __future__ import annotations

from autodistil.space.axes.axis import Axis, Sizes

FLOAT_BITS = 32
"""Of a weight that is not quantised."""


def _bits_axis(name: str, letter: str, what: str, choices: tuple[int, ...]) -> Axis:
    def apply(bits: int, sizes: Sizes) -> Sizes:
        return {**sizes, name: None if bits == FLOAT_BITS else bits}

    return Axis(
        name,
        (choices[0], FLOAT_BITS),
        letter=letter,
        words=f"bits of {what}",
        heading=f"Bits of {what}",
        apply=apply,
        of_teacher=lambda student, shape: FLOAT_BITS,
        choices=choices,
        shapes_weights=False,
    )


EMBEDDING_BITS = _bits_axis("embedding_bits", "EB", "embeddings", (2, 4, 8, FLOAT_BITS))
"""In blocks along the width, each with a scale of its own, as ONNX Runtime's GatherBlockQuantized has them."""
LAYER_BITS = _bits_axis("layer_bits", "LB", "layers", (4, 8, FLOAT_BITS))
"""With a scale an output, so that integers are multiplied."""
BITS = (EMBEDDING_BITS.name, LAYER_BITS.name)
"""Both axes."""
