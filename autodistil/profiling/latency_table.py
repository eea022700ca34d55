"""A latency table: what students took on one device in one runtime, as a JSON file that can be carried around.

A file from elsewhere is not trusted: its size, keys, types and ranges are checked, and it is only data. Each value is
what it has to be, or one line says where it is not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from autodistil.errors import ProfileError, SpaceError, one_line
from autodistil.formats.setting import MAX_BATCH, MAX_SEQ_LEN, MAX_THREADS, check_runtime
from autodistil.profiling.fingerprint import DeviceFingerprint
from autodistil.space.student import DIMENSIONS, OPTIONAL_AXES, LayerSizes, StudentConfig
from autodistil.utils import check_sum, short, write_text

FORMAT = 1
"""Version of the format; others are refused."""

_MAX_BYTES, _MAX_CHARACTERS, _MAX_ENTRIES, _MAX_VERSIONS = 64_000_000, 300, 200_000, 100
_MAX_MS, _MAX_MB, _MAX_ROUNDS, _MAX_SIZE = 1e9, 1e8, 1_000_000, 10_000_000


@dataclass(frozen=True)
class LatencyEntry:
    """One student at one batch and length."""

    student: StudentConfig
    batch: int
    seq_len: int
    median_ms: float
    """Wall-clock time of one forward of the whole batch."""
    low_ms: float
    """Lower end of the median's 95 % confidence interval."""
    high_ms: float
    rounds: int
    """Undisturbed forwards that the median is of."""
    busy: bool
    """The machine did something else meanwhile: not a figure to rely on."""
    peak_memory_mb: float | None
    """Largest memory (1e6 bytes) from before the student was loaded until after it ran; None: not measured."""
    file_mb: float
    """Size of the file that the runtime loads, in 1e6 bytes."""


@dataclass(frozen=True)
class LatencyTable:
    """Measurements of one device in one runtime."""

    device: DeviceFingerprint
    runtime: str
    threads: int
    family: str
    """Hugging Face model type of the students, such as `bert`."""
    vocab_size: int
    """Tokens of those students whose `vocab_size` is None; 0: they read images."""
    versions: Mapping[str, str]
    """Versions of the runtime, autodistil, Python and the operating system."""
    reference_ms: float
    """Fastest time of the kernel that neighbour load is told by: compare it between tables of one device."""
    entries: tuple[LatencyEntry, ...]
    version: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """The table as plain JSON types."""
        entries = [{**vars(entry), "student": student_dict(entry.student)} for entry in self.entries]
        device = {**asdict(self.device), "id": self.device.id}
        return {**vars(self), "device": device, "versions": dict(self.versions), "entries": entries}


def student_dict(student: StudentConfig) -> dict[str, Any]:
    """A student as plain JSON types: the sizes that it has, and where layers have sizes of their own those of each."""
    sizes = {name: size for name, size in asdict(student).items() if name != "layers" and size is not None}
    return {**sizes, **({"layers": [list(layer) for layer in student.layers]} if student.layers else {})}


def read_table(path: Path) -> LatencyTable:
    """Read a table.

    Raises:
        ProfileError: there is none at `path`, or it is not one in this format.
    """
    try:
        check_sum(path)
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ProfileError(f"it is larger than {_MAX_BYTES // 1_000_000} MB")
        return table_from_dict(json.loads(data.decode("utf-8"), parse_constant=_no_constant))
    except OSError as error:
        reason, what = error.strerror or str(error), "one"
    except (ProfileError, ValueError, RecursionError) as error:
        reason, what = one_line(error, 300), "it anew"
    raise ProfileError(f"latency table {str(path)!r}: {reason}; write {what} with: autodistil profile")


def write_table(table: LatencyTable, path: Path, summed: bool = False) -> Path:
    """Write a table atomically, `summed` as in `utils.atomic_path`; returns `path`.

    Raises:
        RunError: the disk refuses.
    """
    return write_text(path, json.dumps(table.to_dict(), indent=1, allow_nan=False) + "\n", summed)


def check_device(table: LatencyTable, here: DeviceFingerprint, force: bool = False) -> None:
    """Refuse a table of another device.

    Args:
        table: the table.
        here: the device that it is to stand for.
        force: take it nevertheless.

    Raises:
        ProfileError: it is of another device, and `force` is not set.
    """
    if table.device.id != here.id and not force:
        raise ProfileError(
            f"latency table: got one of another device, {table.device}; this is {here}; "
            "profile here with: autodistil profile, or force it if that is the device you search for"
        )


def of_teacher(table: LatencyTable, family: str, vocab_size: int) -> LatencyTable:
    """The table as a teacher's students are called: those with all of its tokens are those without a size of their own.

    Args:
        table: the table; its own students without one may have fewer tokens.
        family: the teacher's Hugging Face model type.
        vocab_size: the teacher's tokens.

    Raises:
        ProfileError: no student of the teacher can be in it.
    """
    got = [(table.family != family, f"the family {table.family!r}", repr(family))]
    got += [(table.vocab_size > vocab_size, f"{table.vocab_size:,} tokens", f"at most {vocab_size:,}")]
    for wrong, theirs, ours in got:
        if wrong:
            raise ProfileError(
                f"latency table: got students of {theirs}; allowed: {ours}, as the teacher has; measure students of "
                "this search with: autodistil profile --run"
            )

    def ours_of(student: StudentConfig) -> StudentConfig:
        tokens = student.vocab_size or table.vocab_size
        return replace(student, vocab_size=None if tokens == vocab_size else tokens)

    entries = tuple(replace(entry, student=ours_of(entry.student)) for entry in table.entries)
    return replace(table, vocab_size=vocab_size, entries=entries)


def table_from_dict(raw: object) -> LatencyTable:
    """A table from plain JSON types.

    Raises:
        ProfileError: a key is missing or unknown, or a value is not what it has to be.
    """
    if isinstance(raw, Mapping) and raw.get("version") != FORMAT:
        raise ProfileError(f"version: got {short(raw.get('version'))}; allowed: {FORMAT}")
    return LatencyTable(**_record(raw, "", _TABLE))


def _no_constant(name: str) -> float:
    raise ValueError(f"got the number {name}; allowed: finite numbers")


# ---- what each value has to be

Check = Callable[[Any, str], Any]
"""A raw value and where it stands -> the value, or a `ProfileError` that says what is allowed."""


def _refusal(raw: Any, where: str, allowed: str) -> ProfileError:
    return ProfileError(f"{where}: got {short(raw)}; allowed: {allowed}")


def _check(allowed: str, holds: Callable[[Any], bool]) -> Check:
    def check(raw: Any, where: str) -> Any:
        if not holds(raw):
            raise _refusal(raw, where, allowed)
        return raw

    return check


def _whole(most: int) -> Check:
    return _check(f"whole numbers from 1 to {most:,}", lambda raw: type(raw) is int and 1 <= raw <= most)


def _number(most: float) -> Check:
    return _check(f"numbers from 0 to {most:g}", lambda raw: type(raw) in (int, float) and 0 <= raw <= most)


def _optional(check: Check) -> Check:
    return lambda raw, where: None if raw is None else check(raw, where)


_line = _check(
    f"a line of at most {_MAX_CHARACTERS} characters",
    lambda raw: isinstance(raw, str) and len(raw) <= _MAX_CHARACTERS and raw.isprintable(),
)


def _record(raw: Any, where: str, checks: Mapping[str, Check], optional: Sequence[str] = ()) -> dict[str, Any]:
    """An object with all of these keys, but for the optional ones, and no others."""
    place = where or "the table"
    if not isinstance(raw, Mapping):
        raise _refusal(raw, place, f"a JSON object with the keys {', '.join(checks)}")
    missing = [key for key in checks if key not in raw and key not in optional]
    unknown = [key for key in raw if key not in checks]
    if missing or unknown:
        got = f"no {missing[0]}" if missing else f"the unknown key {short(unknown[0])}"
        raise ProfileError(f"{place}: got {got}; allowed: {', '.join(checks)}")
    return {name: checks[name](raw[name], f"{where}.{name}".lstrip(".")) for name in raw}


def _device(raw: Any, where: str) -> DeviceFingerprint:
    row = _record(raw, where, _DEVICE, optional=("gpu",))
    known, device = row.pop("id"), DeviceFingerprint(**row)
    if known != device.id:
        raise ProfileError(f"{where}: got the id {short(known)}, which its description does not have")
    return device


def _versions(raw: Any, where: str) -> dict[str, str]:
    if not isinstance(raw, Mapping) or len(raw) > _MAX_VERSIONS:
        raise _refusal(raw, where, f"a mapping of at most {_MAX_VERSIONS} names to versions")
    return {_line(name, where): _line(text, where) for name, text in raw.items()}


def _entry(raw: Any, where: str) -> LatencyEntry:
    entry = LatencyEntry(**_record(raw, where, _ENTRY))
    if not 0 < entry.low_ms <= entry.median_ms <= entry.high_ms < math.inf:
        times = {name: raw[name] for name in ("low_ms", "median_ms", "high_ms")}
        raise ProfileError(f"{where}: got the times {short(times)}; allowed: 0 < low_ms <= median_ms <= high_ms")
    return entry


def _layers(raw: Any, where: str) -> tuple[LayerSizes, ...]:
    size = _check("a whole number", lambda one: type(one) is int and 0 <= one <= _MAX_SIZE)
    if not (isinstance(raw, list) and raw and all(isinstance(one, list) and len(one) == 2 for one in raw)):
        raise _refusal(raw, where, "a list of pairs, the heads and FFN units of each layer")
    return tuple(LayerSizes(*(size(one, where) for one in layer)) for layer in raw)


def _student(raw: Any, where: str) -> StudentConfig:
    sizes = _record(raw, where, _STUDENT, optional=(*OPTIONAL_AXES, "layers"))
    try:
        return StudentConfig(**sizes)
    except SpaceError as error:
        raise ProfileError(f"{where}: {error}") from None


def _entries(raw: Any, where: str) -> tuple[LatencyEntry, ...]:
    if not isinstance(raw, list) or len(raw) > _MAX_ENTRIES:
        raise _refusal(raw, where, f"a list of at most {_MAX_ENTRIES:,}")
    entries = tuple(_entry(row, f"{where}[{i}]") for i, row in enumerate(raw))
    if len({(entry.student, entry.batch, entry.seq_len) for entry in entries}) < len(entries):
        raise ProfileError(f"{where}: got one student twice at one batch and length")
    return entries


_SIZE = _whole(_MAX_SIZE)
_STUDENT: Mapping[str, Check] = {
    **dict.fromkeys(DIMENSIONS, _SIZE),
    **dict.fromkeys(OPTIONAL_AXES, _optional(_SIZE)),
    "layers": _layers,
}
_DEVICE: Mapping[str, Check] = {
    **dict.fromkeys(("id", "cpu", "os", "arch"), _line),
    "cores": _SIZE,
    "gpu": _optional(_line),
}
_ENTRY: Mapping[str, Check] = {
    "student": _student,
    "batch": _whole(MAX_BATCH),
    "seq_len": _whole(MAX_SEQ_LEN),
    **dict.fromkeys(("median_ms", "low_ms", "high_ms"), _number(_MAX_MS)),
    "rounds": _whole(_MAX_ROUNDS),
    "busy": _check("true or false", lambda raw: isinstance(raw, bool)),
    "peak_memory_mb": _optional(_number(_MAX_MB)),
    "file_mb": _number(_MAX_MB),
}
_TABLE: Mapping[str, Check] = {
    "device": _device,
    "runtime": lambda raw, where: check_runtime(_line(raw, where)),
    "threads": _whole(MAX_THREADS),
    "family": _line,
    "vocab_size": _check(
        f"whole numbers from 0 to {_MAX_SIZE:,}", lambda raw: type(raw) is int and 0 <= raw <= _MAX_SIZE
    ),
    "versions": _versions,
    "reference_ms": _number(_MAX_MS),
    "entries": _entries,
    "version": _whole(FORMAT),
}
