"""HTML of the page's parts: tables, key figures, lists. Whatever text goes in comes out escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from autodistil.report.rows import BudgetRow, KeyFigure, SubSpaceRow
from autodistil.report.style import GLYPHS, series_colour


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    html: Callable[[Any], str]
    """A row's cell, as HTML."""
    value: Callable[[Any], object] | None = None
    """What a row is sorted by; None where the column cannot be sorted."""
    text: bool = False
    """Left-aligned and sorted as text."""
    wide: bool = False
    """Holds a long name, to be kept on one line where there is room."""


def table(
    rows: Iterable[Any],
    columns: Sequence[Column],
    label: str,
    is_best: Callable[[Any], bool] = lambda row: False,
    narrow: bool = False,
) -> str:
    """A table that scrolls sideways where the screen is too narrow.

    Args:
        rows: what the columns are asked about.
        columns: from left to right.
        label: names the table to screen readers.
        is_best: whether a row is set in bold.
        narrow: as wide as its content instead of as the page.
    """
    head = "".join(_header(column) for column in columns)
    body = "".join(_row(row, columns, is_best(row)) for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table{' class=narrow' * narrow}><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _row(row: Any, columns: Sequence[Column], best: bool) -> str:
    cells = "".join(_cell(column, row) for column in columns)
    return f'<tr class="best">{cells}</tr>' if best else f"<tr>{cells}</tr>"


def _header(column: Column) -> str:
    title = escape(column.title)
    title = f'<button type="button">{title}</button>' if column.value else title
    return f'<th scope="col"{_alignment(column)}>{title}</th>'


def _cell(column: Column, row: Any) -> str:
    value = f' data-value="{escape(str(column.value(row)))}"' if column.value else ""
    return f"<td{_alignment(column)}{value}>{column.html(row)}</td>"


def _alignment(column: Column) -> str:
    names = " ".join(name for name, on in (("text", column.text), ("id", column.wide)) if on)
    return f' class="{names}"' if names else ""


def glyph(series: int) -> str:
    """The symbol of a sub-space, as in the figures."""
    symbol = GLYPHS[series % len(GLYPHS)]
    return f'<span class="glyph" style="color:{series_colour(series)}" aria-hidden="true">{symbol}</span>'


def badges(names: Iterable[str]) -> str:
    """Pills behind a name."""
    return "".join(f'<span class="badge">{escape(name)}</span>' for name in names)


def pick(student: str) -> str:
    """A student's name that chooses it."""
    return f'<button type="button" class="pick" data-pick>{escape(student)}</button>'


def key_figures(figures: Sequence[KeyFigure]) -> str:
    """Cards with a number each."""
    cards = "".join(
        f'<div><dt>{escape(figure.label)}</dt><dd class="value">{escape(figure.value)}</dd>'
        f"<dd>{escape(figure.note)}</dd></div>"
        for figure in figures
    )
    return f'<dl class="figures">{cards}</dl>' if cards else ""


def paragraphs(lines: Iterable[str]) -> str:
    """A paragraph a line."""
    return "\n".join(f"<p>{escape(line)}</p>" for line in lines)


def facts(pairs: Mapping[str, str]) -> str:
    """Names and values."""
    items = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in pairs.items())
    return f'<dl class="facts">{items}</dl>'


def command(line: str) -> str:
    """A command to copy."""
    return (
        f'<div class="command"><pre id="export-command">{escape(line)}</pre>'
        '<button type="button" data-copy="export-command">Copy</button></div>\n'
        '<p class="dim"><code>--pick</code> takes <code>best</code>, <code>knee</code> or the id of any scored student.'
        "</p>\n"
    )


_BUDGETS = (
    Column("Budget", lambda row: escape(row.text), text=True),
    Column("Limit", lambda row: escape(row.limit)),
    Column("Best student", lambda row: escape(row.best)),
    Column("Verdict", lambda row: escape(row.verdict), text=True),
)


def budgets(rows: Sequence[BudgetRow]) -> str:
    """What each budget did; nothing where there is none."""
    return table(rows, _BUDGETS, "Budgets", narrow=True) if rows else ""


_SUB_SPACES = (
    Column("Sub-space", lambda row: glyph(row.series) + escape(row.name), text=True),
    Column("Students", lambda row: f"{row.students:,}"),
    Column("In budget", lambda row: f"{row.feasible:,}"),
    Column("Scored", lambda row: f"{row.scored:,}"),
    Column("FLOPs", lambda row: escape(row.flops)),
    Column("Its best student", lambda row: escape(row.best), text=True),
)


def sub_spaces(rows: Sequence[SubSpaceRow], measure: str) -> str:
    """A line a sub-space; `measure` is what its best student is best by."""
    value = Column(f"Best {measure}", lambda row: "–" if row.value != row.value else f"{row.value:.4f}")
    return table(rows, (*_SUB_SPACES[:-1], value, _SUB_SPACES[-1]), "Sub-spaces")
