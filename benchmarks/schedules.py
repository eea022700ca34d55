"""How should students be drawn, and which layers should they start from? SuperLMs of equal compute, side by side.

    python benchmarks/schedules.py                              the default text, held-out loss only: minutes
    python benchmarks/schedules.py --size real --data DIR       text and STS-B dev of a folder as quality.py takes

Every variant trains a SuperLM over one sub-space for as many multiply-adds (teacher and students) as the first one in
`--steps` steps. What is trained stays in --work, so the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import yaml
from bench_common.options import arguments, common_settings, parse, record_path
from bench_common.record import write_record
from quality_table.compute import step_cost
from quality_table.corpus import weighted_text

from autodistil import pipeline
from autodistil.cli.progress import TerminalProgress
from autodistil.cli.terminal import quiet_libraries
from autodistil.data.sources import DEFAULT_CORPUS
from autodistil.evaluation.embedding import embedding_similarity, student_encoder
from autodistil.run.run import Run
from autodistil.space.files import space_to_dict
from autodistil.space.space import SearchSpace, SubSpace, by_size
from autodistil.space.student import StudentConfig
from autodistil.stages.certifying import draw_shares
from autodistil.stages.training import recipe_of
from autodistil.tasks.batching import TextBatcher
from autodistil.tasks.catalogue import load_task
from autodistil.utils import write_text

VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "sandwich": {},
        "sandwich, in place": {"in_place": True},
        "progressive": {"sampling": "progressive"},
        "progressive, in place": {"sampling": "progressive", "in_place": True},
        "uniform": {"sampling": "uniform"},
        "inverse cost": {"sampling": "inverse-cost"},
        "sandwich, influential layers": {"layer_map": "influence"},
        "sandwich, first layers": {"layer_map": "first"},
    }
)
"""Name -> options of a run that differ from the defaults."""
AXES = {"num_layers": (3, 4, 6), "hidden_size": (128, 192, 256), "head_size": (32,), "mlp_ratio": (2.0, 3.0, 4.0)}
SPACE = SubSpace("mixed", AXES)
"""For teachers of 6 layers x 384 hidden x 12 heads."""
SIZES = {"quick": {"steps": 2, "seeds": 1}, "real": {"steps": 100, "seeds": 2}}
_SCORED, _MEAN_TOKENS = 6, 24


def _options() -> argparse.Namespace:
    parser = arguments(__doc__)
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="corpus/ and labelled tasks [default: python-docs, no task]")
    add("--variants", default=",".join(map(str, range(len(VARIANTS)))), metavar="I,...", help="which, by number [all]")
    add("--steps", type=int, metavar="N", help="of the first variant [2; real: 100]")
    add("--seeds", type=int, metavar="N", help="[1; real: 2]")
    add("--work", type=Path, default=Path("runs/schedules"), metavar="DIR", help="SuperLMs [%(default)s]")
    return parse(parser, SIZES)


def scored_students() -> list[StudentConfig]:
    """Students at equal distances in size, the smallest and the largest among them."""
    ordered = by_size(SPACE.students)
    return [ordered[round(i * (len(ordered) - 1) / (_SCORED - 1))] for i in range(_SCORED)]


def measured(options: Mapping[str, Any], context_options: Mapping[str, Any], work: Path) -> Run:
    """A trained run."""
    space = SearchSpace("schedules", "One sub-space.", (SPACE,))
    work.mkdir(parents=True, exist_ok=True)
    path = write_text(work / "space.yaml", yaml.safe_dump(space_to_dict(space), sort_keys=False))
    given = {**context_options, **options, "space": str(path)}
    name = "-".join(
        f"{key}={value}" for key, value in sorted({**options, **context_options}.items()) if key != "corpus"
    )
    run = Run.open(work / name, given, progress=TerminalProgress())
    pipeline.train(run, resume=True)
    return run


def equal_steps(run: Run, options: Mapping[str, Any], steps: int) -> int:
    """Steps of a variant that cost what `steps` of the defaults cost."""

    def cost(**changed: Any) -> float:
        recipe = recipe_of(type(run.config)(**{**run.config.to_dict(), **changed, "train_steps": 100}), 100)
        texts, shares = 4 * run.config.batch_size, draw_shares(SPACE, recipe)
        return step_cost(run.inputs.teacher, texts, _MEAN_TOKENS, shares)

    return max(1, round(steps * cost() / cost(**options)))


def scores(run: Run, data: Path | None) -> dict[str, float]:
    """Held-out loss and, with labelled data, STS-B dev (Spearman x 100) of the scored students."""
    superlm = run.superlms.trained(SPACE.name)
    found = {f"loss {s.label}": run.scorer.loss(superlm, s) for s in scored_students()}
    if data is None:
        return found
    batches = TextBatcher(run.inputs.teacher.tokenizer, 128, run.inputs.device)
    task = load_task("stsb", data)
    for student in scored_students():
        encode = student_encoder(superlm, student, batches, run.inputs.teacher.pooling or "mean", True)
        found[f"stsb {student.label}"] = 100 * embedding_similarity(task, encode)["spearman"]
    return found


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One row a variant and seed."""
    corpus = DEFAULT_CORPUS
    if options.data is not None:
        corpus = str(weighted_text(options.data / "corpus", options.work / "text", 48.0).path)
    names = [list(VARIANTS)[int(number)] for number in options.variants.split(",")]
    plain = Run.open(options.work / "plain", {"corpus": [corpus]})
    for seed in range(options.seeds):
        for name in names:
            steps = equal_steps(plain, VARIANTS[name], options.steps)
            common = {"corpus": [corpus], "train_steps": steps, "seed": seed}
            run = measured(VARIANTS[name], common, options.work)
            yield {"variant": name, "seed": seed, "steps": steps, **scores(run, options.data)}


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over students and seeds, with the spread over seeds."""
    short = table[["variant", "seed", "steps"]].copy()
    for kind in ("loss", "stsb"):
        columns = [name for name in table.columns if name.startswith(f"{kind} ")]
        if columns:
            short[f"{kind}, mean"] = table[columns].mean(axis=1)
            short[f"{kind}, smallest"] = table[columns[0]]
            short[f"{kind}, largest"] = table[columns[-1]]
    means = short.drop(columns="seed").groupby("variant", sort=False).mean()
    means["seeds"] = short.groupby("variant", sort=False).size()
    return means


def main() -> None:
    """Print the table and keep it."""
    quiet_libraries()
    options = _options()
    settings = common_settings(options) | {name: getattr(options, name) for name in ("steps", "seeds", "variants")}
    found: list[dict[str, Any]] = []
    for row in rows(options):
        found.append(row)
        write_record(record_path(options, "schedules"), found, settings)
        print(summary(pd.DataFrame(found)).round(3).to_string(), flush=True)


if __name__ == "__main__":
    main()
