"""What does Ray cost a training step? Workers under Ray Train against the same workers under torchrun, and one process.

    python benchmarks/cluster.py                           1 and 2 workers of 1 thread on a small teacher: some minutes
    python benchmarks/cluster.py --teacher all-MiniLM-L6-v2 --space minilm-l6-h384 --batch 16 --seq-len 128 --steps 12
    python benchmarks/cluster.py --sheet-only --step-seconds 0.12 --samples 256 --mbytes 85 56 110

Every way runs the same loop (`training.trainer.train`) on the same batches and the same flat all-reduces of gloo, which
is what DistributedDataParallel does with one bucket; its wrapper itself knows no students that use part of the
parameters. Times are medians between steps on the first worker. Below the table stands the sheet of
`bench_common.scaling` for 8, 64 and 512 workers, from the one-process step and the gradients' size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from bench_common.scaling import MeasuredStep, sheet

WARM_UP = 2
"""First steps, which are not counted."""
BANDWIDTHS = {"300 GB/s within a node (NVLink), 40 GB/s between nodes (400 Gbit/s)": (300e9, 40e9)}
BANDWIDTHS |= {"20 GB/s within a node (PCIe), 2.5 GB/s between nodes (25 Gbit/s)": (20e9, 2.5e9)}


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--teacher", default="small", help="of autodistil, or small: a random BERT of 4 layers x 128 [default]")
    add("--space", default="auto", help="search space [default: auto]")
    add("--batch", type=int, default=8, help="texts of a step, of all workers together [default: 8]")
    add("--seq-len", type=int, default=64, help="tokens a text [default: 64]")
    add("--steps", type=int, default=10, help="steps, of which the first 2 are not counted [default: 10]")
    add("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers [default: 1 2]")
    add("--sheet-only", action="store_true", help="print the sheet for --step-seconds, --samples and --mbytes")
    add("--step-seconds", type=float, help="measured step of one worker")
    add("--samples", type=int, help="texts of that step")
    add("--mbytes", type=float, nargs="+", help="gradients of each SuperLM, in 1,000,000 bytes")
    add("--torchrun-worker", type=Path, help=argparse.SUPPRESS)
    return parser


@dataclass(frozen=True)
class Step:
    """A step of the first worker: medians."""

    seconds: float
    cpu_seconds: float
    """That its process computed: what a busy machine does not change much."""


@dataclass(frozen=True)
class Clock:
    """Notes when the first worker ended each step; as `after_step` of a training it runs in the workers."""

    path: Path

    def __call__(self, rank: int, step: int) -> None:
        """Note a step."""
        if rank == 0:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{time.time()} {time.process_time()}\n")

    def median(self) -> Step:
        """Between two steps."""
        rows = [line.split() for line in self.path.read_text().splitlines()[WARM_UP - 1 :]]
        walls, cpus = ([float(cell) for cell in column] for column in zip(*rows, strict=True))
        return Step(*(statistics.median(b - a for a, b in pairwise(times)) for times in (walls, cpus)))


def main() -> None:
    """Measure, or print the sheet for given figures."""
    options = arguments().parse_args()
    if options.torchrun_worker:
        torchrun_worker(options.torchrun_worker)
    elif options.sheet_only:
        print_sheets(MeasuredStep(options.step_seconds, options.samples, tuple(int(mb * 1e6) for mb in options.mbytes)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(options, Path(folder))


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Every way at every number of workers."""
    settings = run_settings(options, folder)
    alone = one_process(folder, settings)
    print(f"{options.batch} x {options.seq_len} tokens, {len(gradient_bytes(folder, settings))} SuperLMs\n")
    print("| way | workers | step | CPU of a worker | texts/s | efficiency |\n|---|---:|---:|---:|---:|---:|")
    print_row("one process", 1, alone, options.batch, alone)
    for workers in options.workers:
        plain = with_torchrun(folder, settings, workers)
        print_row("torchrun", workers, plain, options.batch, alone)
        on_ray = with_ray(folder, settings, workers)
        print_row("Ray Train", workers, on_ray, options.batch, alone)
        parts = (on_ray.seconds - plain.seconds, on_ray.cpu_seconds - plain.cpu_seconds)
        print(f"| Ray's part | {workers} | {' | '.join(f'{part * 1e3:+.1f} ms' for part in parts)} | | |", flush=True)
    print()
    print_sheets(MeasuredStep(alone.seconds, options.batch, gradient_bytes(folder, settings)))


def print_row(way: str, workers: int, step: Step, batch: int, alone: Step) -> None:
    """One row of the table; the batch is shared, so efficiency is against a step of alone / workers."""
    cells = [f"{step.seconds * 1e3:,.1f} ms", f"{step.cpu_seconds * 1e3:,.1f} ms", f"{batch / step.seconds:,.2f}"]
    print(f"| {way} | {workers} | {' | '.join(cells)} | {alone.seconds / step.seconds / workers:.0%} |", flush=True)


def print_sheets(measured: MeasuredStep) -> None:
    """Predictions for fast and for slow networks."""
    size = sum(measured.gradient_bytes) / 1e6
    print(f"Predicted, not measured: from a step of {measured.step_seconds:.3g} s and {size:,.0f} MB of gradients")
    for words, (inside, between) in BANDWIDTHS.items():
        print(f"\n{words}:\n")
        print(sheet(replace(measured, node_bandwidth=inside, network_bandwidth=between)))


def run_settings(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Options of the run that every way trains."""
    teacher = small_teacher(folder / "teacher") if options.teacher == "small" else options.teacher
    return {
        "teacher": str(teacher),
        "space": options.space,
        "batch_size": options.batch,
        "seq_len": options.seq_len,
        "train_steps": options.steps,
        "text_unit": "sequences",
        "threads": 1,
        "checkpoint_seconds": 1e6,
    }


def small_teacher(folder: Path) -> Path:
    """A random BERT with the packaged teacher's tokenizer."""
    from transformers import BertConfig, BertModel

    from autodistil.models.teacher import load_teacher

    torch.manual_seed(0)
    config = BertConfig(hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512)
    BertModel(config).save_pretrained(folder)
    load_teacher().tokenizer.save_pretrained(folder)
    return folder


def opened(folder: Path, settings: dict[str, Any], **more: Any) -> Any:
    """A run with its recipe recorded and its importance order there."""
    from autodistil.cli.terminal import quiet_libraries
    from autodistil.run.run import Run

    quiet_libraries()
    torch.set_num_threads(1)
    run = Run.open(folder, {**settings, **more})
    if not run.folder.exists():
        run.inputs.write_record()  # before anything else is in the folder
    _ = run.inputs.ordered_teacher
    return run


def one_process(folder: Path, settings: dict[str, Any]) -> Step:
    """Seconds of a step of one process, which also prepares the run that torchrun's workers read."""
    from autodistil.training.workers import ALONE

    run = opened(folder / "run", settings)
    run.inputs.write_record(train_steps=settings["train_steps"], corpus_content=run.inputs.text.corpus.content_hash)
    clock = Clock(folder / "alone.txt")
    train_here(run, clock, ALONE)
    return clock.median()


def train_here(run: Any, clock: Clock, workers: Any, rank: int = 0) -> None:
    """The steps of a training without checkpoints and metrics."""
    from autodistil.stages.training import recipe_of, trainer_of
    from autodistil.training.trainer import train

    recipe = recipe_of(run.config, run.config.train_steps)
    subs = run.inputs.space.sub_spaces
    trainers = [trainer_of(run.inputs, run.superlms.new(sub), recipe) for sub in subs]
    train(
        trainers,
        run.inputs.ordered_teacher,
        run.inputs.text.micro_batches,
        lambda rows: clock(rank, rows[0].step),
        workers=workers,
    )


def with_torchrun(folder: Path, settings: dict[str, Any], workers: int) -> Step:
    """Seconds of a step of so many processes of torchrun."""
    job = folder / f"torchrun-{workers}.json"
    clock = folder / f"torchrun-{workers}.txt"
    job.write_text(json.dumps({"run": str(folder / "run"), "settings": settings, "clock": str(clock)}))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, __file__, "--torchrun-worker", str(job)], check=True, env=environment)
    return Clock(clock).median()


def torchrun_worker(job: Path) -> None:
    """What each process of torchrun does."""
    import torch.distributed as dist

    from autodistil.training.workers import DistributedWorkers

    content = json.loads(job.read_text())
    dist.init_process_group("gloo")
    workers = DistributedWorkers.current()
    train_here(opened(Path(content["run"]), content["settings"]), Clock(Path(content["clock"])), workers, workers.rank)
    dist.destroy_process_group()


def with_ray(folder: Path, settings: dict[str, Any], workers: int) -> Step:
    """Seconds of a step of so many workers of Ray Train."""
    from autodistil.stages.training import recipe_of, train_on_cluster

    run = opened(folder / f"ray-{workers}", settings, workers=workers)
    recipe = recipe_of(run.config, settings["train_steps"])
    run.inputs.write_record(train_steps=recipe.steps, corpus_content=run.inputs.text.corpus.content_hash)
    clock = Clock(folder / f"ray-{workers}.txt")
    train_on_cluster(run, run.inputs.space.sub_spaces, recipe, clock)
    return clock.median()


def gradient_bytes(folder: Path, settings: dict[str, Any]) -> tuple[int, ...]:
    """Of each SuperLM: single precision, every parameter."""
    run = opened(folder / "run", settings)
    superlms = [run.superlms.new(sub) for sub in run.inputs.space.sub_spaces]
    return tuple(4 * sum(p.numel() for p in superlm.parameters.values()) for superlm in superlms)


if __name__ == "__main__":
    main()
