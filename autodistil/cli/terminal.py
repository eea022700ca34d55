"""What commands share to print: lines in which nothing is markup or control, tables and JSON.

Imports stand in the functions, so that help is quick.
"""

from __future__ import annotations

import os
import sys
import unicodedata
import warnings
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import JustifyMethod

_PLAIN_WIDTH = 120
"""Columns of a table where stdout is no terminal that has a width."""


def printable(text: str) -> str:
    """Text with whatever steers a terminal, or is no text at all, written as Python escapes it.

    Names of files are bytes that others chose: escape sequences, marks that turn the direction of writing round, and
    bytes in no encoding, which would end the print itself. Lines, tabs and spaces of all scripts stay.
    """
    kept = (char.isprintable() or char in "\n\t" or unicodedata.category(char) == "Zs" for char in text)
    return "".join(char if keep else ascii(char)[1:-1] for char, keep in zip(text, kept, strict=True))


def fail(message: str, status: int) -> NoReturn:
    """Say in one line why there is no result, and exit."""
    typer.echo(f"autodistil: {printable(' '.join(message.split()))}", err=True)
    sys.exit(status)


def quiet_libraries() -> None:
    """Keep what libraries say about themselves out of the terminal."""
    import logging

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    warnings.filterwarnings("ignore")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def print_table(
    title: str,
    columns: Iterable[str],
    rows: Iterable[Iterable[str]],
    caption: str | None = None,
    right: Container[str] = (),
    no_wrap: bool = False,
    first_to_go: Sequence[str] = (),
) -> None:
    """A table whose cells are taken literally.

    Args:
        title: above it.
        columns: their heads.
        rows: cells.
        caption: below it.
        right: columns that are aligned there.
        no_wrap: cut cells that are too wide instead of wrapping them.
        first_to_go: columns that a terminal too narrow for all does without, in this order.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    heads, lines = list(columns), [[Text(printable(cell)) for cell in row] for row in rows]

    def table_without(gone: Container[str]) -> Table:
        table = Table(title=escape(printable(title)), caption=caption, title_justify="left", caption_justify="left")
        kept = [number for number, name in enumerate(heads) if name not in gone]
        for name in (heads[number] for number in kept):
            justify: JustifyMethod = "right" if name in right else "left"
            table.add_column(name, justify=justify, overflow="ellipsis" if no_wrap else "fold", no_wrap=no_wrap)
        for line in lines:
            table.add_row(*(line[number] for number in kept))
        return table

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    tables = [table_without(first_to_go[:count]) for count in range(len(first_to_go) + 1)]
    roomy = console.options.update(max_width=10_000)  # a measure ends at its own width
    fits = (table for table in tables if console.measure(table, options=roomy).maximum <= console.width)
    console.print(next(fits, tables[-1]))


def print_lines(*lines: str) -> None:
    """Lines on stdout, taken literally."""
    typer.echo(printable("\n".join(lines)))


def print_json(content: Any) -> None:
    """One JSON object on stdout."""
    import json

    typer.echo(json.dumps(content))
