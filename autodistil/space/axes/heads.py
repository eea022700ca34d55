"""Attention heads: how many, how wide, or both.

A plain Hugging Face encoder has heads x head size = hidden size, so where a space says one of the two, the other is
hidden size / it, rounded down; what then breaks the rule is left out, unless a sub-space says `free_attention`.
"""

from autodistil.space.axes.axis import Axis, Sizes


def _heads(heads: int, sizes: Sizes) -> Sizes:
    return {**sizes, "num_heads": heads, "head_size": sizes["hidden_size"] // max(1, heads)}


def _head_size(size: int, sizes: Sizes) -> Sizes:
    """Heads that are given stay as they are."""
    return {**sizes, "num_heads": sizes.get("num_heads", sizes["hidden_size"] // size), "head_size": size}


NUM_HEADS = Axis(
    "num_heads", (1, 1_024), letter="A", words="attention heads", heading="Heads", apply=_heads, by_layer=True
)
HEAD_SIZE = Axis("head_size", (1, 1_024), letter="x", words="head size", heading="Head size", apply=_head_size)
"""Shown in ids, as in `A6x64`, only where attention is wider or narrower than the hidden size."""
