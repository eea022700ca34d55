"""`autodistil profile`: measures students, and prints the table and how far to trust it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import open_existing
from autodistil.cli.options import Json, with_flags
from autodistil.cli.terminal import print_json, print_lines, print_table, quiet_libraries

if TYPE_CHECKING:
    from autodistil.profiling.latency_table import LatencyTable
    from autodistil.profiling.profile import Profile, StudentSource


@app.command(epilog="Example: `autodistil profile --run runs/mine --runtime onnx --threads 1 --seq-len 32,128`")
@with_flags("trust_remote_code")
def profile(
    *,
    run: Annotated[Path | None, typer.Option(help="Run folder: a choice of its students.", metavar="DIR")] = None,
    student: Annotated[
        list[Path] | None, typer.Option(help="An exported student, or another encoder. Repeatable.", metavar="DIR")
    ] = None,
    students: Annotated[int, typer.Option(help="Of a run: students to measure at most.", metavar="N")] = 12,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, or ray:LABEL for a node of a Ray cluster.", metavar="NAME")
    ] = "cpu",
    runtime: Annotated[
        str,
        typer.Option(
            help="torch, torch-compile, onnx, onnx-int8, onnx-bits, openvino or openvino-int8.", metavar="NAME"
        ),
    ] = "onnx",
    threads: Annotated[int, typer.Option(help="CPU threads.", metavar="N")] = 1,
    batch: Annotated[str, typer.Option(help="Sequences of a batch, separated by commas.", metavar="N,...")] = "1",
    seq_len: Annotated[
        str | None,
        typer.Option(help="Tokens of a sequence, separated by commas (default: 128, or an image's).", metavar="N,..."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Timed rounds, 30 or more.", metavar="N")] = 30,
    memory: Annotated[bool, typer.Option(help="Measure peak memory too (a process a student).")] = True,
    out: Annotated[Path, typer.Option(help="Where the table goes.", metavar="table.json")] = Path("table.json"),
    emit: Annotated[
        Path | None,
        typer.Option(
            help="Measure nothing: write the ONNX set and its one-file runner for another device.", metavar="DIR"
        ),
    ] = None,
    options: dict[str, Any],
    json: Json = False,
) -> None:
    """Measure extracted students on a device: latency, peak memory and file size, as a table to search with."""
    from autodistil.cli.progress import TerminalProgress
    from autodistil.errors import ProfileError
    from autodistil.formats.setting import RuntimeSetting
    from autodistil.profiling.session import Plan, measure

    batches = _numbers("--batch", batch)
    lengths = [RuntimeSetting.seq_len] if seq_len is None else _numbers("--seq-len", seq_len)
    label, kind = _device(device)
    plan = Plan(runtime, kind, threads, tuple(product(batches, lengths)), rounds, memory)
    if out.is_dir():
        raise ProfileError(f"--out: got {str(out)!r}, which is a folder; give it the name of a file")
    if emit and label:
        raise ProfileError(f"device: got {device!r} with --emit; allowed: cpu, which its runner knows; choose it")
    sources, header = _sources(run, student or [], students, json, options)
    if seq_len is None and sources[0].fixed_length:
        plan = replace(plan, shapes=tuple(product(batches, [sources[0].max_length])))
    progress = TerminalProgress(stderr=json)
    if emit:
        from autodistil.profiling.emit import emit_set

        runner = emit_set(sources, plan, header, emit, progress)
        if json:
            print_json({"set": str(runner.parent), "runner": str(runner), "students": [one.name for one in sources]})
            return
        print_lines(
            f"set: {runner.parent}; copy it to the device, then there, with onnxruntime and numpy:",
            f"python {runner.name}, which writes table.json to bring back",
        )
        return
    from autodistil.profiling.latency_table import write_table
    from autodistil.profiling.profile import profile_students
    from autodistil.profiling.remote import measure_on

    run_by = partial(measure_on, label) if label else measure
    profiled = profile_students(sources, plan, header, progress, run=run_by)
    write_table(profiled.table, out)
    if json:
        print_json({**profiled.table.to_dict(), "mean_cosine": profiled.mean_cosine, "table": str(out)})
        return
    _print_entries(profiled.table)
    print_lines(*notes(profiled), f"table: {out}")


def _device(name: str) -> tuple[str | None, str]:
    """Label of the node of a Ray cluster, None for this machine, and the kind of the device."""
    from autodistil.errors import ProfileError
    from autodistil.formats.setting import DEVICES

    words = name.split(":")
    label, kind = (None, words) if words[0] != "ray" else (words[1:2], words[2:] or ["cpu"])
    if len(kind) != 1 or kind[0] not in DEVICES or label in ([], [""]):
        raise ProfileError(
            f"device: got {name[:80]!r}; allowed: {', '.join(DEVICES)}, ray:LABEL, ray:LABEL:cuda; choose one"
        )
    return label[0] if label else None, kind[0]


def _sources(
    run: Path | None, folders: list[Path], count: int, quiet: bool, options: dict[str, Any]
) -> tuple[list[StudentSource], dict[str, Any]]:
    from autodistil.errors import ProfileError
    from autodistil.formats.setting import check_whole

    if (run is None) == (not folders):
        raise ProfileError("profile: got neither --run nor --student, or both; give one of them")
    check_whole("--students", count, 10_000)
    if run is not None:
        opened = open_existing(run, quiet, options)
        from autodistil.stages.profiling import run_sources

        return run_sources(opened, count)
    quiet_libraries()
    from autodistil.stages.profiling import folder_sources

    return folder_sources(folders)


def _numbers(flag: str, text: str) -> list[int]:
    """Whole numbers separated by commas, each once."""
    from autodistil.errors import ProfileError

    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() and len(word) < 9 for word in words):
        raise ProfileError(
            f"{flag}: got {text[:80]!r}; allowed: whole numbers separated by commas, such as 1,8; correct it"
        )
    return list(dict.fromkeys(map(int, words)))


def _print_entries(table: LatencyTable) -> None:
    unit = "thread" if table.threads == 1 else "threads"
    rows = []
    for entry in table.entries:
        peak = "-" if entry.peak_memory_mb is None else f"{entry.peak_memory_mb:,.1f}"
        times = (f"{entry.median_ms:.2f}", f"{entry.low_ms:.2f} - {entry.high_ms:.2f}")
        what = (entry.student.label, str(entry.batch), str(entry.seq_len))
        rows.append((*what, *times, peak, f"{entry.file_mb:,.1f}", "busy" if entry.busy else ""))
    right = ("batch", "length", "median ms", "95 % interval", "peak MB", "file MB", "")
    title = f"{table.device}; {table.runtime}, {table.threads} {unit}"
    print_table(title, ("student", *right), rows, right=right, no_wrap=True)


def notes(profile: Profile) -> list[str]:
    """What to say about neighbour load and about quantised outputs."""
    from autodistil.formats import FORMATS

    entries, found = profile.table.entries, []
    busy = sum(entry.busy for entry in entries)
    if busy:
        found.append(
            f"the machine was busy: {busy} of {len(entries)} entries were disturbed by other work in spite of three "
            "repetitions, and their times are too long or scatter; close other programs and profile again"
        )
    if FORMATS[profile.table.runtime].min_cosine is not None:
        found.append(
            f"cosine of quantised outputs with PyTorch's: {profile.mean_cosine:.3f} (the lowest student's mean)"
        )
    return found
