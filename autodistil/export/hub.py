"""A student's folder on the Hugging Face Hub, through `huggingface_hub`: what an export wrote, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodistil.errors import ExportError, one_line
from autodistil.formats import FORMATS

_NEEDED = ("config.json", "model.safetensors", "README.md")
"""What every exported student has."""
_SENT = {".json", ".txt", ".md", ".py", ".safetensors", ".model", ".bin"}
"""Endings of the files of an export, beside those of formats; a `.bin` only beside the `.xml` of OpenVINO, as any other
may be a pickle."""

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
    return Push(repo, sizes, None if dry_run else _upload(folder, files, repo, private))


def files_of(folder: Path) -> list[str]:
    """The files of an exported student that belong on the Hub, in order; hidden and foreign ones stay here.

    Raises:
        ExportError: it is no exported student.
    """
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise ExportError(
            f"{str(folder)!r} is no exported student: it has no {missing[0]}; write one with autodistil export"
        )
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path.as_posix() for path in found if _belongs(folder, path)]


def _belongs(folder: Path, path: Path) -> bool:
    endings = _SENT | {Path(entry.file).suffix for entry in FORMATS.values() if entry.file}
    if any(part.startswith(".") for part in path.parts) or (path.suffix not in endings and path.name not in LICENCES):
        return False
    return path.suffix != ".bin" or (folder / path).with_suffix(".xml").is_file()


def _upload(folder: Path, files: Sequence[str], repo: str, private: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    api = HfApi()
    try:
        created = api.create_repo(repo, private=private, exist_ok=True)
        commit: Any = api.upload_folder(
            repo_id=created.repo_id,
            folder_path=folder,
            allow_patterns=list(files),
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
