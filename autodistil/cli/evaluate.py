"""`autodistil evaluate`: scores on labelled tasks as a table or as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import open_existing, set_threads
from autodistil.cli.options import Json, given, with_flags
from autodistil.cli.terminal import print_json, print_lines, print_table, quiet_libraries
from autodistil.config import OPTIONS

if TYPE_CHECKING:
    from autodistil.evaluation.results import TaskResult


@app.command(epilog="Example: `autodistil evaluate my-student --task stsb --task mrpc --data tasks/ --finetune`")
@with_flags("threads", "device")
def evaluate(
    *,
    model: Annotated[
        str,
        typer.Argument(help="A student's folder, another Hugging Face encoder, or all-MiniLM-L6-v2.", metavar="DIR"),
    ],
    task: Annotated[
        list[str] | None,
        typer.Option(help="GLUE: cola, mrpc, ...; sts12 to sts16; a folder of --data. Repeatable.", metavar="NAME"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of tasks: [glue/|extra/]NAME/{train,dev,test}.tsv with the columns text_a, text_b (pairs) "
            "and label or score, or tokens and tags (BIO); images in NAME/{train,dev,test}/CLASS/; or collections "
            "as BEIR has them: [retrieval/]NAME/{corpus,queries}.jsonl and qrels/test.tsv [default: the Hugging Face "
            "Hub].",
            metavar="DIR",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="similarity, probe, knn, finetune, classify, cluster; retrieval or rerank of a collection [default: "
            "classify where the model's own head fits, similarity where pairs have scores, rerank where a collection "
            "names candidates, else retrieval or probe].",
            metavar="NAME",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="dev or test [default: dev where there is one].", metavar="NAME")
    ] = None,
    finetune: Annotated[bool, typer.Option("--finetune", help="The same as --method finetune.")] = False,
    seeds: Annotated[
        int | None, typer.Option(help="Seeds [default: 3 of finetune, cluster and few labels].", metavar="N")
    ] = None,
    max_train: Annotated[
        int | None, typer.Option(help="Training rows at most [default: 10,000 for probe, else all].", metavar="N")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Of probe, knn and finetune: share of the training rows of each class that have a label; of several, "
            "1%,5%,100%, a row each [default: 100%].",
            metavar="P%,...",
        ),
    ] = None,
    neighbours: Annotated[int | None, typer.Option(help="Of knn [default: 20].", metavar="N")] = None,
    learning_rate: Annotated[
        list[float] | None,
        typer.Option(help="Of finetune; repeatable, the best counts [default: 5e-5, 1e-4, 3e-4].", metavar="LR"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Of finetune [default: 3 to 5 by rows, 20 of few labels].", metavar="N")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of finetune [default: 32].", metavar="N")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of a text [default: 128].", metavar="N")] = None,
    write: Annotated[
        bool | None,
        typer.Option(
            "--write/--no-write",
            help="Keep results in DIR: evaluation.json and README.md [default: if autodistil exported it].",
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            help="ONNX or OpenVINO (.xml) file in DIR to score, not its weights, such as onnx/model.onnx; not kept.",
            metavar="FILE",
        ),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="Another model to score in the same way and show under DIR, such as its teacher; a folder, id or name "
            "as DIR; never written. Repeatable.",
            metavar="MODEL",
        ),
    ] = None,
    index_by: Annotated[
        str | None,
        typer.Option(
            help="Embed the documents of collections by this model, queries by DIR: does its index serve DIR?",
            metavar="MODEL",
        ),
    ] = None,
    truncate_dim: Annotated[
        str | None,
        typer.Option(
            help="Score the leading N dimensions, not kept; of several, 256,128,64, a row each [default: as DIR says, "
            "else all].",
            metavar="N,...",
        ),
    ] = None,
    vectors: Annotated[
        str | None,
        typer.Option(
            help="Score vectors as an index stores them, float32, int8 or binary, not kept; of several a row each: "
            "retrieval and rerank (queries are float32), similarity (both sides).",
            metavar="NAME,...",
        ),
    ] = None,
    exit_layer: Annotated[
        int | None,
        typer.Option(help="Run its first N layers alone, of a student trained with --exits [not kept].", metavar="N"),
    ] = None,
    draft_of: Annotated[
        str | None,
        typer.Option(
            help="In the place of tasks: let DIR, a decoder, draft for this one, its teacher, on --texts.",
            metavar="MODEL",
        ),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Of --draft-of: what is continued, a text a line.", metavar="FILE")
    ] = None,
    objects_of: Annotated[
        str | None,
        typer.Option(
            help="In the place of tasks: do the patches of DIR, a vision encoder, part objects from the background as "
            "those of this one, its teacher, do, on --images?",
            metavar="MODEL",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Of --objects-of: files or a folder, the first 500 by path.", metavar="PATH")
    ] = None,
    options: dict[str, Any],
    json: Json = False,
) -> None:
    """Score a model on labelled tasks: similarity, retrieval, clusters, nearest neighbours, a probe, or fine-tuning."""
    if finetune and method not in (None, "finetune"):
        from autodistil.errors import ConfigError

        raise ConfigError(f"--finetune and --method {method} are both given; give one of them")
    options = {name: OPTIONS[name].checked(name, value) for name, value in options.items()}  # they make no RunConfig
    quiet_libraries()
    scored = (task, data, method, split, finetune or None, write, file, beside, index_by, truncate_dim, vectors)
    trained = (seeds, max_train, labels, neighbours, learning_rate, epochs, batch_size, exit_layer)
    of_drafts, of_objects = (draft_of, texts), (objects_of, images)
    if _any_given(*of_drafts):
        beside_it = _any_given(*scored, *trained, *of_objects)
        _score_drafts(model, draft_of, texts, beside_it, max_length, options, json)
        return
    if _any_given(*of_objects):
        _score_objects(model, objects_of, images, _any_given(*scored, *trained, max_length), options, json)
        return
    from autodistil.cli.progress import TerminalProgress
    from autodistil.evaluation.evaluate import evaluate as evaluate_model
    from autodistil.objectives.objective import read_cuts
    from autodistil.tasks.few_labels import read_shares
    from autodistil.tasks.finetune import EvaluationSettings

    set_threads(options.pop("threads", None))
    options |= given(seeds=seeds, max_train=max_train, epochs=epochs, batch_size=batch_size, max_length=max_length)
    settings = EvaluationSettings(
        **{
            "device": "auto",
            **options,
            **given(learning_rates=learning_rate, index_by=index_by, exit_layer=exit_layer, neighbours=neighbours),
        }
    )
    cuts = read_cuts(truncate_dim, "truncate_dim") if truncate_dim is not None else ()
    shares = read_shares(labels) if labels is not None else ()
    ways = [name.strip() for name in vectors.split(",")] if vectors is not None else []
    chosen = "finetune" if finetune else method
    progress = TerminalProgress(stderr=json)
    results, path, others = evaluate_model(
        model,
        tuple(task or ()),
        data,
        chosen,
        settings,
        write,
        progress,
        file,
        split,
        tuple(beside or ()),
        cuts,
        ways,
        shares,
    )
    if json:
        print_json(
            {
                "model": model,
                "results": [result.to_dict() for result in results],
                "beside": [{"model": name, "results": [one.to_dict() for one in of]} for name, of in others.items()],
                "written": str(path) if path else None,
            }
        )
    else:
        _print_results(model, results, others)
        print_lines(f"written: {path}" if path else "not written into the model's folder (see --write)")
    if path is not None and (run := path.absolute().parent.parent.parent).joinpath("run.yaml").is_file():
        said = _report_again(run, json)
        if not json:
            print_lines(said)


def _score_drafts(
    model: str,
    teacher: str | None,
    texts: Path | None,
    of_tasks: bool,
    max_length: int | None,
    options: dict[str, Any],
    json: bool,
) -> None:
    """Show how well a decoder drafts for its teacher."""
    from autodistil.errors import ConfigError
    from autodistil.evaluation.draft import DRAFT_TOKENS, NEW_TOKENS, draft_scores
    from autodistil.tasks.labelled_rows import read_texts

    if teacher is None or texts is None or of_tasks:
        raise ConfigError(
            "--draft-of MODEL and --texts FILE go together, beside them --max-length, --threads, --device and --json "
            "alone; options of tasks are for another call"
        )
    set_threads(options.get("threads"))
    lines = [text for text, _ in read_texts(texts, pairs=False)]
    found = draft_scores(model, teacher, lines, options.get("device", "auto"), **given(prompt_tokens=max_length))
    if json:
        shares = {"acceptance": found.acceptance, "tokens_a_pass": found.tokens_a_pass}
        print_json({"model": model, "draft_of": teacher, **asdict(found), **shares})
        return
    print_lines(
        f"{model} drafts for {teacher}: {found.acceptance:.1%} of {found.drafted:,} drafted tokens accepted, "
        f"{found.tokens_a_pass:.2f} tokens a pass of the teacher ({found.texts:,} texts, {NEW_TOKENS} new tokens each "
        f"at most, {DRAFT_TOKENS} drafted at a time, greedy)",
        f"tokens a second: {found.tokens_a_second:,.1f} with it, {found.tokens_a_second_alone:,.1f} without",
        f"the teacher's own text: {found.same_texts:,} of {found.texts:,}, token by token",
    )


def _score_objects(
    model: str, teacher: str | None, images: Path | None, of_tasks: bool, options: dict[str, Any], json: bool
) -> None:
    """Show how far the objects that a vision encoder sees are its teacher's."""
    from autodistil.errors import ConfigError
    from autodistil.evaluation.token_cut import object_scores

    if teacher is None or images is None or of_tasks:
        raise ConfigError(
            "--objects-of MODEL and --images PATH go together, beside them --threads, --device and --json alone; "
            "options of tasks are for another call"
        )
    set_threads(options.get("threads"))
    found = object_scores(model, teacher, images, options.get("device", "auto"))
    if json:
        print_json({"model": model, "objects_of": teacher, **asdict(found)})
        return
    print_lines(
        f"{model} beside {teacher}, objects by TokenCut in {found.images:,} images: {found.overlap:.1%} of their "
        f"patches in common, {found.found:.1%} of the images with boxes that overlap by half",
        f"images with an object: {found.objects:.1%}, of the teacher {found.objects_of_teacher:.1%}",
    )


def _any_given(*options: object) -> bool:
    return any(option is not None for option in options)


def _report_again(run: Path, quiet: bool) -> str:
    """Write the report of the run whose student was scored; says where it is, or why it is as it was."""
    from autodistil import pipeline
    from autodistil.errors import AutodistilError

    try:
        opened = open_existing(run, quiet)
        with opened.folder.locked():
            return f"report: {pipeline.report(opened)}"
    except AutodistilError as error:
        return f"not in the report yet, as {error}; then: autodistil report --run {shlex.quote(str(run))}"


def _print_results(model: str, results: Sequence[TaskResult], others: Mapping[str, Sequence[TaskResult]]) -> None:
    """A row a metric, and under it those of other models; columns name them, and sizes, where there are some."""
    from autodistil.evaluation.results import baseline_words

    scored = ("trained on", "metric", "value", "± error", "baseline", "seeds")
    columns = ("model", "task", "method", "labels", "split", "dimensions", "vectors", "bytes a vector", *scored)
    there = {
        "model": bool(others),
        "labels": any(one.labels < 1 for one in results),
        "vectors": any(one.vectors for one in results),
        **dict.fromkeys(("dimensions", "bytes a vector"), any(one.dimensions for one in results)),
    }
    gone = {name for name, is_there in there.items() if not is_there}
    rows = [
        (name, *row)
        for of_task in zip(results, *others.values(), strict=True)
        for of_metric in zip(*map(_rows, of_task), strict=True)
        for name, row in zip((model, *others), of_metric, strict=True)
    ]
    print_table(
        f"{model} on labelled tasks",
        [name for name in columns if name not in gone],
        [[cell for name, cell in zip(columns, row, strict=True) if name not in gone] for row in rows],
        caption="times 100; value: mean ± sample standard deviation over seeds; baseline: "
        f"{baseline_words(results)}\n± error: standard error that the choice of the scored rows brings; differences "
        "below twice of it say little",
        right=("labels", "dimensions", "bytes a vector", "trained on", "value", "± error", "baseline", "seeds"),
        first_to_go=("trained on", "seeds"),
    )


def _rows(result: TaskResult) -> list[tuple[str, ...]]:
    """The cells of each metric of a result."""
    from autodistil.evaluation.results import METHOD_NAMES, figure, mean_and_spread

    split = f"{result.split} ({result.rows:,})"
    size = (str(result.dimensions or ""), result.vectors or "", f"{result.vector_bytes or 0:,}")
    labels = f"{100 * result.labels:g} %"
    head = (result.task, METHOD_NAMES[result.method], labels, split, *size, f"{result.train_rows:,}")
    beside = (result.standard_error, result.baseline)
    return [
        (*head, name, mean_and_spread(of, 100, 1), *(figure(by.get(name), 100, 1) for by in beside), str(len(of)))
        for name, of in result.metrics.items()
    ]
