"""What every room may use: whole writes, progress, Ctrl-C between steps, the device, optional libraries, versions.

Writes happen whole or not at all, with one-line errors where the disk refuses. Progress is silent for libraries and
shown by the command line. Ctrl-C stops between two steps instead of within one, so that state stays consistent.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import logging
import math
import os
import re
import reprlib
import shutil
import signal
import threading
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from autodistil.errors import AutodistilError, ConfigError, CorpusError, RunError, one_line, suggest

if TYPE_CHECKING:
    import numpy as np
    import torch

_AGAIN = "run the same command again, with --resume if it has that"

DISK_REASONS = {
    errno.ENOSPC: f"the disk is full; free some space and {_AGAIN}",
    errno.EDQUOT: f"the disk quota is used up; free some space and {_AGAIN}",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.ENOTDIR: "part of the path is a file; choose another folder",
    errno.EEXIST: "a file is in the way; choose another folder",
    errno.EISDIR: "a folder is in the way; choose another name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}
"""What the errors of a file system mean to people."""


@contextmanager
def disk_errors(path: Path, action: str = "write") -> Iterator[None]:
    """Turn an `OSError` about `path`, or what stands for one in Rust's libraries, into a one-line `RunError`."""
    try:
        yield
    except Exception as error:
        code = error.errno or 0 if isinstance(error, OSError) else _code_of_rust(error)
        if code is None:
            raise
        words = error.strerror if isinstance(error, OSError) else None
        reason = DISK_REASONS.get(code, f"{words or one_line(error, 200)}; check the disk and the path")
        raise RunError(f"cannot {action} {str(path)!r}: {reason}") from error


def _code_of_rust(error: Exception) -> int | None:
    """The error number in a `SafetensorError`, told by its name as it may be missing, or in tokenizers' `Exception`."""
    known = type(error) is Exception or type(error).__name__ == "SafetensorError"
    found = re.search(r"\(os error (\d+)\)", str(error)) if known else None
    return int(found[1]) if found else None


@contextmanager
def atomic_path(path: Path, summed: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and takes the place of `path`.

    Args:
        path: what is written.
        summed: leave its checksum beside it, for `check_sum`.

    Raises:
        RunError: the disk refuses; what was at `path` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            if summed:
                _expect(path, file_sum(temporary))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def folder_beside(to: Path) -> Iterator[Path]:
    """Yield a new folder beside `to`, to be moved there when it is whole; what is left of it at the end is removed.

    Raises:
        RunError: the disk refuses.
    """
    building = to.with_name(f".{to.name}.{uuid.uuid4().hex[:8]}.tmp")
    with disk_errors(to):
        try:
            building.mkdir(parents=True)
            yield building
        finally:
            shutil.rmtree(building, ignore_errors=True)


def write_text(path: Path, text: str, summed: bool = False) -> Path:
    """Write a text file atomically, `summed` as in `atomic_path`; returns `path`."""
    with atomic_path(path, summed) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def copy_file(source: Path, target: Path) -> Path:
    """Copy a file atomically; returns `target`."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


def file_sum(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_SUMS = 3
"""Checksums that are kept of a file: a process that is killed before it replaces the file leaves an earlier one."""


def _expect(path: Path, total: str) -> None:
    """Leave the checksum of what comes to `path` beside it, in `.<name>.sum`; those of before stay valid for a while.

    It is written first, so whenever the process is killed the file has one of these checksums.
    """
    write_text(_sum_path(path), "".join(f"{one}\n" for one in [total, *_sums(path)][:_SUMS]))


def check_sum(path: Path) -> None:
    """Compare a file with the checksum beside it; files of earlier releases have none and pass.

    Raises:
        ValueError: it is not what was written.
        OSError: it cannot be read.
    """
    expected = _sums(path)
    if expected and file_sum(path) not in expected:
        raise ValueError("its checksum differs: cut short, flipped or edited since it was written")


def evenly(each: float, step: int) -> int:
    """How many are due by the end of a step, `each` of them a step, a share or more: as even as whole numbers are."""
    return int((step + 1) * each + 1e-9)


def kept_array(path: Path, make: Callable[[], np.ndarray], why: str) -> np.ndarray:
    """An array that is made once and kept in a run folder, so that it never changes.

    Args:
        path: where it is kept.
        make: gives it where it is not there yet.
        why: it must be the same, in words that end a message.

    Raises:
        RunError: the file is damaged, or the disk refuses.
    """
    import numpy as np  # `--help` is quicker without

    if not path.is_file():
        made = make()
        with atomic_path(path, summed=True) as temporary, open(temporary, "wb") as file:
            np.save(file, made)
    try:
        check_sum(path)
        kept: np.ndarray = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        reason = f"is damaged ({error}); restore it, or give another --run folder: {why}"
        raise RunError(f"{str(path)!r} {reason}") from error
    return kept


def discard(path: Path) -> None:
    """Remove a file, if it is there, with its checksum."""
    path.unlink(missing_ok=True)
    _sum_path(path).unlink(missing_ok=True)


def _sums(path: Path) -> list[str]:
    known = _sum_path(path)
    return known.read_text(encoding="ascii", errors="replace").split() if known.is_file() else []


def _sum_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.sum")


def is_below(path: str) -> bool:
    """Whether a path that a file names stays inside the folder of that file, whatever the system."""
    parts = PureWindowsPath(path)
    return not parts.anchor and ".." not in parts.parts


def make_folder(path: Path) -> Path:
    """Create a folder that can be written to; returns `path`.

    Raises:
        RunError: it cannot be created or written to.
    """
    with disk_errors(path, "create folder"):
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test.{os.getpid()}"
        probe.touch()
        probe.unlink()
    return path


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Keep warnings, and what these loggers (`root` for all) say below an error, out of the terminal."""
    levels = {log: log.level for log in map(logging.getLogger, loggers)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for log in levels:
                log.setLevel(logging.ERROR)
            yield
        finally:
            for log, level in levels.items():
                log.setLevel(level)


logger = logging.getLogger(__name__)

Advance = Callable[..., None]
"""`advance(steps=1, status="")`: so many more units are done; `status` is what is worth seeing beside the bar."""


class Progress:
    """Reports to the module's logger. The command line replaces it by one that draws."""

    def say(self, message: str) -> None:
        """A line that a person should read."""
        logger.info(message)

    @contextmanager
    def track(self, description: str, total: int) -> Iterator[Advance]:
        """A stretch of work of `total` units."""
        logger.info("%s: %d", description, total)
        yield lambda steps=1, status="": None


@dataclass
class StopRequest:
    """Whether somebody asked to stop."""

    number: int | None = None
    """The signal that asked."""

    @property
    def requested(self) -> bool:
        """Whether somebody did."""
        return self.number is not None

    def obey(self) -> None:
        """Stop here if somebody asked to.

        Raises:
            KeyboardInterrupt: by Ctrl-C.
            SystemExit: by SIGTERM, with the status of a process that ended by it.
        """
        if self.number is not None:
            raise KeyboardInterrupt if self.number == signal.SIGINT else SystemExit(128 + self.number)


@contextmanager
def stop_on_interrupt() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C (or SIGTERM) into a request to stop; the second one interrupts at once.

    Who is at a good place to stop calls `obey`; at the latest the end of the block does. Only the main thread gets
    signals; elsewhere the request never comes.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.obey()
        stop.number = number

    try:
        for number in previous:
            signal.signal(number, handle)
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    stop.obey()


@contextmanager
def own_sigterm(ray: ModuleType) -> Iterator[None]:
    """Keep this process's answer to SIGTERM while Ray starts, whose own ends it with a status and no word of ours."""
    theirs = ray._private.utils.set_sigterm_handler
    ray._private.utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray._private.utils.set_sigterm_handler = theirs


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may use: those that it is bound to, and no more than the time that its container gets.

    Args:
        root: where Linux tells of itself.
    """
    bound = getattr(os, "sched_getaffinity", None)  # Linux only; since Python 3.13 all systems tell
    count: Callable[[], int | None] = getattr(
        os, "process_cpu_count", lambda: len(bound(0)) if bound else os.cpu_count()
    )
    return min([count() or 1, *_cpu_quotas(root)])


def _cpu_quotas(root: Path) -> Iterator[int]:
    """Whole CPUs that cgroups allow this process, its own and those above, of version 2 (no controllers) and 1."""
    with suppress(OSError):  # no Linux, or none that has them
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
            own = mount / path.lstrip("/")
            for folder in [own, *own.parents] if "cpu" in (controllers or "cpu").split(",") else []:
                if folder.is_relative_to(mount):
                    yield from _cpu_quota(folder)


def _cpu_quota(folder: Path) -> Iterator[int]:
    """Time over period of one cgroup, rounded up; nothing where it has no limit (`max`, -1)."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        with suppress(OSError, ValueError):
            time, period = map(int, " ".join((folder / name).read_text(encoding="ascii") for name in names).split())
            if time > 0 and period > 0:
                yield -(-time // period)


def resolve_device(name: str) -> torch.device:
    """The device called `name`: `cpu`, `cuda`, `mps`, or `auto` for the best one that is there.

    Raises:
        ConfigError: no such device, or it is not there.
    """
    import torch  # who reads a space needs none

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available.get(name):
        here = ", ".join(sorted(device for device, there in available.items() if there))
        raise ConfigError(f"device {name!r} is not available{suggest(name, available)}; available here: {here}")
    return torch.device(name)


Item = TypeVar("Item", bound=Sized)


def grouped(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of consecutive items whose lengths add up to `size` or just more; the last one may be shorter."""
    group: list[Item] = []
    length = 0
    for item in items:
        group.append(item)
        length += len(item)
        if length >= size:
            yield group
            group, length = [], 0
    if group:
        yield group


INSTALL = "pip install 'autodistil[data]'"


def optional_import(
    module: str, purpose: str, install: str = INSTALL, error_type: type[AutodistilError] = CorpusError
) -> Any:
    """A module of an extra, `data` unless said otherwise.

    Args:
        module: its name, such as `pyarrow.parquet`.
        purpose: what needs it, to begin the message with.
        install: the line that installs it.
        error_type: what is raised.

    Raises:
        AutodistilError: it is not installed, with the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise error_type(
            f"{purpose} needs {module.partition('.')[0]}, which is not installed; run: {install}"
        ) from error


def shown(value: Any) -> Any:
    """A value, or several in a list, as it may be shown to others.

    Absolute paths are told by their last part, addresses of databases by their kind and the database's name.
    """
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    if not isinstance(value, str):
        return value
    name, equals, path = value.rpartition("=")  # such as `laptop=/home/me/table.json`
    weight, weighed = split_weight(value)  # such as `2*/home/me/model`
    if weight:
        name, equals, path = "", weight, weighed
    if "://" in value:
        kind, _, rest = value.partition("://")
        return f"{kind}://.../{rest.partition('?')[0].partition('/')[2].rpartition('/')[2]}"
    here = path.startswith(("/", "~")) or ".." in PurePath(path).parts or PureWindowsPath(path).drive != ""
    return f"{name}{equals}{PureWindowsPath(path).name or path}" if here else value


_REPR = reprlib.Repr()

_REPR.maxlevel, _REPR.maxlist, _REPR.maxdict, _REPR.maxstring, _REPR.maxother = 2, 4, 4, 200, 60


def short(value: object) -> str:
    """A bounded one-line repr: a hostile file may nest aliases without end or hold a number of 10,000 digits."""
    try:
        return _REPR.repr(value)
    except ValueError:  # Python refuses to print huge integers
        return "a number too long to print"


def split_weight(text: str) -> tuple[str, str]:
    """What is put before a name to weigh it, such as `2*`, and the name; nothing where it has no weight."""
    match = re.fullmatch(r"([0-9.e+-]+\*)(.+)", text)
    return ("", text) if match is None else (match[1], match[2])


def positive_number(text: str) -> float | None:
    """A number above zero such as `2`, `.5` or `1e-3`; None where the text is none."""
    plain = re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?", text)
    return float(text) if plain and 0 < float(text) < math.inf else None


def weighted_sum(terms: Iterable[tuple[float, str]]) -> str:
    """Weights and names as `read_weighted_sum` reads them, such as `relation-kl+2*embedding-cosine`."""
    return "+".join(name if weight == 1 else f"{weight:g}*{name}" for weight, name in terms)


def read_weighted_sum(text: str, known: Collection[str], auto: str, example: str) -> tuple[tuple[float, str], ...]:
    """Read a weighted sum of names such as `relation-kl + 2*embedding-cosine`.

    Args:
        text: as typed.
        known: the names.
        auto: what else may stand in the place of all of it.
        example: of a sum.

    Raises:
        ConfigError: an unknown name, one given twice, or a weight that is not above zero.
    """
    terms = []
    for part in text.split("+"):
        before, _, behind = part.rpartition("*")
        name, weight = behind.strip(), before.strip() or "1"
        if name not in known:
            raise ConfigError(
                f"objective {name!r}{suggest(name, known)} is unknown; allowed: {auto}, {', '.join(known)}, "
                f"or a weighted sum such as {example}"
            )
        number = positive_number(weight)
        if number is None:
            raise ConfigError(f"weight {weight!r} of objective {name!r} is no number above 0; give such as 2*{name}")
        terms.append((number, name))
    names = [name for _, name in terms]
    if len(set(names)) < len(names):
        raise ConfigError(f"objective {text!r} has a term twice; give each once, with a weight such as 2*{names[0]}")
    return tuple(terms)


def listed(values: Sequence[float]) -> str:
    """The first values, separated by commas."""
    shown = [f"{value:g}" for value in values[:8]]
    return ", ".join([*shown, "..."] if len(values) > 8 else shown)


_STACK = ("autodistil", "torch", "transformers", "optuna", "numpy", "pandas", "ray", "fvcore", "plotly", "safetensors")
"""Packages whose versions may decide a run's numbers."""


def installed_versions(packages: Iterable[str] = _STACK) -> dict[str, str]:
    """Versions of packages, those of the stack unless given."""
    from importlib.metadata import PackageNotFoundError, version  # `--help` is quicker without

    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
