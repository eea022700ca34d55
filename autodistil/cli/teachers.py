"""`autodistil teachers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autodistil.cli.main import app

if TYPE_CHECKING:
    from rich.table import Table

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
) -> None:
    """List the families of teachers with what each was tried on, and the teachers that install by name."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if convert is not None:
        console.print(_converted(convert), markup=False)
    if check is not None:
        console.print(_checked(check), markup=False)
    if convert is None and check is None:
        console.print(_family_table())
        console.print(_packaged_table())


def _converted(name: str) -> str:
    from autodistil.models.packaged import convert

    return f"{name}: safetensors in {convert(name)}; give it as --teacher {name}"


def _checked(source: str) -> str:
    from autodistil.cli.terminal import quiet_libraries
    from autodistil.export.family_contract import check_family
    from autodistil.models.teacher import load_config

    quiet_libraries()
    config = load_config(source)
    return "\n".join([f"{config.model_type}: all hold", *(f"  {clause}" for clause in check_family(config))])


def _family_table() -> Table:
    from rich.table import Table

    from autodistil.models.families import known_families

    table = Table("model types", "tried on real weights", title="Families", caption=_CAPTION)
    table.title_justify = table.caption_justify = "left"
    for family in known_families():
        table.add_row(", ".join(family.model_types), ", ".join(family.tried_on) or "none: random weights only")
    return table


def _packaged_table() -> Table:
    from rich.table import Table
    from rich.text import Text

    from autodistil.models.packaged import PACKAGED

    table = Table("name", "there", title="Teachers that install by name", title_justify="left")
    for name, model in PACKAGED.items():
        table.add_row(name, Text(model.status(name)))
    return table
