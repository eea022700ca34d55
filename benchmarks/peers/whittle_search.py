"""whittle's searches replayed on a table of losses and costs; run by benchmarks/sampler.py in whittle's environment."""

import json
import sys

import numpy as np
from syne_tune.config_space import randint
from whittle.search import multi_objective_search


def distinct(settings: dict, table: dict, method: str, seed: int) -> list[int]:
    """The students that a search asks for, each once, in order."""
    rows = {tuple(choice): row for row, choice in enumerate(table["choices"].tolist())}
    worst = float(table["losses"].max()), float(table["costs"].max())
    asked: dict[int, None] = {}

    def objective(config: dict) -> tuple[float, float]:
        row = rows.get(tuple(config[f"axis{i}"] for i in range(len(table["sizes"]))))
        if row is None:  # a student without layers
            return worst
        asked[row] = None
        return float(table["losses"][row]), float(table["costs"][row])

    sizes = enumerate(table["sizes"].tolist())
    space = {f"axis{i}": randint(0, size - 1) if size > 1 else 0 for i, size in sizes}
    np.random.seed(seed)  # noqa: NPY002 - its local search draws the start from the global generator
    multi_objective_search(objective, space, method, num_samples=settings["evaluations"], seed=seed, verbose=False)
    return list(asked)


def main() -> None:
    """Answer with one list of rows a seed and method."""
    settings = json.loads(sys.argv[1])
    table = dict(np.load(settings["table"]))
    methods, seeds = settings["methods"], range(settings["seeds"])
    print(json.dumps({method: [distinct(settings, table, method, seed) for seed in seeds] for method in methods}))


if __name__ == "__main__":
    main()
