"""How long does our training take to reach the held-out loss that the paper's recipe reaches in a given time?

    python benchmarks/until.py                              scaled down: 15 seconds of the paper's recipe
    python benchmarks/until.py --size real --minutes 20     20 minutes of it

Both train the three SuperLMs of the default space on the same batches of documentation prose, from the same start (the
teacher in importance order, which the paper does not have) with the same objective. The paper's recipe is run at its
published rate of 4e-5 and at ours of 1e-3, to tell speed from rate; rates are constant after ours has warmed up for
ten steps. The loss is the mean over the largest and smallest students of all SuperLMs on held-out text; the time that
it takes to score is left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from bench_common.options import arguments, common_settings, parse, record_path
from bench_common.record import Row, print_table, write_record
from bench_common.timing import CLOCKS
from step_cases.paper import PaperRecipe
from step_cases.setting import Setting
from torch import Tensor

from autodistil.data.batch import Batch
from autodistil.models.superlm import SuperLM
from autodistil.run.run import Run
from autodistil.stages.training import trainer_of
from autodistil.training.recipe import Recipe
from autodistil.training.sampling import draw_students
from autodistil.training.trainer import train_step

Step = Callable[[int, Batch], None]
SIZES = {"quick": {"batch_size": 2, "seq_len": 64, "heldout_sequences": 8}, "real": {"batch_size": 16}}
SECONDS = {"quick": 15.0, "real": 1200.0}
PAPER_RATE, OUR_RATE = 4e-5, 1e-3


@dataclass
class Race:
    """One way of training, with the time that its steps took."""

    superlms: list[SuperLM]
    step: Step
    clock: Callable[[], float]
    seconds: float = 0.0
    steps: int = 0
    curve: list[tuple[float, float]] = field(default_factory=list)

    def advance(self, run: Run) -> None:
        """One step on the batch that every race sees at that step."""
        (batch,) = run.inputs.text.micro_batches(self.steps)
        begun = self.clock()
        self.step(self.steps, batch)
        self.seconds += self.clock() - begun
        self.steps += 1

    def score(self, run: Run) -> None:
        """Put the held-out loss of now on the curve."""
        ends = [(s, student) for s in self.superlms for student in (s.sub_space.largest, s.sub_space.smallest)]
        loss = sum(run.scorer.heldout().loss(superlm, student) for superlm, student in ends) / len(ends)
        self.curve.append((round(self.seconds, 2), round(loss, 5)))


def ours(run: Run, clock: Callable[[], float]) -> Race:
    """Our training."""
    superlms = [run.superlms.new(sub) for sub in run.inputs.space.sub_spaces]
    recipe = Recipe(1_000_000, 1, OUR_RATE, 1e-5, 0.01, 1.0, "sandwich", False, 2, 0, "fp32")
    trainers = [trainer_of(run.inputs, superlm, recipe) for superlm in superlms]

    def step(_: int, batch: Batch) -> None:
        train_step(trainers, run.inputs.ordered_teacher, iter([batch]), None)

    return Race(superlms, step, clock)


def paper(run: Run, clock: Callable[[], float], learning_rate: float) -> Race:
    """The paper's recipe."""
    superlms = [run.superlms.new(sub) for sub in run.inputs.space.sub_spaces]
    setting = Setting(run.inputs.text.batch_size, run.config.seq_len)
    setting.__dict__.update(teacher=run.inputs.ordered_teacher, objective=run.inputs.objective)
    training = PaperRecipe(setting, superlms, learning_rate)

    def step(number: int, batch: Batch) -> None:
        students = [draw_students(superlm.sub_space, setting.recipe, number) for superlm in superlms]
        inputs: dict[str, Tensor] = dict(batch)
        training.step(students, inputs)

    return Race(superlms, step, clock)


def raced(run: Run, options: argparse.Namespace) -> tuple[list[Row], dict[str, list[tuple[float, float]]]]:
    """All races at once, each step by the one that has used the least time: what disturbs one disturbs all."""
    budget = 60 * options.minutes if options.minutes else SECONDS[options.size]
    clock = CLOCKS[options.clock]
    papers = {rate: paper(run, clock, rate) for rate in (PAPER_RATE, OUR_RATE)}
    own = ours(run, clock)
    running = [*papers.values(), own]
    for race in running:
        race.score(run)
    while running:
        race = min(running, key=lambda race: race.seconds)
        race.advance(run)
        done = race.seconds >= budget
        if done or (race is own and race.steps % options.every == 0):
            race.score(run)
        if done:
            running.remove(race)
    curves = {f"paper at {rate:g}": race.curve for rate, race in papers.items()} | {"autodistil": own.curve}
    return [_row(rate, budget, race.curve[-1][1], own.curve) for rate, race in papers.items()], curves


def _row(rate: float, budget: float, goal: float, own: list[tuple[float, float]]) -> Row:
    reached = next((seconds for seconds, loss in own if loss <= goal), None)
    row = {"case": f"the paper's recipe at {rate:g}", "its seconds": budget, "its loss": goal, "goal": 0.2}
    share = {"share": "not reached"} if reached is None else {"our seconds": reached, "share": reached / budget}
    return row | share | {"our loss at the end": own[-1][1]}


def main(options: argparse.Namespace) -> int:
    """Measure, print and keep."""
    layer = {**SIZES[options.size], "objective": "relation-kl", "text_unit": "sequences"}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        rows, curves = raced(Run.open(Path(folder) / "run", layer), options)
    print_table(rows)
    print(write_record(record_path(options, "until"), rows, common_settings(options) | layer, curves=curves))
    return 0


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, metavar="M", help="of the paper's recipe [15 seconds, real: 20]")
    parser.add_argument("--every", type=int, default=2, metavar="N", help="our steps between scores [%(default)s]")
    sys.exit(main(parse(parser)))
