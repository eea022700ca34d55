"""Where a model lies: packaged, in a folder, or on the Hugging Face Hub, from where it is brought into the Hub's cache.

Whoever reads a model reads a folder, so one that is named by its id is in every respect what a copy of it would be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, constants, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from autodistil.errors import TeacherError, one_line, suggest
from autodistil.models.packaged import PACKAGED
from autodistil.models.pooling import MODULES, PIPELINE_FILES, read_modules
from autodistil.utils import is_below, short

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_INDEX = "model.safetensors.index.json"
_HUB_FILES = (
    "*.json", "*.txt", "*.model", "*.jinja", "README.md", "LICEN[CS]E*", "licen[cs]e*", "NOTICE*",
)  # fmt: skip
"""Files that are taken of a model on the Hub beside its weights: no pickle, and no code unasked."""


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine."""

    path: Path
    hub_id: str | None = None
    """Its id on the Hub, without a revision; None where it comes from somewhere else."""
    commit: str | None = None
    """The commit of its repository there."""
    doubt: str | None = None
    """A line for people where its cache may lack what makes it an encoder of sentences, and the Hub cannot be asked."""


def find_model(
    source: str, what: str = "teacher", commit: str | None = None, weights: bool = True, code: bool = False
) -> ModelFolder:
    """Find a model on this machine; one on the Hub is brought here, as far as it is not here yet.

    Args:
        source: packaged name, folder, or id on the Hub, with `@` and a branch, tag or commit if it is not to be `main`.
        what: how to call it in messages.
        commit: of the repository on the Hub, in the place of the revision that `source` names; of no use elsewhere.
        weights: bring its weights too.
        code: bring its code too.

    Raises:
        TeacherError: a packaged one is not installed, a folder is missing or holds no model, or an id is neither in the
            cache nor reachable.
    """
    if source in PACKAGED:
        return ModelFolder(PACKAGED[source].folder(source))
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise TeacherError(
                f"{what} folder {source!r} holds no config.json; give the folder of a Hugging Face model"
            )
        return ModelFolder(path)
    if path.is_file():
        raise TeacherError(f"{what} {source!r} is a file; give the folder that it is in, {str(path.parent)!r}")
    name, _, revision = source.partition("@")
    if path.is_absolute() or source.startswith((".", "~")) or name.count("/") > 1:
        raise TeacherError(f"{what} folder {source!r} does not exist; give a folder or a Hugging Face id")
    wanted = commit or revision or None
    try:
        return _from_hub(name, wanted, weights, code)
    except LocalEntryNotFoundError:
        offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
        what_of_it = f"its revision {wanted}" if wanted else "it"
        where = constants.HF_HUB_CACHE
        reason = f"{what_of_it} is not in {where}, and the Hugging Face Hub cannot be asked{offline}"
    except TeacherError as error:
        reason = str(error)
    except Exception as error:  # of the library, of its HTTP client and of the disk
        reason = one_line(error, 200)
    raise TeacherError(
        f"{what} {source!r}{suggest(source, PACKAGED)} cannot be loaded: {reason}; give a folder with config.json and "
        "model.safetensors, or a Hugging Face id that is reachable or cached"
    )


def _from_hub(name: str, revision: str | None, weights: bool, code: bool) -> ModelFolder:
    if revision is not None and not is_below(revision):
        raise TeacherError(f"{short(revision)} is no revision")
    wanted = [*_HUB_FILES, *["*.safetensors"] * weights, *["*.py"] * code]
    try:
        path, whole = Path(snapshot_download(name, revision=revision, allow_patterns=wanted)), True
    except LocalEntryNotFoundError as error:
        if not hasattr(error, "snapshot_path"):  # else it is in the cache, which lacks files: do we need them?
            raise
        path, whole = Path(error.snapshot_path), False
    commit = path.name
    missing = [file for file in _needed(path, weights) if not (path / file).is_file()]
    for file in missing:
        try:
            if not _fetched(name, file, commit):
                raise TeacherError(f"{name} has no {file} on the Hub")
        except LocalEntryNotFoundError as error:
            raise TeacherError(
                f"its cache in {path} lacks {file}, and the Hub cannot be asked; fetch it with a network: hf download "
                f"{name} --revision {commit}"
            ) from error
    # whether the library saw for itself that nothing is missing
    listed = whole and (path.parents[1] / "trees" / f"{commit}.json").is_file()
    return ModelFolder(path, name, commit, _doubt(path, name, commit) if weights and not listed else None)


def _needed(path: Path, weights: bool) -> Iterator[str]:
    """Files that a model cannot be read without."""
    yield CONFIG
    for module in read_modules(path):
        if module.kind == "Pooling":
            yield f"{module.path}/config.json"
    if weights:
        yield from weight_files(path) or (WEIGHTS,)


def _doubt(path: Path, name: str, commit: str) -> str | None:
    plain, unknown = not (path / MODULES).is_file(), []
    for file in (MODULES,) if plain else PIPELINE_FILES:
        try:
            _ = (path / file).is_file() or _fetched(name, file, commit)
        except LocalEntryNotFoundError:
            unknown.append(file)
    if not unknown:
        return None
    reading = "as a plain encoder, not as one of sentences" if plain else "without"
    return (
        f"{name}: its cache lacks {', '.join(unknown)}, and the Hub cannot be asked whether there is any; it is read "
        f"{reading}; fetch it with a network: hf download {name} --revision {commit}"
    )


def _fetched(name: str, file: str, commit: str) -> bool:
    """Whether a repository has a file, which is in the cache then.

    Raises:
        LocalEntryNotFoundError: the Hub cannot be asked.
    """
    if try_to_load_from_cache(name, file, revision=commit) is _CACHED_NO_EXIST:
        return False
    try:
        hf_hub_download(name, file, revision=commit)
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError:
        return False
    return True


def weight_files(folder: Path) -> tuple[str, ...]:
    """Names of the files with a model's weights, all of them safetensors of its own; none where there are none.

    Raises:
        TeacherError: the folder names a pickle, a file that lies elsewhere, or weights beside those of its model.
    """
    advice = f"allowed: {WEIGHTS}, or *.safetensors beside {_INDEX}; save it again with save_pretrained"
    if (folder / "adapter_config.json").exists():
        raise TeacherError(f"{str(folder)!r} holds an adapter beside its model (adapter_config.json); {advice}")
    if "transformers_weights" in _mapping(folder / CONFIG):
        raise TeacherError(f"{str(folder / CONFIG)!r} says where the weights are (transformers_weights); {advice}")
    if (folder / WEIGHTS).is_file() or not (folder / _INDEX).is_file():
        return (WEIGHTS,) * (folder / WEIGHTS).is_file()
    names = _mapping(_mapping(folder / _INDEX).get("weight_map")).values()
    for name in names:
        if not isinstance(name, str) or not name.endswith(".safetensors") or not is_below(name):
            raise TeacherError(f"{str(folder / _INDEX)!r} names {short(name)} as weights; {advice}")
    return tuple(sorted(set(names)))


def _mapping(source: Path | object) -> dict[str, Any]:
    """A JSON file that holds an object, or what is one already; else an empty one, which its reader complains about."""
    try:
        found = json.loads(source.read_text(encoding="utf-8")) if isinstance(source, Path) else source
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
