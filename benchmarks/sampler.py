"""How many students must be evaluated to know the front? Hypervolume against evaluations, on 20 seeds.

A space with free layers (each skipped or with a width of its own; thousands of students) over one trained SuperLM, all
real held-out losses in a table, so that the volume of full enumeration is known. Searches are replayed on the table:
autodistil's (`gp`), random, Optuna's default NSGA-II and, in an environment of its own, those of whittle 0.6.0. A
student that a search asks for again is free. Objectives: held-out loss and the logarithm of FLOPs (and FLOPs), scaled
to [0, 1] over the space, reference point (1, 1). Goal: 95 % of the volume of full enumeration with a quarter of
random's evaluations, ahead of NSGA-II. A search that ends before counts with all of its evaluations and is marked.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
from bench_common.options import arguments, parse, record_path
from bench_common.peers import PeerEnvironment, PeerMissing
from bench_common.picture import write_picture
from bench_common.record import print_table, write_record
from bench_common.timing import Spread
from numpy.typing import NDArray
from search_tables.free import RATIOS, FreeTable, free_table
from search_tables.supernets import HOME, trained_run
from search_tables.volume import evaluations_to, scaled

from autodistil.student_search.samplers.surrogate import Surrogate

SEEDS = 20
SHARES = (0.9, 0.95, 0.99)
GOAL = 0.25
WHITTLE = PeerEnvironment(
    "whittle-search",
    ("torch==2.13.0", "syne-tune[moo]==0.13.0", "litgpt==0.5.12", "tqdm", "pandas"),
    alone=("whittle==0.6.0",),  # the rest of what it asks for is for training and evaluating language models
)
WHITTLE_METHODS = ("local_search", "nsga2")
"""Its own search, and Syne Tune's NSGA-II as it sets it up; its default, random search, is in the table already."""

Rows = NDArray[np.int64]
Search = Callable[[FreeTable, int, int], Rows]
"""(table, evaluations, seed) -> the distinct students in the order of their evaluation."""


def ours(table: FreeTable, evaluations: int, seed: int) -> Rows:
    """The sampler that `auto` is in spaces that are too large to enumerate."""
    surrogate = Surrogate(table.features(), table.flops[:, None], seed)
    asked: list[int] = []
    while len(asked) < evaluations:
        asked.append(surrogate.propose(asked, table.losses[asked].tolist()))
    return np.array(asked)


def at_random(table: FreeTable, evaluations: int, seed: int) -> Rows:
    """Uniform, without replacement."""
    return np.random.default_rng(seed).permutation(len(table.losses))[:evaluations]


def optuna_nsga2(table: FreeTable, evaluations: int, seed: int) -> Rows:
    """Optuna's NSGA-II with its defaults; a student without layers gets the worst of both objectives."""
    rows = row_of(table)
    costs = np.log(table.flops)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=optuna.samplers.NSGAIISampler(seed=seed))
    asked: dict[int, None] = {}
    for _ in range(2 * evaluations):  # it asks ever more often for what it knows, and takes ever longer to
        trial = study.ask()
        chosen = [trial.suggest_int(f"axis{i}", 0, size - 1) for i, size in enumerate(sizes_of(table))]
        row = rows.get(tuple(chosen))
        study.tell(trial, [table.losses.max(), costs.max()] if row is None else [table.losses[row], costs[row]])
        if row is not None:
            asked[row] = None
        if len(asked) == evaluations:
            break
    return np.array(list(asked))


def sizes_of(table: FreeTable) -> list[int]:
    """Values of each axis."""
    return [len(table.hidden), *[len(RATIOS)] * (table.choices.shape[1] - 1)]


def row_of(table: FreeTable) -> dict[tuple[int, ...], int]:
    """Ranks of a student on all axes -> its row."""
    return {tuple(choice): row for row, choice in enumerate(table.choices.tolist())}


OURS, RANDOM, NSGA2 = "autodistil gp", "random", "optuna NSGA-II"
SEARCHES: Mapping[str, Search] = {OURS: ours, RANDOM: at_random, NSGA2: optuna_nsga2}
EVALUATIONS: Mapping[str, int] = {OURS: 60, RANDOM: 1500, NSGA2: 600, "whittle": 300}
"""Of a search at most."""


def whittle_runs(table: FreeTable, evaluations: int, seeds: int, options: argparse.Namespace) -> dict[str, list[Rows]]:
    """What whittle asks for, by method, one array a seed.

    Raises:
        PeerMissing: it cannot be had here.
    """
    if options.peers == "none":
        raise PeerMissing("left out by --peers none")
    python = WHITTLE.python(options.peer_home, options.peers == "install")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.npz"
        np.savez(path, choices=table.choices, losses=table.losses, costs=np.log(table.flops), sizes=sizes_of(table))
        settings = {"table": str(path), "evaluations": evaluations, "seeds": seeds, "methods": WHITTLE_METHODS}
        script = Path(__file__).parent / "peers" / "whittle_search.py"
        done = subprocess.run([str(python), str(script), json.dumps(settings)], capture_output=True, text=True)
    if done.returncode:
        raise PeerMissing((done.stderr.strip().splitlines() or ["no message"])[-1])
    answer = json.loads(done.stdout.splitlines()[-1])
    return {f"whittle {name}": [np.array(rows) for rows in runs] for name, runs in answer.items()}


def summary(
    name: str, runs: list[Rows], points: NDArray[np.float64], random: list[Rows], share: float
) -> dict[str, Any]:
    """One row: evaluations until `share` of the volume, and their ratio to random's by seed."""
    counts, others = ([evaluations_to(points, run, share) or len(run) for run in each] for each in (runs, random))
    ratios = [a / b for a, b in zip(counts, others, strict=True)]
    return {
        "search": name,
        "share of the volume": share,
        "evaluations": Spread.of([float(count) for count in counts]),
        "of random's": Spread.of(ratios),
        "mean of random's": round(float(np.mean(counts) / np.mean(others)), 3),
        **({"goal": GOAL} if name == OURS else {}),
        "not reached": sum(evaluations_to(points, run, share) is None for run in runs),
    }


def main() -> None:
    """Run, print and record."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, metavar="N", help="searches of each kind [3; real: 20]")
    parser.add_argument("--steps", type=int, metavar="N", help="training steps of the SuperLM [2; real: 24]")
    options = parse(parser)
    real = options.size == "real"
    seeds, steps = options.seeds or (SEEDS if real else 3), options.steps or (24 if real else 2)
    run = trained_run(HOME, steps, options.threads, "60MFLOPs", not real)
    hidden = tuple(run.inputs.space.sub_space("tiny").axes["hidden_size"]) if real else (96,)
    table = free_table(run, run.folder.path / "free.npz", hidden)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    runs = {
        name: [search(table, EVALUATIONS[name], seed) for seed in range(seeds)] for name, search in SEARCHES.items()
    }
    missing = {}
    try:
        runs |= whittle_runs(table, EVALUATIONS["whittle"], seeds, options)
    except PeerMissing as reason:
        missing["whittle"] = str(reason)
        print(f"whittle is left out: {reason}", file=sys.stderr)
    scales = {"log FLOPs": scaled(table.losses, table.flops), "FLOPs": scaled(table.losses, table.flops, log=False)}
    rows = [
        {**summary(name, each, points, runs[RANDOM], share), "cost": cost}
        for cost, points in scales.items()
        for share in SHARES
        for name, each in runs.items()
    ]
    print_table(rows)
    path = record_path(options, "sampler")
    settings = {
        "students": len(table.losses),
        "seeds": seeds,
        "train_steps": steps,
        "hidden": hidden,
        "evaluations": EVALUATIONS,
    }
    write_record(path, rows, settings, missing=missing)
    shown = [row for row in rows if row["share of the volume"] == 0.95 and row["cost"] == "log FLOPs"]
    write_picture(
        path.with_suffix(".png"), shown, "of random's", "Evaluations to 95 % of the hypervolume, of random's", GOAL
    )


if __name__ == "__main__":
    main()
