"""What autodistil wrote into a student's folder: the list `exported.json` of its files with their checksums.

Whatever else lies there, and what was changed since, is a person's: a later export keeps it, and `push` leaves it here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from autodistil.errors import ExportError, one_line_named
from autodistil.utils import file_sum, is_below, write_text

LIST = "exported.json"


def read_list(folder: Path) -> dict[str, str]:
    """Files that autodistil wrote into a folder, with their checksums; none where there is no list.

    Raises:
        ExportError: the list is damaged, or names a file outside of the folder.
    """
    path = folder / LIST
    if not path.is_file():
        return {}
    try:
        sums = {str(name): str(total) for name, total in json.loads(path.read_text(encoding="utf-8"))["files"].items()}
        for name in sums:
            if not PurePosixPath(name).parts or not is_below(name):
                raise ValueError(f"{name!r} lies outside of the folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = one_line_named(error, 120)
        raise ExportError(f"{str(path)!r} is damaged ({reason}); export the student again to a new folder") from error
    return sums


def write_list(folder: Path, sums: Mapping[str, str]) -> None:
    """Write `exported.json`, whole or not at all."""
    write_text(folder / LIST, json.dumps({"format": 1, "files": dict(sorted(sums.items()))}, indent=1) + "\n")


def is_as_written(folder: Path, name: str, sums: Mapping[str, str]) -> bool:
    """Whether a file is there and has the checksum of the list."""
    path = folder / name
    return name in sums and path.is_file() and file_sum(path) == sums[name]


@contextmanager
def adding(folder: Path, *names: str) -> Iterator[None]:
    """While autodistil writes files into a student's folder: afterwards the list holds them, if there is one.

    A file that a person had changed before stays a person's.
    """
    sums = read_list(folder)
    ours = [name for name in names if name not in sums or is_as_written(folder, name, sums)]
    yield
    if sums:
        written = {name: file_sum(folder / name) for name in ours if (folder / name).is_file()}
        write_list(folder, {**sums, **written})
