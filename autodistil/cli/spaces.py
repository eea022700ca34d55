"""`autodistil spaces`: all shipped search spaces as a table, or one in detail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from autodistil.cli.app import app
from autodistil.cli.terminal import print_lines, print_table

if TYPE_CHECKING:
    from autodistil.space.space import SearchSpace


@app.command(epilog="Example: `autodistil spaces minilm-l6-h384`")
def spaces(
    name: Annotated[
        str | None, typer.Argument(help="A shipped space or a YAML file; all shipped ones if left out.")
    ] = None,
) -> None:
    """List search spaces, or check and describe one: axes, students, range of parameters and FLOPs."""
    from autodistil.space.files import load_space, shipped_spaces

    if name is not None:
        _print_space(load_space(name))
        return
    loaded = {shipped: load_space(shipped) for shipped in shipped_spaces()}
    rows = [
        (shipped, ", ".join(sub.name for sub in space.sub_spaces), space.size_text, space.description)
        for shipped, space in loaded.items()
    ]
    print_table("Search spaces", ("name", "sub-spaces", "students", "description"), rows)
    print_lines("one in detail: autodistil spaces NAME; derived from a teacher: --space auto")


def _print_space(space: SearchSpace) -> None:
    """Axes, students and cost ranges, at length 128 and with BERT's vocabulary."""
    from autodistil.costs.closed_form import cost_table
    from autodistil.space.shape import EncoderShape
    from autodistil.space.student import Candidate

    bert = EncoderShape(vocab_size=30_522, other_embedding_rows=514, embedding_size=None, pooler=True)
    subs = space.sub_spaces
    costs = [cost_table([Candidate(sub.name, config) for config in sub.students], bert, 128) for sub in subs]
    axes = sorted({axis for sub in subs for axis in sub.axes})
    rows = [
        *([axis, *(_axis_text(sub.axes.get(axis, ())) for sub in subs)] for axis in axes),
        ["students", *(sub.size_text for sub in subs)],
        ["kept out by the shape rule", *(f"{sub.excluded:,}" for sub in subs)],
    ]
    for column, unit, scale in (("params", "M params", 1e6), ("flops", "MFLOPs", 1e6), ("size_mb", "MB", 1.0)):
        rows.append([unit, *(f"{c[column].min() / scale:,.1f} - {c[column].max() / scale:,.1f}" for c in costs)])
    print_table(
        f"{space.name}: {space.description}",
        ("", *(sub.name for sub in subs)),
        rows,
        caption="FLOPs are multiply-adds, batch 1, length 128; parameters with BERT's vocabulary and pooler",
    )


def _axis_text(values: Sequence[float | None]) -> str:
    return ", ".join("whole" if value is None else f"{value:g}" for value in values)
