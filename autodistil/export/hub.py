"""A student's folder on the Hugging Face Hub, by `huggingface_hub`: what autodistil wrote into it, nothing else."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodistil.errors import ExportError, one_line
from autodistil.models.student_files import LIST, is_as_written, read_list

_NEEDED = ("config.json", "model.safetensors", "README.md")
"""What every exported student has."""

LICENCES = ("LICENSE", "LICENCE", "NOTICE")
"""Licence files of the teacher; with an ending they are among the others."""


@dataclass(frozen=True)
class Push:
    """What is sent, or would be."""

    repo: str
    files: tuple[tuple[str, int], ...]
    """(path within the repository, bytes)."""
    url: str | None
    """The address of the new commit; None where nothing was sent."""
    left: tuple[str, ...] = ()
    """Files of the folder that autodistil did not write and that stay here."""


def push(folder: Path, repo: str, private: bool = False, dry_run: bool = False) -> Push:
    """Create a model repository if it is not there, and put a student's folder into it as one commit.

    Token and endpoint are those of `huggingface_hub` (`hf auth login`, `HF_TOKEN`, `HF_ENDPOINT`).

    Args:
        folder: an exported student.
        repo: `NAME` or `ORGANISATION/NAME`.
        private: create it so that only its owners see it; an existing one stays as it is.
        dry_run: only say what would be sent.

    Raises:
        ExportError: no exported student, a name that the Hub does not allow, no token, no network, or it refuses.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in __all__

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ExportError(f"repository {repo!r} is no name for the Hub: {one_line(error, 200)}") from error
    files = files_of(folder)
    sizes = tuple((name, (folder / name).stat().st_size) for name in files)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    url = None if dry_run else _upload(folder, files, repo, private)
    return Push(repo, sizes, url, tuple(sorted(found.difference(files))))


def files_of(folder: Path) -> list[str]:
    """The files of an exported student that belong on the Hub, in order: those that autodistil wrote.

    Words, such as the model card's, may have been changed since; all else must be as it was written.

    Raises:
        ExportError: it is no exported student, has no list of what was written, or holds a file that was changed.
    """
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise ExportError(
            f"{str(folder)!r} is no exported student: it has no {missing[0]}; write one with autodistil export"
        )
    sums, root = read_list(folder), folder.resolve()
    if not sums:
        raise ExportError(
            f"{str(folder)!r} has no {LIST}, the list of what an export wrote, so an earlier release exported it; "
            "export it again, or choose its files yourself and send them with: hf upload"
        )
    files = [name for name in sums if (folder / name).is_file() and (folder / name).resolve().is_relative_to(root)]
    words = {name for name in files if name.endswith(".md") or Path(name).stem.upper() in LICENCES}
    changed = [name for name in files if name not in words and not is_as_written(folder, name, sums)]
    if changed:
        raise ExportError(
            f"{changed[0]} in {str(folder)!r} is not what autodistil wrote (its checksum differs), so it is damaged or "
            "was changed; export the student again, or send it yourself with: hf upload"
        )
    return sorted([LIST, *files])


def _upload(folder: Path, files: Sequence[str], repo: str, private: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    api = HfApi()
    try:
        created = api.create_repo(repo, private=private, exist_ok=True)
        commit: Any = api.upload_folder(
            repo_id=created.repo_id,
            folder_path=folder,
            allow_patterns=[glob.escape(name) for name in files],
            commit_message="Student found by autodistil",
        )
    except LocalTokenNotFoundError as error:
        raise ExportError("no token for the Hugging Face Hub is here; run: hf auth login, or set HF_TOKEN") from error
    except HfHubHTTPError as error:
        raise ExportError(
            f"the Hugging Face Hub refuses {repo!r}: {one_line(error, 200)}; "
            "check the name and that the token may write"
        ) from error
    except (OfflineModeIsEnabled, OSError) as error:
        raise ExportError(
            f"the Hugging Face Hub cannot be reached: {one_line(error, 200)}; try again with a network (HF_HUB_OFFLINE "
            "unset), or see what would be sent with --dry-run"
        ) from error
    return str(commit.commit_url)
