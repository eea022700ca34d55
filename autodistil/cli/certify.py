"""`autodistil certify`: how far to trust the search, in words or as JSON."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import open_existing
from autodistil.cli.options import ExistingRun, Json, Resume, with_flags
from autodistil.cli.terminal import print_json, print_lines


@app.command(epilog="Example: `autodistil certify --run runs/mine --one`")
@with_flags("trust_remote_code")
def certify(
    *,
    run: ExistingRun,
    options: dict[str, Any],
    sample: Annotated[
        int, typer.Option(help="Students of each sub-space to train alone; they tell how far to trust the search.")
    ] = 5,
    one: Annotated[bool, typer.Option("--one", help="Also train one SuperLM over all sub-spaces to compare.")] = False,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Train a few students alone, and report how far the ranks of the search can be trusted."""
    opened = open_existing(run, quiet=json, options=options)
    from autodistil import pipeline

    certified = pipeline.certify(opened, sample, one, resume)
    where = {"certificate": str(certified.path), "report": str(certified.report)}
    if json:
        from json import loads

        print_json({**loads(certified.path.read_text(encoding="utf-8")), **where})
        return
    from autodistil.student_search.certificate.verdict import sentences, verdict

    paths = [f"{name}: {path}" for name, path in where.items()]
    print_lines(verdict(certified.certificate), *sentences(certified.certificate), *paths)
