"""The run folder: one place for everything of a run, safe to stop, resume and reuse, and refused when it is foreign.

run.yaml                        configuration, what it was resolved to, versions: enough to repeat the run
superlm/<sub-space>/            superlm.safetensors once trained, checkpoint.safetensors until then
metrics.jsonl, tensorboard/     training
heldout.npy, vocabulary.npz     what students are scored on, and which tokens they keep where that is searched
study.db, candidates.csv        search
proxy.json                      task scores of students, where a proxy task ranks them
report.html, report.png         report
latency/                        measured students, where a budget is one of a device
certificate.json                how far to trust the search
refined/<id>/                   students refined alone: superlm.safetensors and result.json
alone/<id>/, one/               students trained alone and one SuperLM over all sub-spaces, to certify
students/<id>/                  exported students
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from autodistil.config import RUN_OPTIONS, RunConfig, layered, read_yaml
from autodistil.errors import ConfigError, RunError
from autodistil.utils import disk_errors, installed_versions, make_folder, write_text


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run folder and the content of its `run.yaml`."""

    path: Path

    @property
    def record_path(self) -> Path:
        """`run.yaml`."""
        return self.path / "run.yaml"

    @property
    def metrics_path(self) -> Path:
        """`metrics.jsonl`."""
        return self.path / "metrics.jsonl"

    @property
    def study_url(self) -> str:
        """URL of the Optuna storage, `study.db`."""
        return f"sqlite:///{self.path / 'study.db'}"

    @property
    def candidates_path(self) -> Path:
        """`candidates.csv`."""
        return self.path / "candidates.csv"

    @property
    def proxy_path(self) -> Path:
        """`proxy.json`."""
        return self.path / "proxy.json"

    @property
    def report_path(self) -> Path:
        """`report.html`."""
        return self.path / "report.html"

    def superlm_folder(self, sub_space: str) -> Path:
        """Folder of one SuperLM."""
        return self.path / "superlm" / sub_space

    @property
    def certificate_path(self) -> Path:
        """`certificate.json`."""
        return self.path / "certificate.json"

    @property
    def one_folder(self) -> Path:
        """Folder of the one SuperLM over all sub-spaces."""
        return self.path / "one"

    def alone_folder(self, student_id: str) -> Path:
        """Folder of a student trained alone."""
        return self.path / "alone" / student_id

    @property
    def refined_path(self) -> Path:
        """`refined`: a folder for each student that was refined alone, by its id."""
        return self.path / "refined"

    @property
    def latency_path(self) -> Path:
        """`latency`: what students were measured to take, a table for each way of running them."""
        return self.path / "latency"

    def student_folder(self, student_id: str) -> Path:
        """Folder of one exported student."""
        return self.path / "students" / student_id

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

    def record(self) -> dict[str, Any]:
        """The content of `run.yaml`: `config`, `resolved`, `versions`, ...

        Raises:
            RunError: missing or damaged.
        """
        if not self.exists():
            raise RunError(
                f"{str(self.path)!r} is no run folder (no run.yaml); give --run one that search or train made"
            )
        try:
            record = read_yaml(self.record_path)
            layered(record["config"])
            if not isinstance(record["resolved"], dict):
                raise ConfigError("'resolved' is not a mapping")
        except (ConfigError, KeyError, TypeError) as error:
            raise RunError(
                f"{str(self.record_path)!r} is damaged ({error}); restore it, or give another --run folder"
            ) from error
        return record

    def identity(self) -> str:
        """A short name of the run that its copies share: of when it was begun, and with which options.

        Raises:
            RunError: nothing was begun here.
        """
        record = self.record()
        decided = {option: record["config"].get(option) for option in sorted(RUN_OPTIONS)}
        content = json.dumps([record["created"], decided], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def config(self) -> RunConfig:
        """The configuration that the run was begun with (or last searched with)."""
        return layered(self.record()["config"])

    def write_record(self, config: RunConfig, resolved: Mapping[str, Any]) -> None:
        """Write `run.yaml`; keeps the time of creation."""
        created = self.record().get("created") if self.exists() else None
        record = {
            "created": created or datetime.now(UTC).isoformat(timespec="seconds"),
            "config": config.to_dict(),
            "resolved": dict(resolved),
            "versions": installed_versions(),
        }
        text = "# Everything needed to repeat this run: autodistil search --config run.yaml --run NEW\n"
        write_text(self.record_path, text + yaml.safe_dump(record, sort_keys=False, allow_unicode=True))


def merge_with_run(folder: RunFolder, *layers: Mapping[str, Any]) -> RunConfig:
    """The configuration of `layers` over that of an existing run.

    Raises:
        RunError: a layer asks for another teacher, space, text or training than the run has.
        ConfigError: an option is wrong.
    """
    if not folder.exists():
        return layered(*layers)
    stored = folder.config()
    asked = layered(stored.to_dict(), *layers)
    for option in sorted(RUN_OPTIONS):
        ours, theirs = getattr(asked, option), getattr(stored, option)
        if ours != theirs and not _same_length(option, ours, folder):
            raise RunError(
                f"run folder {str(folder.path)!r} was made with {option} = {_show(theirs)}, not {_show(ours)}; "
                "give another --run folder, or leave the option out"
            )
    return layered(asked.to_dict(), {option: getattr(stored, option) for option in RUN_OPTIONS})


def _same_length(option: str, value: Any, folder: RunFolder) -> bool:
    """Steps as resolved are the same training, however its length was asked for."""
    if option == "train_minutes" and value is None:
        return True  # judged by train_steps
    return option == "train_steps" and value in (None, folder.record()["resolved"].get("train_steps"))


def _show(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)
