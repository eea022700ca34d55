"""How fast is a SuperLM step, beside the paper's recipe, plain modules and other people's libraries?

    python benchmarks/step.py                                  a quick look
    python benchmarks/step.py --size real                      16 x 128 tokens
    python benchmarks/step.py --size real --peers install      with the peers, in environments of their own

K = 3 SuperLMs of the default teacher, four students each by the sandwich rule, the same students in every case and
round, fp32 unless --precision says otherwise. Ratios are of times in one round; above one, autodistil is the faster.
`peers.py` beside `step_cases/` says what each peer runs. Peak memory is that of a process that only trains that way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from bench_common.memory import peak_of
from bench_common.options import arguments, common_settings, parse, record_path
from bench_common.picture import write_picture
from bench_common.record import Row, print_table, write_record
from bench_common.timing import CLOCKS, Spread, ratio, take_turns
from step_cases.paper import PaperRecipe
from step_cases.parts import shares
from step_cases.peers import PEERS, open_peers
from step_cases.setting import Setting
from step_cases.single import single_student
from step_cases.students import PlainModules, Slices

from autodistil.training.trainer import train_step

SIZES = {"quick": (2, 64), "real": (16, 128)}
"""Sequences and tokens of each."""
_RATIOS = [
    ("whole step: the paper's recipe", "paper", "ours", 2.0),
    ("students forward + backward: plain modules", "plain", "slices", 1 / 1.05),
]


def ours(setting: Setting) -> Callable[[], None]:
    """Our step of all three SuperLMs."""
    trainers = setting.trainers(setting.superlms())

    def step() -> None:
        for trainer in trainers:
            trainer.steps_done = 0  # the same students in every round
        train_step(trainers, setting.teacher, iter([setting.inputs]), None)

    return step


def paper(setting: Setting, superlms: int = 3) -> Callable[[], None]:
    """The paper's step of so many SuperLMs, the largest ones."""
    recipe = PaperRecipe(setting, setting.superlms()[-superlms:])
    return lambda: void(recipe.step(setting.students[-superlms:]))


def void(_: Any) -> None:
    """A case that says no time of its own."""


def train_alone(name: str, setting: Setting, threads: int) -> None:
    """Two steps in a process of its own, to see its memory."""
    torch.set_num_threads(threads)
    step = ours(setting) if name == "autodistil, K = 3" else paper(setting, 1)
    step()
    step()


def memory(setting: Setting) -> dict[str, int]:
    """Peak of each way of training in MB, Python and teacher included."""
    names = ("autodistil, K = 3", "the paper's recipe, the largest SuperLM alone")
    fresh, threads = replace(setting), torch.get_num_threads()
    return {name: round(peak_of(train_alone, name, fresh, threads) / 1e6) for name in names}


def cases(setting: Setting) -> dict[str, Callable[[], None]]:
    """Everything that runs in this process."""
    superlms = setting.superlms()
    return {
        "ours": ours(setting),
        "paper": paper(setting),
        "slices": Slices(setting, superlms, output=False).run,
        "plain": PlainModules(setting, superlms, output=False).run,
    }


def peer_cases(setting: Setting) -> dict[str, Callable[[], None]]:
    """What peers are compared with."""
    return {
        "slices to the end": Slices(setting, setting.superlms(), output=True).run,
        "single": single_student(setting),
    }


def rows_of(seconds: dict[str, list[float]], missing: dict[str, str], setting: Setting) -> list[Row]:
    """The table."""
    compared = [*_RATIOS, *((f"{peer.compares}: {name}", name, peer.ours, None) for name, peer in PEERS.items())]
    rows: list[Row] = []
    for label, theirs, own, goal in compared:
        if theirs in missing:
            rows.append({"case": label, "goal": goal, "why not": missing[theirs]})
        elif theirs in seconds:
            rows.append({"case": label, "times faster": ratio(seconds, theirs, own), "goal": goal})
    work = sum(map(len, setting.students)) * setting.tokens
    for name in ("ours", "paper"):
        rows.append(
            {"case": f"tokens x students a second: {name}", "rate": Spread.of([work / s for s in seconds[name]])}
        )
    return rows


def main(options: argparse.Namespace) -> int:
    """Measure, print and keep."""
    batch, length = options.tokens or SIZES[options.size]
    setting = Setting(batch, length, options.precision, options.device)
    with ExitStack() as stack:
        peers, missing = open_peers(options, setting, stack)
        work: dict[str, Any] = {**cases(setting), **(peer_cases(setting) if peers else {}), **peers}
        seconds = take_turns(work, options.rounds, clock=options.clock)
    rows = rows_of(seconds, missing, setting)
    del work
    parts = shares(setting, setting.trainers(setting.superlms()), CLOCKS[options.clock], options.rounds)
    peak = memory(setting)
    print_table(rows)
    print(f"share of our step, percent: {parts}\npeak memory, MB: {peak}")
    settings = common_settings(options) | {"batch": setting.batch, "length": setting.length}
    settings |= {"precision": setting.precision, "device": setting.device}
    path = record_path(options, f"step-{setting.precision}-{setting.device}")
    write_record(path, rows, settings, seconds=seconds, percent_of_step=parts, peak_mb=peak)
    write_picture(path.with_suffix(".png"), rows, "times faster", "SuperLM step: their time over ours")
    print(path)
    return 0


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of teacher and students [fp32]")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="[%(default)s]")
    parser.add_argument("--tokens", type=int, nargs=2, metavar=("BATCH", "LENGTH"), help="instead of the size's own")
    sys.exit(main(parse(parser)))
