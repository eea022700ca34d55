"""`autodistil report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import open_existing
from autodistil.cli.options import ReportDir, with_flags
from autodistil.cli.terminal import print_lines


@app.command(epilog="Example: `autodistil report --run runs/mine --format pdf --format md`")
@with_flags("trust_remote_code")
def report(
    *,
    folder: Annotated[
        Path | None,
        typer.Argument(help="A student that adapt made, or the run folder of a search.", metavar="DIR"),
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Run folder of a search.", metavar="DIR")] = None,
    options: dict[str, Any],
    report_dir: ReportDir = None,
    static: Annotated[
        bool,
        typer.Option("--static", help="Add model2vec's static model of the teacher: what no Transformer would bring."),
    ] = False,
    form: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="html, png, pdf or md; the pictures need a Chrome. Repeatable [default: html, and png if it can].",
            metavar="NAME",
        ),
    ] = None,
) -> None:
    """Write the report of the last search again, or that of a fine-tuned student."""
    from autodistil.errors import ConfigError
    from autodistil.export.adapted_folder import FIGURES, is_adapted
    from autodistil.run.folder import RunFolder

    if (folder is None) == (run is None):
        raise ConfigError("give the folder of a run or of a fine-tuned student, one of them")
    if folder is not None and is_adapted(folder):
        if options or static or form not in (None, ["html"]):
            raise ConfigError(f"{str(folder)!r} is a fine-tuned student, whose report is one page; allowed: --report")
        print_lines(*(f"report: {file}" for file in _adapted_reports(folder, report_dir)))
        return
    if folder is not None and folder.is_dir() and not RunFolder(folder).record_path.is_file():
        raise ConfigError(
            f"{str(folder)!r} is no run folder (no run.yaml) and no fine-tuned student (no {FIGURES}); give one that "
            "search or adapt made"
        )
    where = run or folder
    assert where is not None
    opened = open_existing(where, options=options)
    from autodistil import pipeline

    first = [pipeline.report(opened, report_dir, static)] if static or not form else []
    files = [*first, *(pipeline.report_as(opened, form, report_dir) if form else [])]
    print_lines(*(f"report: {file}" for file in files))


def _adapted_reports(folder: Path, report_dir: Path | None) -> list[Path]:
    from autodistil.report.adapted import adapted_page
    from autodistil.stages.comparing_adapted import compare_adapted
    from autodistil.utils import make_folder, write_text

    page = adapted_page(compare_adapted([folder]))
    folders = [folder, *([make_folder(report_dir)] if report_dir else [])]
    return [write_text(one / "report.html", page) for one in folders]
