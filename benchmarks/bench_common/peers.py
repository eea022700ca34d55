"""Other people's libraries, each in a virtual environment of its own, driven as a process that takes turns.

A peer is a script that speaks lines of JSON: it prints `{"ready": ...}` once it has loaded, then answers each line
`{"run": NAME}` on its input with `{"seconds": ...}` by its own clock, so neither the start of Python nor the pipe is
counted. Its environment is made from pinned PyPI packages at the first use and kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

HOME = Path("runs") / "peers"
_FOLDER = Path(__file__).parents[1] / "peers"


class PeerMissing(Exception):
    """The peer cannot be had here; the message is the reason, one line."""


@dataclass(frozen=True)
class PeerEnvironment:
    """A virtual environment of pinned packages."""

    name: str
    requirements: Sequence[str]
    """Installed with what they bring."""
    remove: Sequence[str] = ()
    """Taken away again, of what they brought."""
    alone: Sequence[str] = ()
    """Installed without what they ask for."""

    def python(self, home: Path, install: bool) -> Path:
        """Its interpreter; made where it is missing and `install` is set.

        Raises:
            PeerMissing: not there, or pip failed.
        """
        folder = (home / self.name).absolute()
        stamp = folder / "installed.txt"
        wanted = "\n".join([*self.requirements, "without", *self.remove, *(f"alone {one}" for one in self.alone)])
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
            return folder / "bin" / "python"
        if not install:
            raise PeerMissing(f"{self.name} is not installed; run with --peers install")
        self._create(folder)
        stamp.write_text(wanted, encoding="utf-8")
        return folder / "bin" / "python"

    def _create(self, folder: Path) -> None:
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        _run([*pip, "install", *self.requirements])
        if self.remove:
            _run([*pip, "uninstall", "--yes", *self.remove])
        if self.alone:
            _run([*pip, "install", "--no-deps", *self.alone])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()
        raise PeerMissing(f"pip failed: {lines[-1].strip() if lines else 'no message'}")


class Peer:
    """A running peer; use it as a context.

    Args:
        environment: what it runs in.
        script: file name under `benchmarks/peers/`.
        settings: given to the script as JSON.
        home: folder of all environments.
        install: make the environment where it is missing.

    Raises:
        PeerMissing: it cannot be installed, or failed as it loaded.
    """

    def __init__(
        self, environment: PeerEnvironment, script: str, settings: Mapping[str, Any], home: Path, install: bool
    ) -> None:
        python = environment.python(home, install)
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        self._process = subprocess.Popen(
            [str(python), str(_FOLDER / script), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **threads, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        )
        self.facts = self._answer()
        """What it says of itself: versions, losses."""

    def run(self, name: str) -> float:
        """Seconds that it took to do `name` once."""
        return float(self._ask({"run": name})["seconds"])

    def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # what libraries print on the way is no answer
            if line.startswith("{"):
                answer = json.loads(line)
                if "error" in answer:
                    raise PeerMissing(answer["error"])
                return dict(answer)
        raise PeerMissing(f"its process ended with status {self._process.wait()}")

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin and self._process.stdin.close()
        self._process.wait()
