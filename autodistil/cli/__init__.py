"""The command line: parses, calls the pipeline, prints. Heavy imports happen in the commands, so that help is quick.

Exit status: 0 done, 1 a failure of ours, 2 wrong input (one line says what, got, allowed and the next step), 130
stopped by Ctrl-C (the line that resumes is printed).
"""

# isort: off
# ruff: noqa: F401  commands register when they are imported: in the order in which help lists them
from autodistil.cli import search, train, report, refine, tune, export, evaluate, certify, info

# isort: on
from autodistil.cli.app import app
from autodistil.cli.main import main

__all__ = ["app", "main"]
