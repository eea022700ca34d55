"""The command line that all speed benchmarks have."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from bench_common.peers import HOME
from bench_common.timing import CLOCKS

REPORTS = Path(__file__).parents[2] / "reports" / "benchmarks"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the common options; add your own before you parse."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--size", choices=("quick", "real"), default="quick", help="quick: under a minute [%(default)s]")
    add("--rounds", type=int, default=5, metavar="N", help="how often each case is timed, in turns [%(default)s]")
    add("--threads", type=int, metavar="N", help="CPU threads [torch's choice, OMP_NUM_THREADS where set]")
    add("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: on a busy machine, with --threads 1 [%(default)s]")
    add("--out", type=Path, default=REPORTS, metavar="DIR", help="JSON and picture [reports/benchmarks]")
    add("--peers", choices=("none", "installed", "install"), default="installed", help="other libraries [%(default)s]")
    add("--peer-home", type=Path, default=HOME, metavar="DIR", help="their environments [%(default)s]")
    return parser


def parse(
    parser: argparse.ArgumentParser, sizes: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> argparse.Namespace:
    """Read the command line and set the threads.

    Args:
        parser: its options.
        sizes: size -> values of those options that are not given.
    """
    options = parser.parse_args()
    for name, value in sizes.get(options.size, {}).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def record_path(options: argparse.Namespace, name: str) -> Path:
    """Where the record goes: a quick look never takes the place of real numbers."""
    return options.out / (f"{name}.json" if options.size == "real" else f"{name}-quick.json")


def common_settings(options: argparse.Namespace) -> dict[str, Any]:
    """For the record: how it was measured."""
    return {"size": options.size, "rounds": options.rounds, "clock": options.clock}
