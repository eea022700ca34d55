"""Values of a JSON file that is not trusted: each is what it has to be, or a one-line error says where it is not.

A latency table: what students took on one device in one runtime, as a JSON file that can be carried around.

A file from elsewhere is not trusted: its size, keys, types and ranges are checked, and it is only data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from autodistil.errors import ProfileError, one_line
from autodistil.formats.setting import MAX_BATCH, MAX_SEQ_LEN, MAX_THREADS, RuntimeSetting, check_runtime
from autodistil.profiling.fingerprint import DeviceFingerprint
from autodistil.space.student import DIMENSIONS, OPTIONAL_AXES, StudentConfig
from autodistil.utils import short, write_text

_MAX_CHARACTERS = 300


def check_keys(raw: object, where: str, required: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    """`raw` as a mapping with all of the required keys and no unknown ones."""
    if not isinstance(raw, Mapping):
        raise ProfileError(f"{where}: got {short(raw)}; allowed: a JSON object with the keys {', '.join(required)}")
    missing = [key for key in required if key not in raw]
    unknown = [key for key in raw if key not in (*required, *optional)]
    if missing or unknown:
        got = f"no {missing[0]}" if missing else f"the unknown key {short(unknown[0])}"
        raise ProfileError(f"{where}: got {got}; allowed: {', '.join((*required, *optional))}")
    return raw


def read_list(raw: object, where: str, most: int) -> list[Any]:
    """`raw` if it is a list of at most `most`."""
    if not isinstance(raw, list) or len(raw) > most:
        raise ProfileError(f"{where}: got {short(raw)}; allowed: a list of at most {most:,}")
    return raw


def read_string(raw: object, where: str) -> str:
    """`raw` if it is one line of text of a sensible length."""
    if not isinstance(raw, str) or len(raw) > _MAX_CHARACTERS or not (raw.isprintable()):
        raise ProfileError(f"{where}: got {short(raw)}; allowed: a line of at most {_MAX_CHARACTERS} characters")
    return raw


def read_bool(raw: object, where: str) -> bool:
    """`raw` if it is true or false."""
    if not isinstance(raw, bool):
        raise ProfileError(f"{where}: got {short(raw)}; allowed: true or false")
    return raw


def read_whole(raw: object, where: str, least: int, most: int) -> int:
    """`raw` if it is a whole number from `least` to `most`."""
    if isinstance(raw, bool) or not isinstance(raw, int) or not least <= raw <= most:
        raise ProfileError(f"{where}: got {short(raw)}; allowed: whole numbers from {least} to {most:,}")
    return raw


def read_number(raw: object, where: str, least: float, most: float) -> float:
    """`raw` if it is a number from `least` to `most`."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not least <= raw <= most:
        raise ProfileError(f"{where}: got {short(raw)}; allowed: numbers from {least:g} to {most:g}")
    return float(cast(float, raw))


FORMAT = 1
"""Version of the format; others are refused."""

_MAX_BYTES = 64_000_000
_MAX_ENTRIES = 200_000

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
    """Tokens of those students whose `vocab_size` is None."""
    versions: Mapping[str, str]
    """Of the runtime, autodistil, Python and the operating system."""
    reference_ms: float
    """Fastest time of the kernel that neighbour load is told by: compare it between tables of one device."""
    entries: tuple[LatencyEntry, ...]
    version: int = FORMAT

    def setting(self, entry: LatencyEntry) -> RuntimeSetting:
        """How an entry was measured."""
        return RuntimeSetting(self.device.kind, self.runtime, self.threads, entry.batch, entry.seq_len)

    @property
    def busy(self) -> bool:
        """Whether some entry was measured on a busy machine."""
        return any(entry.busy for entry in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        raw = {field.name: getattr(self, field.name) for field in fields(self)}
        entries = [{**vars(entry), "student": _student_dict(entry.student)} for entry in self.entries]
        device = {**asdict(self.device), "id": self.device.id}
        return {**raw, "device": device, "versions": dict(self.versions), "entries": entries}


def read_table(path: Path) -> LatencyTable:
    """Read a table.

    Raises:
        ProfileError: there is none at `path`, or it is not one in this format.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ProfileError(f"it is larger than {_MAX_BYTES // 1_000_000} MB")
        return table_from_dict(json.loads(data.decode("utf-8"), parse_constant=_no_constant))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ProfileError(f"latency table {str(path)!r}: {reason}; write one with: autodistil profile") from None
    except (ProfileError, ValueError, RecursionError) as error:
        reason = one_line(error, 300)
        raise ProfileError(f"latency table {str(path)!r}: {reason}; write it anew with: autodistil profile") from None


def write_table(table: LatencyTable, path: Path) -> Path:
    """Write a table atomically; returns `path`.

    Raises:
        RunError: the disk refuses.
    """
    return write_text(path, json.dumps(table.to_dict(), indent=1, allow_nan=False) + "\n")


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


def table_from_dict(raw: object) -> LatencyTable:
    """A table from plain JSON types.

    Raises:
        ProfileError: a key is missing or unknown, or a value is not what it has to be.
    """
    version = raw.get("version") if isinstance(raw, Mapping) else None
    if isinstance(raw, Mapping) and version != FORMAT:
        raise ProfileError(f"version: got {short(version)}; allowed: {FORMAT}")
    top = check_keys(raw, "the table", [field.name for field in fields(LatencyTable)])
    rows = read_list(top["entries"], "entries", _MAX_ENTRIES)
    entries = tuple(_entry(row, f"entries[{i}]") for i, row in enumerate(rows))
    if len({(entry.student, entry.batch, entry.seq_len) for entry in entries}) < len(entries):
        raise ProfileError("entries: got one student twice at one batch and length")
    return LatencyTable(
        device=_device(top["device"]),
        runtime=check_runtime(read_string(top["runtime"], "runtime")),
        threads=read_whole(top["threads"], "threads", 1, MAX_THREADS),
        family=read_string(top["family"], "family"),
        vocab_size=read_whole(top["vocab_size"], "vocab_size", 1, _MAX_SIZE),
        versions=_versions(top["versions"]),
        reference_ms=read_number(top["reference_ms"], "reference_ms", 0, _MAX_MS),
        entries=entries,
    )


def student_from_dict(raw: object, where: str = "student") -> StudentConfig:
    """A student from its JSON; sizes of the embeddings may be null or missing.

    Raises:
        ProfileError: it is none.
    """
    row = check_keys(raw, where, DIMENSIONS, OPTIONAL_AXES)
    sizes = {name: read_whole(row[name], f"{where}.{name}", 1, _MAX_SIZE) for name in row if row[name] is not None}
    missing = set(DIMENSIONS) - sizes.keys()
    if missing:
        raise ProfileError(f"{where}: got no {min(missing)}")
    return StudentConfig(**sizes)


def _student_dict(student: StudentConfig) -> dict[str, int]:
    return {name: size for name, size in asdict(student).items() if size is not None}


def _device(raw: object) -> DeviceFingerprint:
    row = check_keys(raw, "device", ("id", "cpu", "cores", "os", "arch"), ("gpu",))
    names = {name: read_string(row[name], f"device.{name}") for name in ("cpu", "os", "arch")}
    gpu = row.get("gpu")
    cores = read_whole(row["cores"], "device.cores", 1, _MAX_SIZE)
    device = DeviceFingerprint(**names, cores=cores, gpu=None if gpu is None else read_string(gpu, "device.gpu"))
    if row["id"] != device.id:
        raise ProfileError(f"device: got the id {short(row['id'])}, which its description does not have")
    return device


def _versions(raw: object) -> dict[str, str]:
    if not isinstance(raw, Mapping) or len(raw) > 100:
        raise ProfileError(f"versions: got {short(raw)}; allowed: a mapping of names to versions")
    return {read_string(name, "versions"): read_string(text, "versions") for name, text in raw.items()}


def _entry(raw: object, where: str) -> LatencyEntry:
    row = check_keys(raw, where, [field.name for field in fields(LatencyEntry)])
    times = {name: read_number(row[name], f"{where}.{name}", 0, _MAX_MS) for name in ("low_ms", "median_ms", "high_ms")}
    if not 0 < times["low_ms"] <= times["median_ms"] <= times["high_ms"] < math.inf:
        raise ProfileError(f"{where}: got the times {short(times)}; allowed: 0 < low_ms <= median_ms <= high_ms")
    peak = row["peak_memory_mb"]
    return LatencyEntry(
        student=student_from_dict(row["student"], f"{where}.student"),
        batch=read_whole(row["batch"], f"{where}.batch", 1, MAX_BATCH),
        seq_len=read_whole(row["seq_len"], f"{where}.seq_len", 1, MAX_SEQ_LEN),
        rounds=read_whole(row["rounds"], f"{where}.rounds", 1, _MAX_ROUNDS),
        busy=read_bool(row["busy"], f"{where}.busy"),
        peak_memory_mb=None if peak is None else read_number(peak, f"{where}.peak_memory_mb", 0, _MAX_MB),
        file_mb=read_number(row["file_mb"], f"{where}.file_mb", 0, _MAX_MB),
        **times,
    )


def _no_constant(name: str) -> float:
    raise ValueError(f"got the number {name}; allowed: finite numbers")
