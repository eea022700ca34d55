"""What are the students worth, beside every control, at equal cost? One table, made from scratch with one command.

    python benchmarks/quality.py                                     a quick look: minutes, no data, held-out loss only
    python benchmarks/quality.py --data DIR --train-minutes 120      the whole table: many hours; run it again to go on

DIR holds `corpus/<source>-NNN.txt.xz`, labelled tasks under `glue/` and `extra/`, and collections under `retrieval/`.
A row leaves a JSON file as soon as there is a number; nothing that is done is done again, so kill it and run the same
command again. The table shows all that was measured under the same settings, by this command or by an earlier one with
other --rows or --tasks.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from quality_table.make import make_table
from quality_table.rows import KINDS
from quality_table.settings import FINETUNED, PROBES, SIMILARITY, Settings

from autodistil.cli.progress import TerminalProgress
from autodistil.cli.terminal import quiet_libraries
from autodistil.errors import AutodistilError, ConfigError, suggest

QUICK: dict[str, Any] = {"train_steps": 4, "batch_size": 4, "heldout_sequences": 8, "random_students": 1}
"""Recipe without --data: every part of the benchmark is run, nothing is learnt."""
_BUDGETS, _QUICK_BUDGETS = "60,40,20,10", "20"
TASKS = (*SIMILARITY, *PROBES, *FINETUNED)
_COLLECTIONS = "med,cacm,stackfaq,wikiqa"
_QUICK_OUT, _OUT, _WORK = Path("runs/quality-quick"), Path("reports/quality"), Path("runs/quality")


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="corpus/ and labelled tasks [default: python-docs, no task]")
    add("--out", type=Path, metavar="DIR", help=f"rows and table [default: {_OUT}, without --data {_QUICK_OUT}]")
    add("--work", type=Path, default=_WORK, metavar="DIR", help="SuperLMs and students [default: %(default)s]")
    add(
        "--budgets",
        metavar="P,...",
        help=f"percent of the teacher's FLOPs [{_BUDGETS}; without --data {_QUICK_BUDGETS}]",
    )
    add("--rows", default="all", metavar="KIND,...", help=f"which to make: all or some of {', '.join(KINDS)}")
    add("--tasks", default="all", metavar="TASK,...", help=f"with --data: all, none or some of {', '.join(TASKS)}")
    collections = f"with --data: none, or folders of retrieval/ [{_COLLECTIONS}]"
    add("--collections", default=_COLLECTIONS, metavar="NAME,...", help=collections)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--train-steps", type=int, metavar="N", help="steps of each SuperLM")
    length.add_argument("--train-minutes", type=float, metavar="M", help="time for the SuperLMs, all together")
    add("--text-mb", type=float, default=48.0, metavar="MB", help="size of the text at most [%(default)g]")
    add("--short-texts", action="store_true", help="half of the texts: questions, captions, ... of labelled sets")
    add("--set", action="append", default=[], metavar="OPTION=VALUE", help="any option of a run; repeatable")
    add("--hand-made-rate", type=float, metavar="RATE", help="learning rate of hand-made students [ours]")
    add("--proxy", default="stsb", metavar="TASK", help="of the row pick-proxy [%(default)s]")
    add("--seeds", type=int, default=3, metavar="N", help="of fine-tuning [%(default)s]")
    add("--max-train", type=int, metavar="N", help="training rows of fine-tuning at most")
    add("--probe-rows", type=int, default=3000, metavar="N", help="training rows of a probe at most [%(default)s]")
    add("--max-eval", type=int, metavar="N", help="scored rows of fine-tuning at most")
    add("--epochs", type=int, metavar="N", help="of fine-tuning [3 to 5, by the rows]")
    add("--learning-rates", default="1e-4,3e-4", metavar="R,...", help="grid of fine-tuning [%(default)s]")
    add("--threads", type=int, metavar="N", help="CPU threads [all cores]")
    add("--latency-rounds", type=int, default=40, metavar="N", help="timings of each student [%(default)s]")
    add("--resume", action="store_true", help="what it does anyway: go on with what is there")
    return parser


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the options stand for.

    Raises:
        ConfigError: one of them cannot be used.
    """
    quick = options.data is None
    return Settings(
        out=(options.out or (_QUICK_OUT if quick else _OUT)).resolve(),
        work=options.work.resolve(),
        data=options.data.resolve() if options.data else None,
        budgets=_budgets(options.budgets or (_QUICK_BUDGETS if quick else _BUDGETS)),
        rows=_names("row", options.rows, tuple(KINDS)),
        tasks=() if quick else _names("task", options.tasks, TASKS),
        collections=() if quick or options.collections == "none" else _parts(options.collections),
        training=_training(options, QUICK if quick else {}),
        learning_rates=_numbers("learning-rates", options.learning_rates),
        **{name: getattr(options, name) for name in ("hand_made_rate", "text_mb", "short_texts", "proxy", "seeds")},
        probe_rows=options.probe_rows,
        **{name: getattr(options, name) for name in ("max_train", "max_eval", "epochs", "threads", "latency_rounds")},
    )


def _training(options: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, Any]:
    training = dict(defaults)
    if options.train_minutes is not None:
        training.pop("train_steps", None)
        training["train_minutes"] = options.train_minutes
    if options.train_steps is not None:
        training["train_steps"] = options.train_steps
    for text in options.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r} is no OPTION=VALUE; give such as --set batch_size=8")
        training[name] = yaml.safe_load(value)
    return training


def _names(what: str, text: str, allowed: Sequence[str]) -> tuple[str, ...]:
    if text in ("all", "none"):
        return tuple(allowed) if text == "all" else ()
    names = _parts(text)
    for name in names:
        if name not in allowed:
            raise ConfigError(f"{what} {name!r} is unknown{suggest(name, allowed)}; allowed: {', '.join(allowed)}")
    return names


def _parts(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(what: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(f"--{what} {text!r} is no list of numbers; give such as 60,40") from error


def _budgets(text: str) -> tuple[float, ...]:
    budgets = tuple(dict.fromkeys(_numbers("budgets", text)))
    if not budgets or not all(0 < budget <= 100 for budget in budgets):
        raise ConfigError(f"--budgets {text!r} are percents of the teacher's FLOPs; allowed: above 0 to 100")
    return budgets


def main(argv: Sequence[str] | None = None) -> int:
    """Make the table; returns the exit status."""
    quiet_libraries()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        settings = settings_of(arguments().parse_args(argv))
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        made = make_table(settings, TerminalProgress())
    except AutodistilError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    print(made.path.read_text(encoding="utf-8"))
    print(f"table: {made.path}" + (f"; failed: {', '.join(made.failed)}" if made.failed else ""))
    return 1 if made.failed else 0


if __name__ == "__main__":
    sys.exit(main())
