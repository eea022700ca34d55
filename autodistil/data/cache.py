"""Folders of a cache that appear whole or not at all, however many processes write them, and are checked when read."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autodistil.errors import CorpusError

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "AUTODISTIL_CACHE"
FULL_CHECK_BYTES = 1 << 28
"""Files up to this size are checked by content when an entry is opened, larger ones by size."""

_META = "meta.json"
_BUILDING = ".building-"
_ABANDONED_SECONDS = 24 * 3600.0


def default_cache_dir() -> Path:
    """`$AUTODISTIL_CACHE`, else `~/.cache/autodistil`."""
    return Path(os.path.expanduser(os.environ.get(CACHE_VARIABLE) or "~/.cache/autodistil"))


def key_of(content: object, sort_keys: bool = False) -> str:
    """Hash of plain values, such as what decides on the content of an entry."""
    return hashlib.sha256(json.dumps(content, sort_keys=sort_keys).encode()).hexdigest()[:32]


def built_once(folder: Path, build: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """The `meta` of an entry, as `read_entry`; where there is none that is intact, it is built first.

    Args:
        folder: the entry.
        build: fills an empty folder and returns the `meta` of it.

    Raises:
        CorpusError: the disk refuses.
    """
    meta = read_entry(folder)
    if meta is None:
        with new_entry(folder) as building:
            seal(building, build(building))
        meta = read_entry(folder)
        assert meta is not None
    return meta


@contextmanager
def new_entry(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it takes the name `folder`, on failure it is removed.

    An intact entry that another process has put there in the meantime stays, and ours is dropped.

    Raises:
        CorpusError: the disk refuses.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        building = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=folder.parent))
        try:
            yield building
            _publish(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise CorpusError(
            f"the cache {str(folder)!r} cannot be written: {error.strerror or error}; "
            f"free space there, or set {CACHE_VARIABLE} to a folder that you may write to"
        ) from error


def seal(folder: Path, meta: Mapping[str, Any]) -> None:
    """Write `meta` beside the files of a folder, with what is needed to check them."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    files = {str(path.relative_to(folder)): _size_and_digest(path) for path in paths}
    (folder / _META).write_text(json.dumps({**meta, "files": files}, indent=1), encoding="utf-8")


def read_entry(folder: Path) -> dict[str, Any] | None:
    """The `meta` of an entry, `files` included; None where there is none or it is not intact."""
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        for name, expected in meta["files"].items():
            path = folder / name
            whole = expected["bytes"] <= FULL_CHECK_BYTES
            if path.stat().st_size != expected["bytes"] or (whole and _size_and_digest(path) != expected):
                raise ValueError(f"{name} is damaged")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("the cache entry %s is not intact (%s); it is built again", folder, error)
        return None
    return dict(meta)


def _size_and_digest(path: Path) -> dict[str, int | str]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
    return {"bytes": path.stat().st_size, "blake2b": digest}


def _publish(building: Path, folder: Path) -> None:
    """Rename onto `folder`; a damaged entry there makes way."""
    for _ in range(10):  # as other processes may do the same
        try:
            os.rename(building, folder)
            return
        except OSError as error:
            if not os.path.lexists(folder):
                raise
            if read_entry(folder) is not None:
                return
            logger.debug("replacing %s: %s", folder, error)
            _remove(folder)
    raise OSError(f"{folder} keeps being replaced by others")


def _remove(path: Path) -> None:
    """Move out of the way, then delete: nobody sees it half-deleted."""
    aside = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=path.parent))
    try:
        os.rename(path, aside / "old")
    except FileNotFoundError:
        logger.debug("%s was removed by another process", path)
    shutil.rmtree(aside, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Delete what killed processes left half-built."""
    for path in parent.glob(f"{_BUILDING}*"):
        try:
            newest = max(entry.stat().st_mtime for entry in (path, *path.iterdir()))
        except OSError:
            continue
        if time.time() - newest > _ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
