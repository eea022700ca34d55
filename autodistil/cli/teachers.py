"""`autodistil teachers`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from autodistil.cli.app import app
from autodistil.cli.terminal import print_lines, print_table, quiet_libraries

_CAPTION = (
    "Every family passes the same contract on random weights: sliced = extracted = reloaded, FLOPs and parameters in "
    "closed form = counted. Another family is one table: docs/families.md"
)


@app.command(epilog="Example: `autodistil teachers --convert antiberty`")
def teachers(
    convert: Annotated[
        str | None,
        typer.Option(help="Convert a packaged teacher that comes as a pickle to safetensors, once.", metavar="NAME"),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(help="Check the family table of a model on random weights of its config.", metavar="ID|DIR"),
    ] = None,
    retokenise: Annotated[
        str | None,
        typer.Option(help="Write this encoder with --tokenizer to --to, a start for students of it.", metavar="ID|DIR"),
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Folder of the new tokenizer.", metavar="DIR")] = None,
    to: Annotated[Path | None, typer.Option(help="New folder of --retokenise.", metavar="DIR")] = None,
    rank: Annotated[
        list[str] | None,
        typer.Option(help="Rank encoders by how well they fit --task, untrained. Repeatable.", metavar="ID|DIR"),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Of --rank: a task as evaluate has it.", metavar="NAME")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of tasks, as of evaluate.", metavar="DIR")] = None,
) -> None:
    """List the families of teachers with what each was tried on, and the teachers that install by name."""
    if convert is not None:
        from autodistil.models import packaged

        print_lines(f"{convert}: safetensors in {packaged.convert(convert)}; give it as --teacher {convert}")
    if check is not None:
        from autodistil.export.family_contract import check_family
        from autodistil.models.hf_folder import load_config

        quiet_libraries()
        config = load_config(check)
        print_lines(f"{config.model_type}: all hold", *(f"  {clause}" for clause in check_family(config)))
    if retokenise or tokenizer or to:
        _retokenise(retokenise, tokenizer, to)
    if rank or task:
        _print_ranks(rank or [], task, data)
    if convert is None and check is None and not (rank or task or retokenise):
        _print_teachers()


def _retokenise(source: str | None, tokenizer: Path | None, to: Path | None) -> None:
    from autodistil.errors import ConfigError
    from autodistil.models.tokenizer_swap import swap_tokenizer

    if source is None or tokenizer is None or to is None:
        raise ConfigError("--retokenise MODEL, --tokenizer DIR and --to DIR go together; give all three")
    quiet_libraries()
    done = swap_tokenizer(source, tokenizer, to)
    print_lines(
        f"{done.path}: {done.tokens:,} tokens of {done.pieces:.2f} pieces of the old tokenizer each, word embeddings "
        f"{done.table_mb:.1f} MB",
        f"next: autodistil search --teacher {done.path} --output-teacher {source} --budget 300MFLOPs --corpus ...",
    )


def _print_ranks(sources: Sequence[str], task: str | None, data: Path | None) -> None:
    from autodistil.cli.progress import TerminalProgress
    from autodistil.errors import ConfigError
    from autodistil.evaluation.teacher_fit import rank_teachers
    from autodistil.tasks.finetune import EvaluationSettings
    from autodistil.utils import resolve_device

    if task is None or not sources:
        raise ConfigError("--rank MODEL and --task NAME go together: models are ranked by a task; give both")
    quiet_libraries()
    settings = EvaluationSettings(device=str(resolve_device("auto")))
    found = rank_teachers(sources, task, data, settings, TerminalProgress())
    rows = [(one.source, f"{one.fit:.3f}", str(one.dim), f"{one.millions:.1f} M") for one in found]
    caption = "fit: Spearman correlation of distances by embedding and by label (PARC); of scored pairs by cosine"
    columns = ("model", "fit", "dimensions", "parameters")
    print_table(f"Teachers for {task}", columns, rows, caption=caption, right=columns[1:])


def _print_teachers() -> None:
    from autodistil.models.families import known_families
    from autodistil.models.packaged import PACKAGED

    families = [
        (", ".join(family.model_types), ", ".join(family.tried_on) or "none: random weights only")
        for family in known_families()
    ]
    print_table("Families", ("model types", "tried on real weights"), families, caption=_CAPTION)
    there = [(name, model.status(name)) for name, model in PACKAGED.items()]
    print_table("Teachers that install by name", ("name", "there"), there)
