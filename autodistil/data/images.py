"""Image corpora: found, decoded by Pillow, resized as a model's processor does, and kept on disk, each image once.

Nothing about an image file is trusted: it must be whole and of a known kind, and one that would take more memory than
Pillow's limit allows (a decompression bomb) is an error, not a warning.

Pixels lie in one file of uint8 that is memory-mapped where it is used, as token ids do. Held out are the images with
the smallest hashes of their pixels, so that neither their order nor repeated files matter.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from autodistil.data.batch import Inputs
from autodistil.data.cache import built_once, default_cache_dir, key_of
from autodistil.data.readers import IMAGE_SUFFIXES, corpus_file_errors
from autodistil.data.sources import (
    DEFAULT_CORPUS,
    PREFIX,
    CorpusKind,
    CorpusSource,
    dataset_errors,
    files_below,
    files_of,
    identity_of,
    parse_hub_dataset,
    resolve,
    shown_names,
)
from autodistil.errors import CorpusError, one_line_named
from autodistil.utils import optional_import

logger = logging.getLogger(__name__)

FORMAT = 1
"""Number of the cache's format; another makes old entries unused."""

HELDOUT_SHARE, LARGEST_HELDOUT_SHARE = 0.02, 0.25
"""Share of the images that is held out; no more of few images to reach what a run asks for."""

BATCH = 64
"""Images that go through the processor together."""

PIXELS, TRAIN, HELDOUT = "pixels.bin", "train.npy", "heldout.npy"

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow is let open: its other decoders are seldom used and seldom looked at."""

MODES: Mapping[int, str] = {1: "L", 3: "RGB"}
"""Channels -> Pillow's mode."""

INSTALL = "pip install 'autodistil[vision]'"

_SAVED = ("dataset_info.json", "dataset_dict.json")
"""One of them is in every folder that `save_to_disk` wrote."""


def _image_source(name: str) -> CorpusSource:
    if name == DEFAULT_CORPUS:
        raise CorpusError(f"corpus {name!r} is text, this teacher reads images; give --corpus {IMAGES.allowed}")
    if name.startswith(PREFIX):
        return CorpusSource(name, name, partial(_hub_images, name))
    path = Path(os.path.expanduser(name))
    with corpus_file_errors(path):
        if any((path / saved).is_file() for saved in _SAVED):
            return CorpusSource(name, identity_of(files_below(path)), partial(_saved_images, path))
        paths = files_of(path, name, IMAGES)
        return CorpusSource(name, identity_of(paths), partial(_file_images, paths))


def _file_images(paths: Sequence[Path], channels: int) -> Iterator[Any]:
    for path in paths:
        yield decode(path, f"image file {str(path)!r}", channels)


def _saved_images(folder: Path, channels: int) -> Iterator[Any]:
    """Images of a data set in a folder of `save_to_disk`: of its train split where it has several."""
    where = f"data set {str(folder)!r}"
    datasets = optional_import("datasets", f"corpus {str(folder)!r}")
    with dataset_errors(where, "check it"):
        records = datasets.load_from_disk(str(folder))
        if isinstance(records, datasets.DatasetDict):
            records = records["train" if "train" in records else next(iter(records))]
        yield from _record_images(records, where, channels)


def _hub_images(name: str, channels: int) -> Iterator[Any]:
    dataset = parse_hub_dataset(name)
    with dataset_errors(dataset.words):
        yield from _record_images(dataset.stream(), dataset.words, channels)


def _record_images(records: Any, where: str, channels: int) -> Iterator[Any]:
    """Images in the first column of images of a data set."""
    image = optional_import("datasets", where).Image
    features = records.features or {}
    column = next((name for name, feature in features.items() if isinstance(feature, image)), None)
    if column is None:
        raise CorpusError(
            f"{where} has no image column; it has the columns {', '.join(features) or 'none'}; give one with images"
        )
    for number, record in enumerate(records.select_columns([column]).cast_column(column, image(decode=False))):
        value = record[column] or {}
        place = f"{where}, row {number}"
        if not value.get("bytes") and not value.get("path"):
            raise CorpusError(f"{place} has no image; take it out")
        yield decode(io.BytesIO(value["bytes"]) if value.get("bytes") else Path(value["path"]), place, channels)


IMAGES = CorpusKind(
    "images",
    f"files ({' '.join(IMAGE_SUFFIXES)}), folders, globs, folders of Dataset.save_to_disk, {PREFIX}owner/name",
    lambda path: path.suffix.lower() in IMAGE_SUFFIXES,
    _image_source,
)


# ---- decoding


def decode(file: Path | io.BytesIO, where: str, channels: int) -> Any:
    """The first frame of an image file as a Pillow image of mode L or RGB, turned as its EXIF data says.

    Args:
        file: path, or its content.
        where: for messages.
        channels: 1 or 3.

    Raises:
        CorpusError: no image, truncated, damaged, or larger than Pillow's limit.
    """
    pillow = optional_import("PIL.Image", "reading images", INSTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        try:
            with pillow.open(file, formats=FORMATS) as image:
                return to_mode(image, channels)
        except (pillow.DecompressionBombWarning, pillow.DecompressionBombError) as error:
            raise CorpusError(
                f"{where} has more than {pillow.MAX_IMAGE_PIXELS:,} pixels, which may be a decompression bomb; "
                "allowed: fewer; make it smaller, or take it out"
            ) from error
        except pillow.UnidentifiedImageError as error:
            raise CorpusError(f"{where} is no image of a known kind ({', '.join(FORMATS)}); take it out") from error
        except Exception as error:  # decoders of damaged files raise whatever they stumble over
            raise CorpusError(
                f"{where} cannot be decoded ({one_line_named(error, 120)}); get a whole copy of it, or take it out"
            ) from error


def to_mode(image: Any, channels: int) -> Any:
    """A decoded copy of mode L or RGB; transparency is dropped, 16 bits become 8."""
    ops = optional_import("PIL.ImageOps", "reading images", INSTALL)
    image = ops.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        image = image.point(lambda value: value / 256).convert("L")
    return image.convert(MODES[channels])


# ---- on disk


class PixelReader(Protocol):
    """What a teacher makes of images (`image_processor.ImageReader`)."""

    @property
    def channels(self) -> int:
        """1 or 3."""

    @property
    def inputs(self) -> Inputs:
        """Makes inputs of a model of pixels."""

    @property
    def fingerprint(self) -> str:
        """What decides on the pixels."""

    def pixels(self, images: Sequence[Any]) -> np.ndarray:
        """Pillow images -> pixels (images, channels, height, width) of uint8."""


@dataclass(frozen=True)
class ImageSubset:
    """Some of the images of a file; pickles as a path, and is mapped where it is used."""

    path: Path
    shape: tuple[int, int, int, int]
    """Shape of the file: images, channels, height, width."""
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

    train: ImageSubset
    heldout: ImageSubset
    description: str
    """The corpus in words, such as `photos/: 4,812 images`."""
    content_hash: str
    """Hash of the pixels: equal wherever the same images are read."""


def read_images(
    sources: Sequence[str],
    reader: PixelReader,
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
    resolved = resolve(sources, IMAGES)
    key = key_of([FORMAT, reader.fingerprint, [source.identity for source in resolved], min_heldout])
    folder = (cache_dir or default_cache_dir()) / "images" / key
    meta = built_once(folder, partial(_build, resolved, reader, min_heldout, progress))
    shape = tuple(meta["shape"])
    train, heldout = (ImageSubset(folder / PIXELS, shape, np.load(folder / name)) for name in (TRAIN, HELDOUT))
    description = f"{shown_names(resolved)}: {shape[0]:,} images"
    return ImageCorpus(train, heldout, description, key_of([meta["shape"], meta["files"]], sort_keys=True))


def _build(
    sources: Sequence[CorpusSource],
    reader: PixelReader,
    min_heldout: int,
    progress: Callable[[int], None],
    folder: Path,
) -> dict[str, Any]:
    """Write pixels and split into a folder; returns what to remember of them."""
    digests: dict[bytes, None] = {}
    read = 0
    with open(folder / PIXELS, "wb") as file:
        images = (image for source in sources for image in source.read(reader.channels))
        while batch := list(islice(images, BATCH)):
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


def _split(digests: Sequence[bytes], min_heldout: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out, each in the corpus's order."""
    count = len(digests)
    wanted = min(max(int(HELDOUT_SHARE * count), min_heldout), int(LARGEST_HELDOUT_SHARE * count))
    by_hash = sorted(range(count), key=digests.__getitem__)
    return np.sort(by_hash[wanted:]), np.sort(by_hash[:wanted])
