"""Images on disk as a model's processor has resized them: decoded once, each image once, split by content.

Pixels lie in one file of uint8 that is memory-mapped where it is used, as token ids do. Held out are the images with
the smallest hashes of their pixels, so that neither their order nor repeated files matter.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from autodistil.data.cache import default_cache_dir, new_entry, read_entry, seal
from autodistil.data.images import ImageSource, resolve_images
from autodistil.errors import CorpusError

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of the cache; another number makes old entries unused."""
HELDOUT_SHARE, LARGEST_HELDOUT_SHARE = 0.02, 0.25
"""Share of the images that is held out; no more of few images to reach what a run asks for."""
BATCH = 64
"""Images that go through the processor together."""

PIXELS, TRAIN, HELDOUT = "pixels.bin", "train.npy", "heldout.npy"


class Reader(Protocol):
    """What a teacher makes of images (`image_processor.ImageReader`)."""

    @property
    def channels(self) -> int:
        """1 or 3."""

    @property
    def fingerprint(self) -> str:
        """What decides on the pixels."""

    def pixels(self, images: Sequence[Any]) -> np.ndarray:
        """Pillow images -> pixels (images, channels, height, width) of uint8."""


@dataclass(frozen=True)
class Images:
    """Some of the images of a file; pickles as a path, and is mapped where it is used."""

    path: Path
    shape: tuple[int, int, int, int]
    """Of the file: images, channels, height, width."""
    rows: np.ndarray
    """Which of them, (images,)."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def _pixels(self) -> np.ndarray:
        return np.memmap(self.path, dtype=np.uint8, mode="r", shape=self.shape)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Pixels (indices, channels, height, width) of uint8."""
        return np.asarray(self._pixels[self.rows[indices]])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_pixels"}


@dataclass(frozen=True)
class ImageCorpus:
    """Training and held-out images of one corpus for one processor."""

    train: Images
    heldout: Images
    description: str
    """Such as `photos/: 4,812 images`."""
    content_hash: str
    """Of the pixels: equal wherever the same images are read."""


def read_images(
    sources: Sequence[str],
    reader: Reader,
    *,
    min_heldout: int,
    cache_dir: Path | None = None,
    progress: Callable[[int], None] = lambda images: None,
) -> ImageCorpus:
    """Decode and resize a corpus, or open it where that was done before.

    Args:
        sources: image files, folders, globs, folders of `save_to_disk` or `hf:` data sets.
        reader: the teacher's.
        min_heldout: images to hold out of a small corpus, up to a quarter of it.
        cache_dir: root of the cache; `$AUTODISTIL_CACHE` or `~/.cache/autodistil` unless given.
        progress: called with the images so far.

    Raises:
        CorpusError: a source cannot be read, holds a damaged image or fewer than four, or the cache cannot be written.
    """
    resolved = resolve_images(sources)
    identities = [source.identity for source in resolved]
    key = _digest(json.dumps([FORMAT, reader.fingerprint, identities, min_heldout]).encode())
    folder = (cache_dir or default_cache_dir()) / "images" / key
    meta = read_entry(folder)
    if meta is None:
        with new_entry(folder) as building:
            seal(building, _build(building, resolved, reader, min_heldout, progress))
        meta = read_entry(folder)
        assert meta is not None
    shape = tuple(meta["shape"])
    train, heldout = (Images(folder / PIXELS, shape, np.load(folder / name)) for name in (TRAIN, HELDOUT))
    names = ", ".join(source.name for source in resolved[:3]) + (", …" if len(resolved) > 3 else "")
    content = _digest(json.dumps([meta["shape"], meta["files"]], sort_keys=True).encode())
    return ImageCorpus(train, heldout, f"{names}: {shape[0]:,} images", content)


def _build(
    folder: Path, sources: Sequence[ImageSource], reader: Reader, min_heldout: int, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Write pixels and split into a folder; returns what to remember of them."""
    digests: dict[bytes, None] = {}
    read = 0
    with open(folder / PIXELS, "wb") as file:
        for batch in _batches(image for source in sources for image in source.images(reader.channels)):
            pixels = reader.pixels(batch)
            for image in pixels:
                digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
                if digest not in digests:
                    digests[digest] = None
                    file.write(image.tobytes())
            read += len(batch)
            progress(read)
    if len(digests) < 4:
        names = ", ".join(source.name for source in sources)
        raise CorpusError(f"corpus {names!r} has {len(digests)} different images; needed: 4 or more; add some")
    logger.info("%d images, %d repeated ones left out", read, read - len(digests))
    train, heldout = _split(list(digests), min_heldout)
    np.save(folder / TRAIN, train)
    np.save(folder / HELDOUT, heldout)
    return {"shape": [len(digests), *pixels.shape[1:]]}


def _batches(images: Iterable[Any]) -> Iterator[list[Any]]:
    images = iter(images)
    return iter(lambda: list(islice(images, BATCH)), [])


def _split(digests: Sequence[bytes], min_heldout: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out, each in the corpus's order."""
    count = len(digests)
    wanted = min(max(int(HELDOUT_SHARE * count), min_heldout), int(LARGEST_HELDOUT_SHARE * count))
    by_hash = sorted(range(count), key=digests.__getitem__)
    return np.sort(by_hash[wanted:]), np.sort(by_hash[:wanted])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
