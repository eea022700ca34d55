"""`autodistil export`: writes a student, and says how it was checked and how to load it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import open_existing
from autodistil.cli.options import Pick, with_flags
from autodistil.cli.terminal import print_lines, quiet_libraries


@app.command(epilog="Example: `autodistil export --run runs/mine --pick half --to my-student`")
@with_flags("budgets", "trust_remote_code")
def export(
    *,
    run: Annotated[Path | None, typer.Option("--run", help="Run folder of a search.", metavar="DIR")] = None,
    model: Annotated[
        str | None, typer.Option(help="In the place of a run: an encoder as it is, with --format.", metavar="ID|DIR")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Of --model: images such as it will read, which openvino-int8 needs.", metavar="DIR"),
    ] = None,
    to: Annotated[Path, typer.Option(help="New folder for the student.", metavar="DIR")],
    pick: Pick = "best",
    options: dict[str, Any],
    unrefined: Annotated[
        bool, typer.Option("--unrefined", help="The slice of the SuperLM, though the student was refined.")
    ] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="hf, sentence-transformers (if the teacher is one); beside: onnx, onnx-int8, onnx-bits, openvino, "
            "openvino-int8; of decoders onnx, onnx-int8, gguf, gguf-f32, gguf-q8, gguf-q5, gguf-q4. Repeatable.",
            metavar="FORMAT",
        ),
    ] = None,
) -> None:
    """Write a student as an ordinary Hugging Face folder, and for other runtimes."""
    from autodistil.errors import ConfigError

    if (run is None) == (model is None):
        raise ConfigError("a student of --run DIR or a model by --model NAME is exported; give one of them")
    if run is None:
        if pick != "best" or unrefined or options.get("budgets"):
            raise ConfigError("--pick, --budget and --unrefined are of a run's students; leave them out with --model")
        _export_model(str(model), to, formats or [], images)
        return
    if images is not None:
        raise ConfigError("--images are of --model; a run takes those that it held out; leave it out")
    budgets = options.pop("budgets", ())
    opened = open_existing(run, options=options)
    from autodistil import pipeline

    student_id, exported = pipeline.export(opened, pick, to, budgets, unrefined, tuple(formats or ()))
    plain = "AutoModelForCausalLM" if exported.decoder else "AutoModel"
    loader = "SentenceTransformer" if exported.sentence_transformers else f"{plain}.from_pretrained"
    trust = ", trust_remote_code=True" if exported.own_architecture else ""
    print_lines(
        f"exported {student_id} to {exported.path} (model.safetensors {exported.size_mb:.1f} MB; reloaded and compared "
        f"with the SuperLM's student: largest difference {exported.max_difference:.1e})",
        *(f"{one.format}: {one.line}" for one in exported.more),
        f'load it with: {loader}("{exported.path}"{trust})',
    )


def _export_model(source: str, to: Path, formats: list[str], images: Path | None) -> None:
    quiet_libraries()
    from autodistil.export.model_formats import export_model

    written = export_model(source, to, formats, images)
    print_lines(f"{source}, unchanged, in {to}", *(f"{one.format}: {one.line}" for one in written))
