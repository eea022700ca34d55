"""How fast is the relation loss with its gradient, beside autograd, and what memory does it take?

    python benchmarks/loss.py                   a quick look
    python benchmarks/loss.py --size real       lengths 128, 512 and 2,048; 12 and 48 relation heads

Both compute MiniLMv2's KL of one kind of relation and its gradient, on the same random states of a 12 x 32 (12 heads)
or 48 x 16 (48 heads) wide layer. Memory is the peak of a process of its own, less that of the same one without work.
The next student is one that is compared with a teacher on a batch on which another student was before it, as all but
the first are in a step of SuperLMs: what is formed of the teacher is kept, where it fits into 16 MB.
On a GPU the closed form runs as a Triton kernel where Triton is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from bench_common.memory import peak_of
from bench_common.options import arguments, common_settings, parse, record_path
from bench_common.picture import write_picture
from bench_common.record import Row, print_table, write_record
from bench_common.timing import ratio, take_turns
from torch import Tensor

from autodistil.objectives.relation_kl import KeptRelations, relation_kl, relation_kl_autograd

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
LOSSES: dict[str, Loss] = {"autodistil": relation_kl, "autograd": relation_kl_autograd}


@dataclass(frozen=True)
class Shape:
    """States of one layer, (batch, heads, length, width)."""

    heads: int
    length: int
    width: int
    batch: int
    goal: float | None = None
    """How many times faster than autograd it is meant to be."""

    @property
    def label(self) -> str:
        """Name of the row."""
        return f"{self.heads} heads, length {self.length}, batch {self.batch}"


SIZES = {
    "quick": [Shape(12, 128, 32, 4, 1.8), Shape(12, 512, 32, 1, 3), Shape(48, 128, 16, 2, 5)],
    "real": [
        Shape(12, 128, 32, 16, 1.8),
        Shape(12, 512, 32, 4, 3),
        Shape(12, 2048, 32, 1),
        Shape(48, 128, 16, 8, 5),
        Shape(48, 512, 16, 2, 5),
        Shape(48, 2048, 16, 1),
    ],
}


def states(shape: Shape, device: str) -> tuple[Tensor, Tensor]:
    """Random states of student and teacher."""
    generator = torch.Generator().manual_seed(0)
    size = (shape.batch, shape.heads, shape.length, shape.width)
    student, teacher = (torch.randn(size, generator=generator).to(device) for _ in range(2))
    return student.requires_grad_(), teacher


def with_gradient(loss: Loss, student: Tensor, teacher: Tensor) -> None:
    """One forward and backward."""
    student.grad = None
    loss(student, teacher, None).backward()
    if student.is_cuda:
        torch.cuda.synchronize()


def alone(name: str | None, shape: Shape, threads: int) -> None:
    """What is done in a process of its own, to see its memory; None: only the states."""
    torch.set_num_threads(threads)
    student, teacher = states(shape, "cpu")
    if name is not None:
        with_gradient(LOSSES[name], student, teacher)


def cuda_peak(name: str, shape: Shape) -> int:
    """Bytes that the work adds to what the states take."""
    student, teacher = states(shape, "cuda")
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with_gradient(LOSSES[name], student, teacher)
    return torch.cuda.max_memory_allocated() - before


def peaks(shape: Shape, device: str) -> dict[str, int]:
    """Megabytes beyond the states themselves."""
    if device == "cuda":
        return {name: round(cuda_peak(name, shape) / 1e6) for name in LOSSES}
    threads = torch.get_num_threads()
    idle = peak_of(alone, None, shape, threads)
    return {name: round((peak_of(alone, name, shape, threads) - idle) / 1e6) for name in LOSSES}


def measure(shape: Shape, rounds: int, device: str, clock: str) -> Row:
    """One row: times in turns, then memory."""
    student, teacher = states(shape, device)
    losses = LOSSES | {"next": partial(relation_kl, kept=KeptRelations())}
    cases = {name: lambda loss=loss: with_gradient(loss, student, teacher) for name, loss in losses.items()}
    seconds = take_turns(cases, rounds, clock=clock)
    memory = peaks(shape, device)
    return {
        "case": shape.label,
        "times faster": ratio(seconds, "autograd", "autodistil"),
        "goal": shape.goal,
        "next student, times faster": ratio(seconds, "autograd", "next"),
        "autodistil ms": 1e3 * sorted(seconds["autodistil"])[rounds // 2],
        "autograd ms": 1e3 * sorted(seconds["autograd"])[rounds // 2],
        "autodistil MB": memory["autodistil"],
        "autograd MB": memory["autograd"],
    }


def main() -> int:
    """Measure, print and keep."""
    parser = arguments(__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="[%(default)s]")
    options = parse(parser)
    rows = [measure(shape, options.rounds, options.device, options.clock) for shape in SIZES[options.size]]
    print_table(rows)
    name = "loss" if options.device == "cpu" else "loss-cuda"
    path = write_record(record_path(options, name), rows, common_settings(options) | {"device": options.device})
    write_picture(
        path.with_suffix(".png"), rows, "times faster", "Relation loss and gradient: autograd's time over ours"
    )
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
