"""Which patches of an image a training step reads: a part, as in masked autoencoders, for teacher and student.

random     of each image so many patches (DMAE, Bai et al. 2023, arXiv 2208.12256: a quarter of them)
disjoint   of each image several views that have no patch in common and together all of them (DMJD, Ma et al. 2023,
           arXiv 2212.15431); a step has as many views as otherwise images, so it sees fewer of these

What is left out is not replaced by a mask token: neither model reads it, so a step costs about that share. Departures:
no decoder and no reconstruction beside; whatever the objective compares, it compares at the patches that both read.
"""

from __future__ import annotations

import numpy as np


def num_visible(patches: int, share: float) -> int:
    """Patches of a view."""
    return max(1, int(share * patches + 1e-9))


def num_views(share: float) -> int:
    """Views of an image that have no patch in common."""
    return int(1 / share + 1e-9)


def visible_tokens(
    generator: np.random.Generator, images: int, patches: int, special: int, share: float, views: int = 1
) -> np.ndarray:
    """Tokens that are read, ascending, of each view of each image, (images * views, tokens); an image's views together.

    Args:
        generator: decides the draw.
        images: of them.
        patches: of an image.
        special: tokens before the patches, which every view has.
        share: of the patches that a view has, one of them at least.
        views: of an image, at most `num_views(share)`.
    """
    kept = num_visible(patches, share)
    order = generator.permuted(np.tile(np.arange(patches), (images, 1)), axis=1)[:, : kept * views]
    chosen = np.sort(order.reshape(images * views, kept), axis=1) + special
    return np.concatenate([np.tile(np.arange(special), (len(chosen), 1)), chosen], axis=1)
