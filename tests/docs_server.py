"""Runs commands and Python in forks of one process that has the heavy imports behind it: a tenth of the start-ups.

In: JSON lines `{"kind", "work", "folder", "log"}`, out: an exit status a line. It runs in a process of its own, so that
nothing of a test run (threads of autograd, say) is forked.
"""

import json
import os
import shlex
import sys
import traceback

import rich.table  # noqa: F401

import autodistil.cli.progress
import autodistil.pipeline  # noqa: F401
from autodistil import cli


def shell(text):
    """Lines that call autodistil, as bash with `set -e` would run them."""
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words:
            try:
                cli.main(words[1:])
            except SystemExit as done:
                if done.code:
                    raise


def python(text):
    """A block of Python."""
    exec(compile(text, "docs", "exec"), {"__name__": "__main__"})


WORKS = {"sh": shell, "python": python}


def child(job):
    """Do a job and end the process."""
    status = 1
    try:
        os.chdir(job["folder"])
        log = os.open(job["log"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        WORKS[job["kind"]](job["work"])
        status = 0
    except SystemExit as done:
        status = done.code if isinstance(done.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main():
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            child(json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        answers.write(f"{status}\n")
        answers.flush()


if __name__ == "__main__":
    main()
