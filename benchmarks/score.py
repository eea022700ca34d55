"""How many candidates a second are scored, and how many tokens of forward does the right pick take?

Students of the default space over SuperLMs trained as the quick start trains them, real held-out text.

race      searches under several budgets, replayed on the losses text by text of all students: student-tokens of scoring
          all on everything over those of the race, over many orders of the blocks, as texts of a block depend on each
          other in the default objective; how often the pick was lost (the bound allows 5 %), and the same for
          successive halving, which has no bound
speed     all of the text for some students: against the objective batch by batch, the teacher's relations formed anew
sharing   what students with a common prefix of layers could share, in multiply-adds, by layer map
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from bench_common.options import arguments, parse, record_path
from bench_common.picture import write_picture
from bench_common.record import print_table, write_record
from bench_common.timing import Spread, ratio, take_turns
from numpy.typing import NDArray
from search_tables.supernets import HOME, trained_run
from search_tables.texts import TextTable, text_table

from autodistil.data.batch import real_tokens
from autodistil.evaluation.heldout import BLOCK_SIZE, block_sizes
from autodistil.models.layer_maps import LAYER_MAPS
from autodistil.run.run import Run
from autodistil.space.student import Candidate
from autodistil.student_search.racing import Race

GOAL = 5.0
MFLOPS = {"quick": (40, 60), "real": (100, 200, 300, 400, 500)}
PLAIN_BATCH = 64
"""Texts of a forward in the plain way, as it was before there were races."""

Rows = NDArray[np.int64]
Replay = Callable[[TextTable, Rows, Sequence[Rows]], tuple[int, int]]
"""(table, feasible students, texts of each block in the order of the blocks) -> (tokens, picked student)."""


def everything(table: TextTable, feasible: Rows) -> tuple[int, int]:
    """All students on all text."""
    best = feasible[np.argmin(table.losses[feasible].mean(1))]
    return int(table.tokens.sum()) * len(feasible), int(best)


def raced(table: TextTable, feasible: Rows, blocks: Sequence[Rows]) -> tuple[int, int]:
    """As `autodistil search --racing pick` does it."""
    students = feasible[np.argsort(table.flops[feasible], kind="stable")[::-1]]
    race = Race([len(block) for block in blocks], "pick")

    def part_of(row: int, number: int) -> NDArray[np.float64]:
        return np.asarray(table.losses[row, blocks[number]])

    scores = [race.score(partial(part_of, row)) for row in students]
    tokens = np.concatenate([[0], table.tokens[np.concatenate(blocks)].cumsum()])
    whole = [score.loss if len(score.texts) == race.texts else np.inf for score in scores]
    best = students[np.argmin(whole)]
    return int(sum(tokens[len(score.texts)] for score in scores)), int(best)


def halved(table: TextTable, feasible: Rows, blocks: Sequence[Rows]) -> tuple[int, int]:
    """Successive halving: the better half goes on to twice the text; no bound."""
    order = np.concatenate(blocks)
    size, used, alive = BLOCK_SIZE, 0, feasible
    tokens = table.tokens[order]
    spent = int(tokens[:size].sum()) * len(alive)
    while size < len(order):
        ranks = np.argsort(table.losses[alive][:, order[:size]].mean(1), kind="stable")
        alive, used, size = alive[ranks[: max(1, len(alive) // 2)]], size, min(2 * size, len(order))
        spent += int(tokens[used:size].sum()) * len(alive)
    return spent, int(alive[np.argmin(table.losses[alive].mean(1))])


WAYS: dict[str, Replay] = {
    "race for the pick": raced,
    "successive halving": halved,
}


def race_rows(table: TextTable, budgets: Sequence[int], orders: int) -> Iterator[dict[str, Any]]:
    """One row a budget (MFLOPs) and way."""
    for mflops in budgets:
        feasible = np.flatnonzero(table.flops <= mflops * 1e6)
        if len(feasible) > 1:
            for name, way in WAYS.items():
                yield {
                    "what": f"{name}, {mflops} MFLOPs",
                    "students": len(feasible),
                    **_replayed(table, feasible, way, orders),
                    **({} if way is halved else {"goal": GOAL}),
                }


def _replayed(table: TextTable, feasible: Rows, way: Replay, orders: int) -> dict[str, Any]:
    whole, pick = everything(table, feasible)
    blocks = np.split(np.arange(table.losses.shape[1]), np.cumsum(block_sizes(table.losses.T))[:-1])
    shares, picks = [], 0
    for seed in range(orders):
        order = np.random.default_rng(seed).permutation(len(blocks))
        tokens, found = way(table, feasible, [blocks[number] for number in order])
        shares.append(whole / tokens)
        picks += int(found == pick)
    return {"times fewer tokens": Spread.of(shares), "same pick": f"{picks} of {orders}"}


def speed_row(run: Run, students: int, rounds: int) -> dict[str, Any]:
    """All text for some students, in turns, with and without what is kept of the teacher."""
    random = np.random.default_rng(0)
    candidates = run.inputs.space.candidates
    chosen = [candidates[i] for i in random.choice(len(candidates), students, replace=False)]
    states = _plain_states(run)

    def ours() -> None:
        for candidate in chosen:
            run.scorer.loss(run.superlms.of(candidate), candidate.config)

    def plain() -> None:
        for candidate in chosen:
            _plain_loss(run, candidate, states)

    seconds = take_turns({"ours": ours, "plain": plain}, rounds)
    return {
        "what": "all text, teacher's relations kept",
        "students": students,
        "candidates a second": Spread.of([students / second for second in seconds["ours"]]),
        "of them plainly": Spread.of([students / second for second in seconds["plain"]]),
        "times faster": ratio(seconds, "plain", "ours"),
    }


def _plain_states(run: Run) -> list[tuple[Any, Any]]:
    texts, teacher = run.inputs.heldout_texts, run.inputs.ordered_teacher
    parts = np.split(texts, range(PLAIN_BATCH, len(texts), PLAIN_BATCH))
    batches = [teacher.inputs.batch(part) for part in parts]
    return [(batch, teacher.states(batch, None, run.inputs.objective.needs_output)) for batch in batches]


@torch.no_grad()
def _plain_loss(run: Run, candidate: Candidate, states: list[tuple[Any, Any]]) -> float:
    superlm, total = run.superlms.of(candidate), 0.0
    weights = superlm.weights(candidate.config)
    for batch, theirs in states:
        ours = superlm.forward(candidate.config, batch, weights, run.inputs.objective.needs_output)
        total += len(batch["input_ids"]) * float(run.inputs.objective(ours, theirs, real_tokens(batch)))
    return total


def sharing_rows(run: Run) -> Iterator[dict[str, Any]]:
    """Times fewer multiply-adds of layers if students of one shape shared the layers that they begin with."""
    depth = run.inputs.teacher.dims.num_layers
    shape = lambda c: (c.sub_space, *(getattr(c.config, d) for d in ("hidden_size", "num_heads", "intermediate_size")))  # noqa: E731
    for name, layer_map in LAYER_MAPS.items():
        alone = shared = 0
        for _, group in groupby(sorted(run.inputs.space.candidates, key=shape), key=shape):
            students = [candidate.config for candidate in group]
            layer = students[0].encoder_weights // students[0].num_layers
            prefixes = {layer_map(s.num_layers, depth)[: i + 1] for s in students for i in range(s.num_layers)}
            alone += layer * sum(s.num_layers for s in students)
            shared += layer * len(prefixes)
        yield {
            "what": f"prefixes shared, layer map {name}",
            "students": len(run.inputs.space.candidates),
            "times fewer multiply-adds": alone / shared,
        }


def main() -> None:
    """Run, print and record."""
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=int, metavar="N", help="training steps of the SuperLMs [2; real: 24]")
    options = parse(parser)
    real = options.size == "real"
    steps = options.steps or (24 if real else 2)
    budgets = MFLOPS[options.size]
    run = trained_run(HOME, steps, options.threads, f"{budgets[-1]}MFLOPs", not real)
    table = text_table(run, run.folder.path / "texts.npz")
    rows = [
        *race_rows(table, budgets, 100 if real else 20),
        speed_row(run, 12 if real else 3, options.rounds),
        *sharing_rows(run),
    ]
    print_table(rows)
    path = record_path(options, "score")
    settings = {
        "train_steps": steps,
        "texts": table.losses.shape[1],
        "tokens": int(table.tokens.sum()),
        "batch": BLOCK_SIZE,
    }
    write_record(path, rows, settings)
    write_picture(
        path.with_suffix(".png"),
        rows,
        "times fewer tokens",
        "Student-tokens of scoring all over those of the race",
        GOAL,
    )


if __name__ == "__main__":
    main()
