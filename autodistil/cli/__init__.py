"""The command line: parses, calls the pipeline, prints. Heavy imports happen in the commands, so that help is quick.

Exit status: 0 done, 1 a failure of ours, 2 wrong input (one line says what, got, allowed and the next step), 130
stopped by Ctrl-C (the line that resumes is printed).
"""

# ruff: noqa: F401  commands register when they are imported: in the order in which help lists them
from autodistil.cli import search, train, report, compare, refine, tune, export, push  # isort: skip
from autodistil.cli import evaluate, profile, certify, spaces, doctor, teachers  # isort: skip
from autodistil.cli.main import app, main

__all__ = ["app", "main"]
