"""What forwards of students take beside one of their teacher, on this machine: enough to choose by.

In this process and by the rules of `profiling.stopwatch`, but in few rounds: not enough to hold a budget. What other
work disturbed is measured once more, unless that disturbed everything, and left out where it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from transformers import PreTrainedModel

from autodistil.costs.speed import Milliseconds, Speed
from autodistil.data.batch import Batch
from autodistil.formats.inputs import inputs_of
from autodistil.profiling.fingerprint import this_device
from autodistil.profiling.stopwatch import Call, Stopwatch, Timing, call_of, reference_kernel

ROUNDS, TRIES = 10, 2
_SIZE = 256
"""Of the reference kernel: about a millisecond on one core."""


def forward_speeds(
    students: Sequence[PreTrainedModel], teacher: PreTrainedModel, seq_len: int, stopwatch: Stopwatch | None = None
) -> list[Speed | None]:
    """Time students and their teacher in turns, on the device that the first student lies on.

    Args:
        students: in eval mode, on one device.
        teacher: gives class and config alone; weights do not matter for time, and its attention may be tapped.
        seq_len: tokens of the one text; images have the size that the model reads.
        stopwatch: times them.

    Returns:
        A value for each student; None where it or the teacher could not be timed undisturbed.
    """
    device = students[0].device
    stopwatch = stopwatch or Stopwatch(_reference(device), rounds=ROUNDS, repeats=1)
    words = _inputs(students[0], seq_len)[0]
    calls = [
        call_of(partial(model, **_inputs(model, seq_len)[1]), events=device.type == "cuda")
        for model in (_plain(teacher, device), *students)
    ]
    found: list[Speed | None] = [None] * len(students)
    for _ in range(TRIES):
        missing = [number for number, speed in enumerate(found) if speed is None]
        with torch.no_grad():
            theirs, *ours = stopwatch.measure([calls[0], *(calls[1 + number] for number in missing)]).timings
        for number, timing in zip(missing, ours, strict=True):
            if not (timing.busy or theirs.busy):
                found[number] = Speed(_milliseconds(timing), _milliseconds(theirs), words, where_timed(device))
        if None not in found or all(timing.busy for timing in (theirs, *ours)):
            break
    return found


def where_timed(device: torch.device) -> str:
    """With what and on what `forward_speeds` measures there."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    found, threads = this_device(name), torch.get_num_threads()
    words = name or f"{found.cpu} ({found.cores} cores, {found.os} {found.arch})"
    return f"PyTorch {torch.__version__} on {words}, {threads} {'thread' if threads == 1 else 'threads'}"


def _plain(teacher: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """A model of the teacher's class and sizes as a user would run it."""
    with torch.random.fork_rng(devices=[]):
        plain = type(teacher)(type(teacher.config).from_dict(teacher.config.to_dict())).eval().to(device)
    if getattr(teacher, "pooler", None) is None and getattr(plain, "pooler", None) is not None:
        plain.pooler = None
    return plain


def _reference(device: torch.device) -> Call:
    """The reference kernel on torch's own threads: NumPy's go on spinning for a while and would disturb them."""
    if device.type == "cuda":
        return reference_kernel("cuda")
    left, right = torch.randn(2, _SIZE, _SIZE, generator=torch.Generator().manual_seed(0))
    out = torch.empty_like(left)
    return call_of(lambda: torch.mm(left, right, out=out))


def _milliseconds(timing: Timing) -> Milliseconds:
    return timing.median_ms, timing.low_ms, timing.high_ms


def _inputs(model: PreTrainedModel, seq_len: int) -> tuple[str, Batch]:
    """One text or image, as a model reads, in words and on the model's device; ids are those of its own vocabulary."""
    kind = inputs_of(model)
    inputs = kind.random(1, seq_len)
    return kind.words(inputs), {name: torch.from_numpy(array).to(model.device) for name, array in inputs.items()}
