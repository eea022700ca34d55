"""Image corpora: files, folders, globs and data sets of `datasets` saved to disk, decoded by Pillow.

Nothing about an image file is trusted: it must be whole and of a known kind, and one that would take more memory than
Pillow's limit allows (a decompression bomb) is an error, not a warning.

Images on disk as a model's processor has resized them: decoded once, each image once, split by content.

Pixels lie in one file of uint8 that is memory-mapped where it is used, as token ids do. Held out are the images with
the smallest hashes of their pixels, so that neither their order nor repeated files matter.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from autodistil.data.batch import Inputs
from autodistil.data.cache import default_cache_dir, new_entry, read_entry, seal
from autodistil.data.readers import IMAGE_SUFFIXES
from autodistil.data.sources import DEFAULT_CORPUS, PREFIX, file_identity, files_below, parse_hub_dataset
from autodistil.errors import CorpusError, one_line, one_line_named
from autodistil.utils import optional_import

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow is let open: its other decoders are seldom used and seldom looked at."""

ALLOWED = f"files ({' '.join(IMAGE_SUFFIXES)}), folders, globs, folders of Dataset.save_to_disk, {PREFIX}owner/name"

INSTALL = "pip install 'autodistil[vision]'"

MODES: Mapping[int, str] = {1: "L", 3: "RGB"}
"""Channels -> Pillow's mode."""

_SAVED = ("dataset_info.json", "dataset_dict.json")
"""One of them is in every folder that `save_to_disk` wrote."""


@dataclass(frozen=True)
class ImageSource:
    """One resolved corpus of images."""

    name: str
    """As the user wrote it."""
    identity: str
    """Changes when the content may have."""
    images: Callable[[int], Iterator[Any]]
    """Channels -> its Pillow images, from the start."""


def resolve_images(sources: Sequence[str]) -> list[ImageSource]:
    """Find what each name stands for, without reading it.

    Raises:
        CorpusError: nothing is named, or a name stands for nothing that holds images.
    """
    if not sources:
        raise CorpusError(f"no corpus is given; allowed: {ALLOWED}; name one")
    return [_resolve(name) for name in sources]


def _resolve(name: str) -> ImageSource:
    if name == DEFAULT_CORPUS:
        raise CorpusError(f"corpus {name!r} is text, this teacher reads images; give --corpus {ALLOWED}")
    if name.startswith(PREFIX):
        return ImageSource(name, name, partial(_hub_images, name))
    path = Path(os.path.expanduser(name))
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CorpusError(f"corpus {name!r} is neither a file nor a folder; allowed: {ALLOWED}; give one")
    try:
        if any((path / saved).is_file() for saved in _SAVED):
            return ImageSource(name, _identity(files_below(path)), partial(_saved_images, path))
        paths = _image_files(path, name)
    except OSError as error:
        raise CorpusError(
            f"corpus {name!r} cannot be read: {error.strerror or error}; check its permissions"
        ) from error
    return ImageSource(name, _identity(paths), partial(_file_images, paths))


def _identity(paths: Sequence[Path]) -> str:
    return "\n".join(map(file_identity, paths))


def _image_files(path: Path, name: str) -> list[Path]:
    """The image files that a path or glob stands for, sorted."""
    matches = [path] if path.exists() else [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    files = [file for match in matches for file in (files_below(match) if match.is_dir() else [match])]
    if not files:
        what = "holds no files" if matches else "not found"
        raise CorpusError(f"corpus {name!r} {what}; this teacher reads images; allowed: {ALLOWED}; give one")
    images = sorted({file for file in files if file.suffix.lower() in IMAGE_SUFFIXES})
    if not images:
        raise CorpusError(
            f"corpus {name!r} has no images but {len(files)} other files, such as {files[0].name!r}; this teacher "
            f"reads images; allowed: {ALLOWED}; give one"
        )
    return images


# ---- decoding


def _file_images(paths: Sequence[Path], channels: int) -> Iterator[Any]:
    for path in paths:
        yield decode(path, f"image file {str(path)!r}", channels)


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


# ---- data sets


def _saved_images(folder: Path, channels: int) -> Iterator[Any]:
    """Images of a data set in a folder of `save_to_disk`: of its train split where it has several."""
    datasets = optional_import("datasets", f"corpus {str(folder)!r}")
    where = f"data set {str(folder)!r}"
    with _dataset_errors(where):
        loaded = datasets.load_from_disk(str(folder))
        records = loaded if isinstance(loaded, datasets.Dataset) else loaded[_split_of(loaded)]
    yield from _record_images(records, records.features, where, channels)


def _split_of(splits: Mapping[str, Any]) -> str:
    return "train" if "train" in splits else next(iter(splits))


def _hub_images(name: str, channels: int) -> Iterator[Any]:
    datasets = optional_import("datasets", f"corpus {name!r}")
    dataset = parse_hub_dataset(name)
    where = f"Hugging Face data set {dataset.name!r}"
    with _dataset_errors(where):
        records = datasets.load_dataset(
            dataset.name, dataset.config, split=dataset.split, revision=dataset.revision, streaming=True
        )
    yield from _record_images(records, records.features or {}, where, channels)


def _record_images(records: Any, features: Mapping[str, Any], where: str, channels: int) -> Iterator[Any]:
    datasets = optional_import("datasets", where)
    columns = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if not columns:
        raise CorpusError(
            f"{where} has no image column; it has the columns {', '.join(features) or 'none'}; give one with images"
        )
    records = records.select_columns(columns[:1]).cast_column(columns[0], datasets.Image(decode=False))
    for number, record in enumerate(_guarded(records, where)):
        value = record[columns[0]] or {}
        place = f"{where}, row {number}"
        if not value.get("bytes") and not value.get("path"):
            raise CorpusError(f"{place} has no image; take it out")
        yield decode(io.BytesIO(value["bytes"]) if value.get("bytes") else Path(value["path"]), place, channels)


def _guarded(records: Any, where: str) -> Iterator[Any]:
    with _dataset_errors(where):
        yield from records


@contextmanager
def _dataset_errors(where: str) -> Iterator[None]:
    """Turn what `datasets` may raise into a one-line `CorpusError`."""
    try:
        yield
    except CorpusError:
        raise
    except Exception as error:  # the library passes on whatever its many back ends raise
        reason = one_line(error, 200) or type(error).__name__
        raise CorpusError(f"{where} cannot be read: {reason}; check it") from error


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
    def inputs(self) -> Inputs:
        """Makes inputs of a model of pixels."""

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
