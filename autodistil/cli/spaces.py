"""`autodistil spaces`: all shipped search spaces as a table, or one in detail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from autodistil.cli.app import app
from autodistil.cli.terminal import print_lines, print_table, quiet_libraries

if TYPE_CHECKING:
    from autodistil.space.shape import EncoderShape
    from autodistil.space.space import SearchSpace


@app.command(epilog="Example: `autodistil spaces minilm-l6-h384 --teacher all-MiniLM-L6-v2`")
def spaces(
    name: Annotated[
        str | None, typer.Argument(help="A shipped space or a YAML file; all shipped ones if left out.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Check and count for this teacher; without a name the space it gets.", metavar="ID|DIR"),
    ] = None,
) -> None:
    """List search spaces, or check and describe one: axes, students, range of parameters and FLOPs."""
    from autodistil.space.files import load_space, shipped_spaces

    if teacher is not None:
        quiet_libraries()
        _print_for_teacher(name, teacher)
        return
    if name is not None:
        _print_for_bert(load_space(name))
        return
    loaded = {shipped: load_space(shipped) for shipped in shipped_spaces()}
    rows = [
        (shipped, ", ".join(sub.name for sub in space.sub_spaces), space.size_text, space.description)
        for shipped, space in loaded.items()
    ]
    print_table("Search spaces", ("name", "sub-spaces", "students", "description"), rows)
    print_lines("one in detail: autodistil spaces NAME; derived from a teacher: autodistil spaces auto --teacher ID")


def _print_for_bert(space: SearchSpace) -> None:
    """At length 128 and with BERT's vocabulary."""
    from autodistil.space.shape import EncoderShape

    bert = EncoderShape(vocab_size=30_522, other_embedding_rows=514, embedding_size=None, pooler=True)
    _print_space(space, bert, 128, "parameters with BERT's vocabulary and pooler")
    print_lines("counted for a BERT; for your teacher: --teacher ID")


def _print_for_teacher(name: str | None, source: str) -> None:
    """As a search with this teacher counts, at the length of its images or at 128."""
    from autodistil.models.families import family_of
    from autodistil.models.hf_folder import EvaluatedModel, load_config, loading_errors
    from autodistil.run.inputs import space_for

    config, pooler = load_config(source), EvaluatedModel.open(source).has_pooler
    with loading_errors(f"config.json of teacher {source!r} cannot be used"):
        shape = family_of(config).encoder_shape(config, pooler)
        space = space_for(name, config)
    _print_space(space, shape, shape.fixed_length or 128, f"parameters as a {config.model_type} of {source}")


def _print_space(space: SearchSpace, shape: EncoderShape, length: int, of: str) -> None:
    """Axes, students and cost ranges of each sub-space."""
    from autodistil.costs.closed_form import cost_table
    from autodistil.space.student import Candidate

    subs = space.sub_spaces
    costs = [cost_table([Candidate(sub.name, config) for config in sub.students], shape, length) for sub in subs]
    axes = sorted({axis for sub in subs for axis in sub.axes})
    rows = [
        *([axis, *(_axis_text(sub.axes.get(axis, ())) for sub in subs)] for axis in axes),
        ["students", *(sub.size_text for sub in subs)],
        ["kept out by the shape rule", *(f"{sub.excluded:,}" for sub in subs)],
    ]
    units = {"params": ("M params", 1e6), "flops": ("MFLOPs", 1e6), "size_mb": ("MB", 1.0)}
    for column, (unit, scale) in {**units, "kv_bytes": ("KB of cache a token", 1e3)}.items():
        if column in costs[0]:
            rows.append([unit, *(f"{c[column].min() / scale:,.1f} - {c[column].max() / scale:,.1f}" for c in costs)])
    print_table(
        f"{space.name}: {space.description}",
        ("", *(sub.name for sub in subs)),
        rows,
        caption=f"FLOPs are multiply-adds, batch 1, length {length}; {of}",
    )


def _axis_text(values: Sequence[float | None]) -> str:
    return ", ".join("whole" if value is None else f"{value:g}" for value in values)
