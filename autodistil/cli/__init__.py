"""The command line: parses, calls the pipeline, prints. Heavy imports happen in the commands, so that help is quick.

Exit status: 0 done, 1 a failure of ours, 2 wrong input (one line says what, got, allowed and the next step), 130
stopped by Ctrl-C (the line that resumes is printed).
"""

# isort: off
# ruff: noqa: F401  commands register when they are imported: in the order in which help lists them
from autodistil.cli import search
from autodistil.cli import train
from autodistil.cli import report
from autodistil.cli import compare
from autodistil.cli import refine
from autodistil.cli import tune
from autodistil.cli import export
from autodistil.cli import push
from autodistil.cli import evaluate
from autodistil.cli import profile
from autodistil.cli import certify
from autodistil.cli import info
from autodistil.cli import teachers

# isort: on
from autodistil.cli.main import app, main

__all__ = ["app", "main"]
