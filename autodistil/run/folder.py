"""The run folder: one place for everything of a run, safe to stop, resume and reuse, and refused when it is foreign.

run.yaml                        configuration, what it was resolved to, versions: enough to repeat the run
superlm/<sub-space>/            superlm.safetensors once trained, checkpoint.safetensors until then
importance.safetensors          order of the teacher's dimensions and layers
output_head.safetensors         map into the output teacher's space, before training
selection.npy                   which sentences are trained on, where not all are
teacher_text/                   training texts that the teacher wrote, some steps a file
metrics.jsonl, tensorboard/     training
heldout.npy, vocabulary.npz     what students are scored on, and which tokens they keep where that is searched
study.db, candidates.csv        search
proxy.json                      task scores of students, where a proxy task ranks them
agreement.json                  how near picks are to the teacher, and the slices that they started from
speed.json                      how much faster students worth choosing are than the teacher
report.html, report.png         report
latency/                        measured students, where a budget is one of a device
certificate.json                how far to trust the search
refined/<id>/                   students refined alone: superlm.safetensors, settings.json and result.json
alone/<id>/, one/               students trained alone and one SuperLM over all sub-spaces, to certify
students/<id>/                  exported students
trials.csv, recipe.yaml         tuning

Beside a file that is written whole and read again stands its checksum, `.<name>.sum` (`utils.check_sum`), and damage is
said when the file is read. run.yaml has none, for people may edit it; nor have files that grow: metrics.jsonl is
counted against the steps that were trained, study.db is SQLite's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from autodistil.config import RUN_OPTIONS, RunConfig, layered, read_yaml, without_trust
from autodistil.errors import ConfigError, RunError
from autodistil.utils import disk_errors, installed_versions, make_folder, write_text

FINALISTS, TEACHER = "-finalists", "-teacher"
"""Latency tables beside that of the students by design."""


@dataclass(frozen=True)
class RunRecord:
    """The content of `run.yaml`."""

    options: Mapping[str, Any]
    """As they were written."""
    config: RunConfig
    """The same, read: what the run was begun with (or last searched with)."""
    resolved: Mapping[str, Any]
    """What it was resolved to, and fingerprints of what it stands for."""
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str | None = None


class RunFolder:
    """Paths of a run folder and the content of its `run.yaml`; it stores and compares what it is given."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record_path = path / "run.yaml"
        self.importance_path = path / "importance.safetensors"
        self.output_head_path = path / "output_head.safetensors"
        self.selection_path = path / "selection.npy"
        self.teacher_text_path = path / "teacher_text"
        self.vocabulary_path = path / "vocabulary.npz"
        self.heldout_path = path / "heldout.npy"
        self.superlms_path = path / "superlm"
        self.metrics_path = path / "metrics.jsonl"
        self.tensorboard_path = path / "tensorboard"
        self.ray_path = path / "ray"
        self.study_path = path / "study.db"
        self.candidates_path = path / "candidates.csv"
        self.proxy_path = path / "proxy.json"
        self.agreement_path = path / "agreement.json"
        self.speed_path = path / "speed.json"
        self.static_path = path / "static.json"
        self.report_path = path / "report.html"
        self.latency_path = path / "latency"
        self.certificate_path = path / "certificate.json"
        self.refined_path = path / "refined"
        self.one_folder = path / "one"
        self.trials_path = path / "trials.csv"
        self.recipe_path = path / "recipe.yaml"
        self.tuning_path = path / "tuning.html"

    def only_read(self, elsewhere: Path) -> RunFolder:
        """The same folder, but what a run keeps in it when it is first needed goes to `elsewhere` where it lacks that.

        Who writes its record or trains in it does write to it.
        """
        folder = RunFolder(self.path)
        for name in ("importance_path", "vocabulary_path", "heldout_path", "output_head_path", "selection_path"):
            path: Path = getattr(folder, name)
            if not path.is_file():
                setattr(folder, name, elsewhere / path.name)
        folder.teacher_text_path = elsewhere / self.teacher_text_path.name
        return folder

    def superlm_folder(self, sub_space: str) -> Path:
        """Folder of one SuperLM."""
        return self.superlms_path / sub_space

    def refined_folder(self, student_id: str) -> Path:
        """Folder of a student refined alone."""
        return self.refined_path / student_id

    def alone_folder(self, student_id: str) -> Path:
        """Folder of a student trained alone."""
        return self.path / "alone" / student_id

    def student_folder(self, student_id: str) -> Path:
        """Folder of one exported student."""
        return self.path / "students" / student_id

    def latency_table(self, setting: str, part: str = "") -> Path:
        """What was measured in one way of running students: those by design, `FINALISTS`, or the `TEACHER`."""
        return self.latency_path / f"{setting}{part}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out; released when this one ends, however it ends.

        Raises:
            RunError: another process works in this folder, or it is not writable.
        """
        make_folder(self.path)
        lock = FileLock(self.path / ".lock", timeout=0)
        with disk_errors(self.path / ".lock"):
            try:
                lock.acquire()
            except Timeout:
                raise RunError(
                    f"run folder {str(self.path)!r} is in use by another process; wait for it, or give another --run"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def exists(self) -> bool:
        """Whether a run was begun here.

        Raises:
            RunError: the path is a file, or a folder that holds something else.
        """
        with disk_errors(self.path, "read"):
            if self.record_path.is_file():
                return True
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"run folder {str(self.path)!r} is a file; give --run a folder")
        foreign = [name for name in os.listdir(self.path) if name != ".lock"] if self.path.is_dir() else []
        if foreign:
            raise RunError(
                f"folder {str(self.path)!r} is not empty and holds no run.yaml (found {foreign[0]!r}); "
                "give --run a new or empty folder"
            )
        return False

    def record(self) -> RunRecord:
        """The content of `run.yaml`.

        Raises:
            RunError: missing or damaged.
        """
        if not self.exists():
            raise RunError(
                f"{str(self.path)!r} is no run folder (no run.yaml); give --run one that search or train made"
            )
        try:
            found = deepcopy(_content(self.record_path, _stamp(self.record_path)))
            options, config = found["config"], layered(found["config"])
            if not isinstance(found["resolved"], dict):
                raise ConfigError("'resolved' is not a mapping")
        except (ConfigError, KeyError, TypeError) as error:
            raise RunError(
                f"{str(self.record_path)!r} is damaged ({error}); restore it, or give another --run folder"
            ) from error
        return RunRecord(options, config, found["resolved"], found.get("versions", {}), found.get("created"))

    def resolved(self) -> dict[str, Any]:
        """What `run.yaml` says the configuration was resolved to so far."""
        return dict(self.record().resolved) if self.exists() else {}

    def check_unchanged(self, key: str, value: Any, what: str) -> None:
        """Refuse another value than the one that was recorded, if any was.

        Raises:
            RunError: names what differs.
        """
        stored = self.resolved().get(key)
        if stored is not None and stored != value:
            raise RunError(f"run folder {str(self.path)!r} was made with another {what}; give another --run folder")

    def identity(self) -> str:
        """A short name of the run that its copies share: of when it was begun, and with which options.

        Raises:
            RunError: nothing was begun here.
        """
        record = self.record()
        decided = {option: record.options.get(option) for option in sorted(RUN_OPTIONS)}
        content = json.dumps([record.created, decided], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def write_record(self, config: RunConfig, resolved: Mapping[str, Any]) -> None:
        """Write `run.yaml`, over what was resolved before; keeps the time of creation."""
        before = self.record() if self.exists() else None
        record = {
            "created": (before and before.created) or datetime.now(UTC).isoformat(timespec="seconds"),
            "config": config.to_dict(),
            "resolved": {**(before.resolved if before else {}), **resolved},
            "versions": installed_versions(),
        }
        text = "# Everything needed to repeat this run: autodistil search --config run.yaml --run NEW\n"
        write_text(self.record_path, text + yaml.safe_dump(record, sort_keys=False, allow_unicode=True))


def _stamp(path: Path) -> tuple[int, ...]:
    with disk_errors(path, "read"):
        found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=32)
def _content(path: Path, stamp: tuple[int, ...]) -> dict[str, Any]:
    """What the file holds, parsed once for each `stamp` of it: a search asks a hundred times."""
    return read_yaml(path)


def merge_with_run(folder: RunFolder, *layers: Mapping[str, Any]) -> RunConfig:
    """The configuration of `layers` over that of an existing run.

    Raises:
        RunError: a layer asks for another teacher, space, text or training than the run has.
        ConfigError: an option is wrong, or the run needs code of its teacher, which no layer allows.
    """
    if not folder.exists():
        return layered(*layers)
    record = folder.record()
    stored = record.config
    trusted = any(layer.get("trust_remote_code") for layer in layers)
    kept = without_trust(stored.to_dict(), f"run folder {str(folder.path)!r}", trusted)
    kept["address"] = None  # nodes of a Ray cluster run each other's code: which one is asked for, each time
    asked = layered(kept, *layers)
    for option in sorted(RUN_OPTIONS):
        ours, theirs = getattr(asked, option), getattr(stored, option)
        # Steps as resolved are the same training, however its length was asked for: minutes are judged by them.
        same_length = {"train_minutes": [None], "train_steps": [None, record.resolved.get("train_steps")]}
        if ours != theirs and ours not in same_length.get(option, []):
            raise RunError(
                f"run folder {str(folder.path)!r} was made with {option} = {_show(theirs)}, not {_show(ours)}; "
                "give another --run folder, or leave the option out"
            )
    return layered(asked.to_dict(), {option: getattr(stored, option) for option in RUN_OPTIONS})


def _show(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)
