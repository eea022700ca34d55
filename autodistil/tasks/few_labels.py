"""A share of the labels of a training split, drawn from each class: what a model is worth where few rows have one.

Semi-supervised evaluation, as with 1 % and 10 % of ImageNet (Chen et al. 2020, arXiv 2002.05709, section 6).
"""

from __future__ import annotations

import numpy as np

from autodistil.errors import ConfigError


def read_shares(text: str) -> tuple[float, ...]:
    """Read shares such as `1%,5%,100%`, in rising order.

    Raises:
        ConfigError: one is no percentage above 0 and up to 100, or comes twice.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        shares = {float(part.removesuffix("%")) / 100 for part in parts if part.endswith("%")}
    except ValueError:
        shares = set()
    if len(shares) < len(parts) or not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"labels = {text!r}: allowed: percentages above 0 and up to 100, each once; give 1%,5%,100%")
    return tuple(sorted(shares))


def each_class(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Indices of a random share of the rows of each class, at least one of each, (drawn,) in rising order.

    Args:
        labels: class of each row, (rows,).
        share: above 0 and up to 1; of a class it is rounded to rows.
        seed: decides which.
    """
    random = np.random.default_rng(seed)
    drawn = [random.permutation(rows)[: max(1, round(share * len(rows)))] for rows in _by_class(labels)]
    return np.sort(np.concatenate(drawn))


def _by_class(labels: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(labels == one) for one in np.unique(labels)]
