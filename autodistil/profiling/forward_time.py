"""What a forward of a student takes beside one of its teacher, on this machine, for the model card.

In this process and by the rules of `profiling.stopwatch`, but in few rounds: enough to judge by, not to hold a budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from transformers import PreTrainedModel

from autodistil.data.batch import Batch
from autodistil.profiling.fingerprint import this_device
from autodistil.profiling.stopwatch import Stopwatch, Timing, call_of, reference_kernel

ROUNDS = 10


@dataclass(frozen=True)
class ForwardTimes:
    """Times of one forward in PyTorch, batch 1."""

    student: Timing
    teacher: Timing
    inputs: str
    """What was read, in words."""
    device: str
    """Processor or accelerator, in words."""
    threads: int

    @property
    def where(self) -> str:
        """How it was measured."""
        threads = f"{self.threads} {'thread' if self.threads == 1 else 'threads'}"
        busy = ", while other work disturbed it" if self.student.busy or self.teacher.busy else ""
        return f"PyTorch {torch.__version__} on {self.device}, {threads}, {self.student.rounds} rounds in turns{busy}"


def forward_times(student: PreTrainedModel, teacher: PreTrainedModel, seq_len: int) -> ForwardTimes:
    """Time both on the device that the student lies on.

    Args:
        student: in eval mode.
        teacher: gives class and config alone; weights do not matter for time, and its attention may be tapped.
        seq_len: tokens of the one text; images have the size that the model reads.
    """
    device = student.device
    with torch.random.fork_rng(devices=[]):
        plain = type(teacher)(type(teacher.config).from_dict(teacher.config.to_dict())).eval().to(device)
    if getattr(teacher, "pooler", None) is None and getattr(plain, "pooler", None) is not None:
        plain.pooler = None
    words, inputs = _inputs(student, seq_len)
    calls = [call_of(partial(model, **inputs), events=device.type == "cuda") for model in (student, plain)]
    with torch.no_grad():
        timed = Stopwatch(reference_kernel(device.type), rounds=ROUNDS).measure(calls).timings
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    found = this_device(name)
    where = name or f"{found.cpu} ({found.cores} cores, {found.os} {found.arch})"
    return ForwardTimes(timed[0], timed[1], words, where, torch.get_num_threads())


def _inputs(model: PreTrainedModel, seq_len: int) -> tuple[str, Batch]:
    """One text or image, as a model reads, in words and on the model's device."""
    if model.main_input_name == "pixel_values":
        size, channels = model.config.image_size, model.config.num_channels
        image = torch.zeros(1, channels, size, size, device=model.device)
        return f"one image of {size} x {size}", {"pixel_values": image}
    ids = torch.full((1, seq_len), 10, device=model.device)
    return f"1 x {seq_len} tokens", {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
