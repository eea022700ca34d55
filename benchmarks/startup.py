"""How long until the command line answers, and until the quick start has a student?

    python benchmarks/startup.py                 --help, spaces, doctor
    python benchmarks/startup.py --size real     and the quick start, in an empty folder with an empty cache: minutes

Each command is a process of its own, taken in turns; `import torch` and `python -c pass` are what no command can beat.
With `--clock cpu` it is the processor time of the process and its children.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench_common.options import arguments, common_settings, parse, record_path
from bench_common.picture import write_picture
from bench_common.record import print_table, write_record
from bench_common.timing import Spread, take_turns

ROOT = Path(__file__).parents[1]
_CLI = ["-c", "from autodistil.cli import main; main()"]
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "autodistil --help": [*_CLI, "--help"],
    "autodistil search --help": [*_CLI, "search", "--help"],
    "autodistil spaces": [*_CLI, "spaces"],
    "autodistil doctor": [*_CLI, "doctor"],
}
QUICK_START = [*_CLI, "search", "--budget", "500MFLOPs"]


def child_seconds() -> float:
    """Processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def command(arguments: list[str], clock: Callable[[], float]) -> float:
    """Seconds of one run in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "AUTODISTIL_CACHE": f"{folder}/cache"}
        begun = clock()
        done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
        taken = clock() - begun
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr.strip().splitlines()[-1]}")
    return taken


def main() -> int:
    """Measure, print and keep."""
    options = parse(arguments(__doc__))
    clock = child_seconds if options.clock == "cpu" else time.perf_counter
    seconds = take_turns({k: partial(command, v, clock) for k, v in COMMANDS.items()}, options.rounds)
    if options.size == "real":
        seconds |= take_turns({"quick start": partial(command, QUICK_START, clock)}, 1, warm_up=0)
    rows = [{"case": name, "seconds": Spread.of(values)} for name, values in seconds.items()]
    print_table(rows)
    path = write_record(record_path(options, "startup"), rows, common_settings(options))
    write_picture(path.with_suffix(".png"), rows, "seconds", "Seconds until a command has answered")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
