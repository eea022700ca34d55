"""Runs what a page of the documentation shows, in order, in a folder of its own.

Commands run as they stand but for what makes them long: `SHORTER` says what a command of a test looks like. A block
that cannot run here has `<!-- not run: REASON -->` above it. Inline code runs too where it is a whole command: with
no NAMES, `...` or `|` that stand for something.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
_CODE = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]+?) -->\n+)?^```(?P<kind>\w*)\n(?P<block>.*?)^```"
    r"|(?<!`)`(?P<inline>autodistil [^`\n]+)`",
    re.DOTALL | re.MULTILINE,
)
_SHELL = ("sh", "bash", "")
INPUTS = {"--teacher": "my-model", "--corpus": "texts/", "--space": "smoke"}
"""Of a training that names none; in a run that is there they say what it is."""
_TRAINING = {"--train-steps": "2", "--batch-size": "4", "--seq-len": "16"}
SHORTER = {
    "search": {**_TRAINING, "--threads": "1"},
    "train": {**_TRAINING, "--threads": "1"},
    "tune": {**_TRAINING, "--samples": "2", "--workers": "1"},
    "evaluate": {"--threads": "1", "--max-length": "16"},
    "profile": {"--threads": "1", "--students": "1"},
}
"""Verb -> options and their values in a test."""
_ONE_WORKER = {"--workers": "1", "--train-minutes": None, "--max-train": "20", "--refine-steps": "2"}
"""Options that are cut where they are given."""
_FINETUNE = ["--max-train", "20", "--seeds", "1", "--epochs", "1", "--learning-rate", "1e-3"]
_PYTHON = {
    "train_steps=24": 'train_steps=2, teacher="my-model", corpus=["texts/"], space="smoke", batch_size=4, seq_len=16'
}
_PRELUDE = f"""set -euo pipefail
autodistil() {{ '{sys.executable}' -m autodistil "$@"; }}
python() {{ '{sys.executable}' "$@"; }}
"""


_ALONE = ("doctor", "teachers", "spaces")
"""Verbs that are whole commands without options."""
_NEEDS = {"antiberty": "antiberty"}
"""Word of an inline command -> module of an extra without which it cannot run."""


@dataclass(frozen=True)
class Piece:
    """One block or one inline command."""

    kind: str
    """`sh` or `python`."""
    text: str
    why_not: str | None
    """Why it is not run, None where it is."""


def pieces(page):
    """What a page shows that a person could run, in order."""
    found = []
    for match in _CODE.finditer(page.read_text(encoding="utf-8")):
        if match["inline"] is not None:
            if _whole(match["inline"]):
                found.append(Piece("sh", match["inline"], None))
        elif match["kind"] in _SHELL or match["kind"] == "python":
            found.append(Piece("python" if match["kind"] == "python" else "sh", match["block"], match["why"]))
    return found


def _whole(command):
    words = command.split()
    stands_for_something = any(re.fullmatch(r"[A-Z]{2,}|[A-Z]", word) for word in words[1:])
    named_only = len(words) == 2 and words[1] not in _ALONE and not words[1].startswith("-")
    missing = any(word in words and find_spec(module) is None for word, module in _NEEDS.items())
    return not (stands_for_something or named_only or missing or re.search(r"\.\.\.|\||…|\[", command))


def script(text):
    """A block as a script of bash, shortened."""
    lines = text.replace("\\\n", " ").splitlines()
    return _PRELUDE + "\n".join(shortened(line.split("  #")[0].rstrip()) for line in lines) + "\n"


def shortened(line):
    """A command as a test runs it."""
    line = line.replace("BAAI/bge-small-en-v1.5", "my-model")  # no Hub in a test
    words = line.replace("my-bert-bert-base", "my-bert-smoke").split()  # the folder has the space's name
    if words[:1] == ["python"]:
        return line.replace("python benchmarks/", f"python {ROOT}/benchmarks/").replace("--threads 4", "--threads 1")
    if words[:1] != ["autodistil"] or "--help" in words:
        return line
    wanted = SHORTER.get(words[1], {}) if "--config" not in words else {}
    kept = _without(words, {**wanted, **_ONE_WORKER})
    named = {option: value for option, value in INPUTS.items() if "--seq-len" in wanted and option not in words}
    extra = [word for option, value in {**named, **wanted}.items() for word in (option, value)]
    if words[1] == "profile" and "--student" in words:
        extra = extra[:-2]
    workers = ["--workers", "1"] if "--workers" in words and words[1] != "tune" else []
    finetune = _FINETUNE if "--finetune" in words else []
    return " ".join([*kept, *extra, *workers, *finetune])


def _without(words, options):
    """The words without these options and their values."""
    drop, kept = False, []
    for word in words:
        if drop:
            drop = False
        elif word.split("=")[0] in options:
            drop = "=" not in word
        else:
            kept.append(word)
    return kept


def python_of(text):
    """A block of Python, shortened."""
    for long, short in _PYTHON.items():
        text = text.replace(long, short)
    return text


class Server:
    """`docs_server.py`, started when first needed."""

    def __init__(self, log):
        self._log = log
        command = [sys.executable, str(Path(__file__).parent / "docs_server.py")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(log.parent)
        )

    def run(self, kind, work, folder):
        """Exit status and output of one piece of work."""
        job = {"kind": kind, "work": work, "folder": str(folder), "log": str(self._log)}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()), self._log.read_text(errors="replace")

    def close(self):
        """End it."""
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def run_shell(text, folder, server):
    """Run a block of commands: those of autodistil alone in the server, others in bash."""
    lines = script(text)
    commands = [line for line in lines.removeprefix(_PRELUDE).splitlines() if line.strip()]
    if all(line.split()[0] == "autodistil" for line in commands if not line.startswith("#")):
        return server.run("sh", "\n".join(commands), folder)
    done = subprocess.run(
        ["bash", "-c", lines], cwd=folder, env=_environment(folder), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def run_page(page, folder, server):
    """Run the pieces of a page in a folder; returns how many ran.

    Blocks of Python see the names of those before them.
    """
    ran, python = 0, ""
    for piece in pieces(page):
        if piece.why_not is not None:
            continue
        if piece.kind == "python":
            python += python_of(piece.text)
            status, output = server.run("python", python, folder)
        else:
            status, output = run_shell(piece.text, folder, server)
        assert status == 0, f"{page.name}: {piece.text}\n{output}"
        ran += 1
    return ran


def _environment(folder):
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
