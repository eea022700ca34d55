"""How near does a SuperLM step come to a GPU's limit, and what share of it is the relation loss?

    python benchmarks/gpu.py                        12 x 768 teacher, three SuperLMs, 64 x 512 and 256 x 128 tokens
    python benchmarks/gpu.py --lengths 512 --rounds 9

The limit is what a matrix product of 8,192 x 8,192 bfloat16 numbers reaches in the same process, and beside it the
peak that the vendor states. Floating-point operations are counted by PyTorch while a step runs, the loss's own left
out. The loss's share is of the time of all kernels, from PyTorch's profiler. Weights are random: no figure depends on
them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any

import torch
from bench_common.options import arguments, common_settings, parse, record_path
from bench_common.record import Row, print_table, write_record
from bench_common.timing import Spread, take_turns
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, BertConfig

from autodistil.data.batch import Batch
from autodistil.models.attention import use_tapped_attention
from autodistil.models.families import family_of
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher
from autodistil.objectives.objective import resolve_objective
from autodistil.space.files import load_space
from autodistil.training.recipe import Recipe
from autodistil.training.trainer import SuperLMTrainer, train_step

STATED_PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations a second, by the name of the GPU."""
TOKENS = 32_768
"""Of a step, for each student."""
RECIPE = Recipe(1_000_000, 1, 1e-4, 0.0, 0.01, 1.0, "sandwich", False, 2, 0, "bf16")
LOSS_KERNELS = ("_forward_kernel", "_backward_kernel")


def random_bert(device: str) -> Teacher:
    """A 12 x 768 teacher."""
    config = BertConfig()
    model = AutoModel.from_config(config)
    model.pooler = None
    use_tapped_attention(model)
    model.requires_grad_(False).eval().to(device)
    tokenizer: Any = None
    return Teacher("random", None, model, family_of(config), tokenizer, False, "")


class Step:
    """A step of three SuperLMs on random tokens; the same students every time."""

    def __init__(self, teacher: Teacher, length: int) -> None:
        self.teacher = teacher
        space = load_space("bert-base")
        widths = {student.attention_width for sub in space.sub_spaces for student in sub.architectures}
        objective = resolve_objective("relation-kl", None, teacher.dims.attention_width, widths)
        superlms = [SuperLM.from_teacher(teacher, sub) for sub in space.sub_spaces]
        self.trainers = [SuperLMTrainer(superlm, RECIPE, objective) for superlm in superlms]
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(1_000, 30_000, (TOKENS // length, length), generator=generator)
        self.batch: Batch = {"input_ids": ids.to(teacher.model.device)}

    def __call__(self) -> None:
        """Run it to its end."""
        for trainer in self.trainers:
            trainer.steps_done = 0
        train_step(self.trainers, self.teacher, iter([self.batch]), None)
        torch.cuda.synchronize()


def matrix_product_peak(rounds: int) -> float:
    """Operations a second of a large bfloat16 product."""
    size = 8_192
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def product() -> None:
        for _ in range(20):
            a @ b
        torch.cuda.synchronize()

    seconds = take_turns({"product": product}, rounds)["product"]
    return 20 * 2 * size**3 / Spread.of(seconds).median


def operations_of(step: Step) -> int:
    """Floating-point operations of the products of a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def kernels_of(step: Step) -> Counter[str]:
    """Microseconds of each kernel of a step."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step()
    times: Counter[str] = Counter()
    for event in profiled.key_averages():
        times[event.key] += event.self_device_time_total
    return times


def measure(name: str, step: Step, rounds: int, peak: float) -> Row:
    """A row of the table; the kernels that take longest are printed."""
    seconds = take_turns({name: step}, rounds, warm_up=3)[name]
    stated = next((value for gpu, value in STATED_PEAK.items() if gpu in torch.cuda.get_device_name()), None)
    operations, kernels = operations_of(step), kernels_of(step)
    loss = sum(time for kernel, time in kernels.items() if kernel.startswith(LOSS_KERNELS))
    torch.cuda.reset_peak_memory_stats()
    step()
    for kernel, time in kernels.most_common(12):
        print(f"  {name}: {time / 1e3:8.2f} ms  {kernel[:110]}")
    rates = [operations / s for s in seconds]
    return {
        "case": name,
        "step ms": Spread.of([1e3 * s for s in seconds]),
        "TFLOP": operations / 1e12,
        "TFLOP/s": Spread.of([rate / 1e12 for rate in rates]),
        "% of measured peak": Spread.of([100 * rate / peak for rate in rates]),
        "% of stated peak": Spread.of([100 * rate / stated for rate in rates]) if stated else None,
        "goal %": 40,
        "loss, % of kernels": 100 * loss / max(1, sum(kernels.values())),
        "kernels, % of step": 100 * sum(kernels.values()) / 1e6 / Spread.of(seconds).median,
        "GB": torch.cuda.max_memory_allocated() / 1e9,
    }


def main(options: argparse.Namespace) -> int:
    """Measure, print and keep."""
    if not torch.cuda.is_available():
        print("not measured: there is no CUDA device here")
        return 0
    peak = matrix_product_peak(options.rounds)
    print(f"{torch.cuda.get_device_name()}: {peak / 1e12:.0f} TFLOP/s in a product of 8,192 x 8,192 x 8,192")
    teacher = random_bert("cuda")
    rows = [measure(f"length {length}", Step(teacher, length), options.rounds, peak) for length in options.lengths]
    print_table(rows)
    settings = common_settings(options) | {"gpu": torch.cuda.get_device_name(), "peak": peak, "tokens": TOKENS}
    print(write_record(record_path(options, "gpu"), rows, settings))
    return 0


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 128], help="tokens of a sequence [512 128]")
    sys.exit(main(parse(parser)))
