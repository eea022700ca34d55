"""What does a search over students cost that nobody can list, and how many must be scored? Spaces of 10^6 to 10^20.

Layers of their own over one trained SuperLM, real held-out losses. `start`: seconds and memory of a fresh process from
the space and its costs to the first students that are to be scored. `search`: the same evaluations by evolution, by
Optuna's NSGA-II and at random (all three as run by `autodistil search --sampler`), one seed after another; the front
known is that of all students that any of them scored. Goal: a tenth of random's evaluations to 95 % of its volume;
10^20 students: under 2 s and 100 MB before the first score.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
from bench_common.options import arguments, parse, record_path
from bench_common.record import print_table, write_record
from search_tables.volume import evaluations_to, hypervolume, scaled

from autodistil import pipeline
from autodistil.costs.budget import read_budget
from autodistil.run.run import Run
from autodistil.space.files import space_from_dict, space_to_dict
from autodistil.space.shape import EncoderShape
from autodistil.space.space import SearchSpace
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.racing import Score
from autodistil.student_search.samplers import SAMPLERS
from autodistil.student_search.samplers.sampler import View
from autodistil.student_search.study import Search

HOME = Path("runs") / "benchmarks" / "layers"
GRIDS: dict[str, dict[str, Any]] = {
    "10^6": {"num_heads": [2, 6, 12], "mlp_ratio": [1, 2, 4], "hidden_size": [192, 288, 384]},
    "10^10": {"num_heads": [0, 1, 2, 4, 8, 12], "mlp_ratio": [0, 0.25, 0.5, 1, 2, 4], "hidden_size": [192, 288, 384]},
    "10^20": {
        "num_heads": {"low": 0, "high": 12, "step": 1},
        "mlp_ratio": {"low": 0, "high": 4, "step": 0.025},
        "hidden_size": {"low": 192, "high": 384, "step": 32},
    },
}
BERT = EncoderShape(vocab_size=30_522, other_embedding_rows=514, embedding_size=None, pooler=True)


def space_of(name: str) -> SearchSpace:
    """A space for the default teacher."""
    sub_space = {"per_layer": True, "num_layers": [2, 3, 4, 5, 6], "head_size": 32, **GRIDS[name]}
    return space_from_dict({"name": name, "sub_spaces": {"base": sub_space}}, name)


def problem_of(name: str, *budgets: str) -> SearchProblem:
    """Students and costs."""
    return SearchProblem(space_of(name), BERT, tuple(map(read_budget, budgets)), 128)


def started(name: str) -> dict[str, Any]:
    """Seconds and memory of this process until the first students are proposed."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    sampler = SAMPLERS["evolution"](problem_of(name, "300MFLOPs"), 200, 0)
    proposed = sampler.propose(View({}, set(), 0, lambda _: []))
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    students = float(sum(sub.num_combinations for sub in sampler.problem.space.sub_spaces))
    return {"students": students, "proposed": len(proposed), "seconds": seconds, "MB": (after - before) / 1024}


def searched(run: Run, name: str, sampler: str, trials: int, seed: int, known: dict[str, Score]) -> list[str]:
    """Ids in the order of their evaluation; scores of all searches are shared, as they cost seconds each."""
    run.superlms.trained("base")

    def score(students: Any) -> Any:
        for candidate, _ in students:
            if candidate.id not in known:
                loss = run.scorer.loss(run.superlms.of(candidate), candidate.config)
                known[candidate.id] = Score(float(loss), (float(loss),))
            yield known[candidate.id]

    with TemporaryDirectory() as folder:
        search = Search(problem_of(name), f"{folder}/study.db", "study")
        try:
            return list(search.run(score, sampler, trials, seed))
        finally:
            search.close()


def main() -> None:
    """Run, print and record."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, metavar="N", help="searches of each kind [1; real: 3]")
    parser.add_argument("--trials", type=int, metavar="N", help="students a search scores [40; real: 200]")
    parser.add_argument("--steps", type=int, metavar="N", help="training steps of the SuperLM [2; real: 24]")
    parser.add_argument("--spaces", nargs="+", choices=tuple(GRIDS), default=list(GRIDS), help="[all]")
    parser.add_argument("--start-of", metavar="SPACE", help="measure this process only, and print it as JSON")
    options = parse(parser)
    if options.start_of:
        print(json.dumps(started(options.start_of)))
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    real = options.size == "real"
    rounds = [(name, _alone(name)) for _ in range(options.rounds if real else 1) for name in GRIDS]
    starts = [{"space": name, **_median([found for one, found in rounds if one == name])} for name in GRIDS]
    print_table(starts)
    HOME.mkdir(parents=True, exist_ok=True)
    path = HOME / "space.yaml"
    path.write_text(json.dumps(space_to_dict(space_of("10^20"))))
    steps = options.steps or (24 if real else 2)
    quick = {} if real else {"heldout_sequences": 12, "batch_size": 4}
    given = {"train_steps": steps, "space": str(path), "threads": options.threads, **quick}
    run = Run.open(HOME / f"steps{steps}{'-quick' * (not real)}", given)
    pipeline.train(run, resume=True)
    rows = [
        row
        for name in options.spaces
        for row in _compared(run, name, options.trials or (200 if real else 40), options.seeds or (3 if real else 1))
    ]
    print_table(rows)
    settings = {"train_steps": steps, "grids": GRIDS, "starts": starts}
    write_record(record_path(options, "layers"), rows, settings)


def _alone(name: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--start-of", name], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _median(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: round(float(np.median([one[key] for one in found])), 3) for key in found[0]}


def _compared(run: Run, name: str, trials: int, seeds: int) -> list[dict[str, Any]]:
    known: dict[str, Score] = {}
    runs = {
        (sampler, seed): searched(run, name, sampler, trials, seed, known)
        for seed in range(seeds)
        for sampler in ("evolution", "nsga2", "random")
    }
    ids = list(known)
    costs = problem_of(name).including(ids).table.loc[ids, "flops"].to_numpy(dtype=float)
    points = scaled(np.array([known[one].loss for one in ids]), costs)
    places = {one: place for place, one in enumerate(ids)}
    orders = {key: np.array([places[one] for one in asked]) for key, asked in runs.items()}
    whole = hypervolume(points)
    rows = []
    for (sampler, seed), order in orders.items():
        random_share = hypervolume(points[orders["random", seed]]) / whole
        below = [known[ids[place]].loss for place in order if costs[place] <= 300e6]
        rows.append(
            {
                "space": name,
                "search": sampler,
                "seed": seed,
                "scored": len(order),
                "of the volume known": round(hypervolume(points[order]) / whole, 3),
                "to all that random finds": evaluations_to(points, order, random_share - 1e-9),
                "to 95%": evaluations_to(points, order, 0.95),
                "best under 300MFLOPs": round(min(below, default=np.nan), 4),
            }
        )
    return rows


if __name__ == "__main__":
    main()
