"""The command line: parses, calls the pipeline, prints. Heavy imports happen in the commands, so that help is quick.

Exit status: 0 done, 1 a failure of ours, 2 wrong input (one line says what, got, allowed and the next step), 130
stopped by Ctrl-C (the line that resumes is printed).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autodistil.errors import AutodistilError

if TYPE_CHECKING:
    from autodistil.context import RunContext

app = typer.Typer(
    name="autodistil",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find the best small student of a Transformer encoder for your budget, without re-training.",
    epilog="Start with: `autodistil search --budget 500MFLOPs`",
)

_TRAINING, _PROXY, _REFINING, _MACHINE = "Training", "Proxy task", "Refining", "Machine"


def _option(panel: str, flag: str, metavar: str, text: str) -> Any:
    return typer.Option(flag, metavar=metavar, help=text, rich_help_panel=panel)


Teacher = Annotated[
    str | None, typer.Option(help="Hugging Face id, folder, or the packaged all-MiniLM-L6-v2.", metavar="ID|DIR")
]
Corpus = Annotated[
    list[str] | None,
    typer.Option(help="Text: file, folder, glob, hf:dataset, or python-docs. Repeatable.", metavar="SRC"),
]
Space = Annotated[
    str | None, typer.Option(help="Search space: a shipped name, a YAML file, or auto.", metavar="NAME|FILE")
]
Run = Annotated[Path | None, typer.Option(help="Run folder [default: runs/<teacher>-<space>].", metavar="DIR")]
Pick = Annotated[str, typer.Option(help="best, knee, or an id of candidates.csv.", metavar="best|knee|ID")]
ExistingRun = Annotated[Path, typer.Option("--run", help="Run folder of a search.", metavar="DIR")]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget", help="5GFLOPs, 300MFLOPs@256, 12Mparams, 25MB. Repeatable: all hold together.", metavar="B"
    ),
]
ObjectiveName = Annotated[
    str | None,
    typer.Option(
        help="auto, or a weighted sum such as relation-kl+10*last-hidden.", metavar="NAME", rich_help_panel=_TRAINING
    ),
]
_ASSISTANT_HELP = "Sub-space whose largest student teaches those before it, or an encoder's folder."
_LAYER_HELP = "Teacher layer whose attention is distilled, from 0 [default: the last]."
Assistant = Annotated[str | None, _option(_TRAINING, "--assistant", "NAME|DIR", _ASSISTANT_HELP)]
TeacherLayer = Annotated[int | None, _option(_TRAINING, "--teacher-layer", "N", _LAYER_HELP)]
TrainSteps = Annotated[
    int | None, typer.Option(help="Optimiser steps [default: 24].", metavar="N", rich_help_panel=_TRAINING)
]
TrainMinutes = Annotated[
    float | None, typer.Option(help="Time for training instead of steps.", metavar="M", rich_help_panel=_TRAINING)
]
BatchSize = Annotated[
    int | None, typer.Option(help="Sequences a step [default: 16].", metavar="N", rich_help_panel=_TRAINING)
]
SeqLen = Annotated[
    int | None,
    typer.Option(
        help="Tokens a sequence, and the length costs are stated at [default: 128].", rich_help_panel=_TRAINING
    ),
]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16.", metavar="fp32|bf16", rich_help_panel=_TRAINING)]
Seed = Annotated[int | None, typer.Option(help="Decides data order, drawn students and search [default: 0].")]
Sampler = Annotated[str | None, typer.Option(help="auto, exhaustive, nsga2, tpe or random.", metavar="NAME")]
Trials = Annotated[int | None, typer.Option(help="Students to evaluate.", metavar="N")]
_PROXY_HELP = "Rank what the held-out loss leaves standing by a labelled task's train split: stsb, mrpc, ..., or none."
_METHOD_HELP = "similarity, probe or finetune [default: similarity where pairs have scores, else probe]."
_DATA_HELP = "Folder of tasks, as of evaluate [default: the Hub]."
_TOP_HELP = "Students to score, 0 for all [default: 16]."
_REFINE_HELP = "Distil the K best of the front alone and rank them again [default: 0]."
_STEPS_HELP = "Steps alone [default: half of those of the training]."
ProxyTask = Annotated[str | None, _option(_PROXY, "--proxy", "TASK", _PROXY_HELP)]
ProxyData = Annotated[str | None, _option(_PROXY, "--data", "DIR", _DATA_HELP)]
ProxyMethod = Annotated[str | None, _option(_PROXY, "--proxy-method", "NAME", _METHOD_HELP)]
ProxyTop = Annotated[int | None, _option(_PROXY, "--proxy-top", "K", _TOP_HELP)]
RefineTop = Annotated[int | None, _option(_REFINING, "--refine-top", "K", _REFINE_HELP)]
RefineSteps = Annotated[int | None, _option(_REFINING, "--refine-steps", "N", _STEPS_HELP)]
Threads = Annotated[int | None, typer.Option(help="CPU threads [default: all].", metavar="N", rich_help_panel=_MACHINE)]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.", metavar="NAME", rich_help_panel=_MACHINE)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML of options; flags override it.", metavar="run.yaml")
]
ReportDir = Annotated[
    Path | None, typer.Option("--report", help="Also leave the report in this folder.", metavar="DIR")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]


@app.command(epilog="Example: `autodistil search --budget 500MFLOPs --budget 12Mparams --train-minutes 30`")
def search(
    budget: Budgets = None,
    teacher: Teacher = None,
    corpus: Corpus = None,
    space: Space = None,
    run: Run = None,
    objective: ObjectiveName = None,
    assistant: Assistant = None,
    teacher_layer: TeacherLayer = None,
    train_steps: TrainSteps = None,
    train_minutes: TrainMinutes = None,
    batch_size: BatchSize = None,
    seq_len: SeqLen = None,
    sampler: Sampler = None,
    trials: Trials = None,
    proxy: ProxyTask = None,
    data: ProxyData = None,
    proxy_method: ProxyMethod = None,
    proxy_top: ProxyTop = None,
    refine_top: RefineTop = None,
    refine_steps: RefineSteps = None,
    seed: Seed = None,
    threads: Threads = None,
    device: Device = None,
    precision: Precision = None,
    resume: Resume = False,
    config: ConfigFile = None,
    report: ReportDir = None,
    json: Json = False,
) -> None:
    """Train what is not trained yet, search under the budgets, report, and export the best student."""
    options = _given(locals(), skip=("budget", "run", "resume", "config", "report", "json"))
    if budget:
        options["budgets"] = tuple(budget)
    context = _open(run, config, options, quiet=json)
    if not context.config.budgets:
        from autodistil.errors import BudgetError

        raise BudgetError("no budget is given; allowed: --budget 5GFLOPs, 300MFLOPs@256, 12Mparams or 25MB; add one")
    from autodistil import console, pipeline
    from autodistil.stages.proxy import check_options

    check_options(options, context.config.proxy)
    result = pipeline.search(context, resume, report)
    if json:
        console.print_json(result)
    else:
        console.print_search(result)


@app.command(
    epilog="Example: `autodistil train --run runs/mine --teacher bert-base-uncased --corpus wiki/ --train-minutes 600`"
)
def train(
    run: Annotated[Path, typer.Option(help="Run folder.", metavar="DIR")],
    teacher: Teacher = None,
    corpus: Corpus = None,
    space: Space = None,
    objective: ObjectiveName = None,
    assistant: Assistant = None,
    teacher_layer: TeacherLayer = None,
    train_steps: TrainSteps = None,
    train_minutes: TrainMinutes = None,
    batch_size: BatchSize = None,
    seq_len: SeqLen = None,
    seed: Seed = None,
    threads: Threads = None,
    device: Device = None,
    precision: Precision = None,
    resume: Resume = False,
    config: ConfigFile = None,
) -> None:
    """Train the SuperLMs of all sub-spaces."""
    context = _open(run, config, _given(locals(), skip=("run", "resume", "config")))
    from autodistil import pipeline

    pipeline.train(context, resume)
    typer.echo(f"trained; search it with: autodistil search --run {run} --budget 500MFLOPs")


@app.command(epilog="Example: `autodistil report --run runs/mine`")
def report(run: ExistingRun, report_dir: ReportDir = None) -> None:
    """Write the report of the last search again."""
    context = _open_existing(run)
    from autodistil import pipeline

    typer.echo(f"report: {pipeline.report(context, report_dir)}")


@app.command(epilog="Example: `autodistil certify --run runs/mine --one`")
def certify(
    run: ExistingRun,
    sample: Annotated[
        int, typer.Option(help="Students of each sub-space to train alone; they tell how far to trust the search.")
    ] = 5,
    one: Annotated[bool, typer.Option("--one", help="Also train one SuperLM over all sub-spaces to compare.")] = False,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Train a few students alone, and report how far the ranks of the search can be trusted."""
    context = _open_existing(run, quiet=json)
    from autodistil import console
    from autodistil.certify import certify as certify_run

    certified = certify_run(context, sample, one, resume)
    if json:
        console.print_certified_json(certified)
    else:
        console.print_certified(certified)


@app.command(epilog="Example: `autodistil refine --run runs/mine --pick knee --steps 2000`")
def refine(
    run: ExistingRun,
    pick: Pick = "best",
    steps: Annotated[int | None, typer.Option(help=_STEPS_HELP, metavar="N")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate [default: a quarter of that of the training].", metavar="X")
    ] = None,
    resume: Resume = False,
) -> None:
    """Go on distilling a student alone; exports of it then have the refined weights."""
    given = {"refine_steps": steps, "refine_learning_rate": learning_rate}
    context = _open_existing(run, options=_given(given, skip=()))
    from autodistil import console, pipeline

    refinement, report = pipeline.refine(context, pick, resume)
    console.print_refined(refinement, report, run)


@app.command(epilog="Example: `autodistil export --run runs/mine --pick knee --to my-student`")
def export(
    run: ExistingRun,
    to: Annotated[Path, typer.Option(help="New folder for the student.", metavar="DIR")],
    pick: Pick = "best",
    budget: Budgets = None,
    unrefined: Annotated[
        bool, typer.Option("--unrefined", help="The slice of the SuperLM, though the student was refined.")
    ] = False,
) -> None:
    """Write a student as an ordinary Hugging Face folder."""
    context = _open_existing(run)
    from autodistil import console, pipeline

    student_id, exported = pipeline.export(context, pick, to, tuple(budget or ()), unrefined)
    console.print_export(student_id, exported)


@app.command(epilog="Example: `autodistil evaluate my-student --task stsb --task mrpc --data tasks/ --finetune`")
def evaluate(
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
            "and label [default: the Hugging Face Hub].",
            metavar="DIR",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="similarity, probe or finetune [default: similarity where pairs have scores, else probe].",
            metavar="NAME",
        ),
    ] = None,
    finetune: Annotated[bool, typer.Option("--finetune", help="The same as --method finetune.")] = False,
    seeds: Annotated[int | None, typer.Option(help="Seeds [default: 3 for finetune, else 1].", metavar="N")] = None,
    max_train: Annotated[
        int | None,
        typer.Option(help="Training rows at most [default: 10,000 for probe, else all].", metavar="N"),
    ] = None,
    learning_rate: Annotated[
        list[float] | None,
        typer.Option(help="Of finetune; repeatable, the best counts [default: 5e-5, 1e-4, 3e-4].", metavar="LR"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of finetune [default: 3 to 5 by rows].", metavar="N")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of finetune [default: 32].", metavar="N")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of a text [default: 128].", metavar="N")] = None,
    write: Annotated[
        bool | None,
        typer.Option(
            "--write/--no-write",
            help="Keep results in DIR: evaluation.json and README.md [default: if autodistil exported it].",
        ),
    ] = None,
    threads: Threads = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Score a model on labelled tasks: embedding similarity, a linear probe, or fine-tuning."""
    names = ("seeds", "max_train", "epochs", "batch_size", "max_length", "learning_rate", "device")
    options = _given({name: value for name, value in locals().items() if name in names}, skip=())
    _check_method(method, finetune)
    from autodistil.console import TerminalProgress, print_evaluation, quiet_libraries

    quiet_libraries()
    from autodistil.evaluation.evaluate import evaluate as evaluate_model
    from autodistil.evaluation.settings import EvaluationSettings

    options["learning_rates"] = options.pop("learning_rate", EvaluationSettings.learning_rates)
    settings = EvaluationSettings(**{"device": "auto", **options})
    _set_threads(threads)
    chosen = "finetune" if finetune else method
    progress = TerminalProgress(stderr=json)
    results, path = evaluate_model(model, tuple(task or ()), data, chosen, settings, write, progress)
    print_evaluation(model, results, path, as_json=json)


@app.command(epilog="Example: `autodistil spaces minilm-l6-h384`")
def spaces(
    name: Annotated[
        str | None, typer.Argument(help="A shipped space or a YAML file; all shipped ones if left out.")
    ] = None,
) -> None:
    """List search spaces, or check and describe one: axes, students, range of parameters and FLOPs."""
    from autodistil import console

    console.print_spaces(name)


@app.command()
def doctor() -> None:
    """Versions, threads, accelerators, where the defaults come from, and what is missing."""
    from autodistil import console

    console.print_doctor()


def _given(arguments: dict[str, Any], skip: tuple[str, ...]) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in arguments.items()
        if name not in skip and value is not None and value != []
    }


def _open(run: Path | None, config: Path | None, options: dict[str, Any], quiet: bool = False) -> RunContext:
    """Open a run with options from a file and from the command line, and set the process up for it."""
    from autodistil.config import read_config
    from autodistil.console import TerminalProgress, quiet_libraries
    from autodistil.run import RunFolder

    layers = [read_config(config)] if config else []
    if run is not None:
        RunFolder(run).exists()  # refuse a foreign folder before anything heavy is loaded
    quiet_libraries()
    from autodistil.context import RunContext

    context = RunContext.open(run, *layers, options, progress=TerminalProgress(stderr=quiet))
    _set_threads(context.config.threads)
    return context


def _open_existing(run: Path, quiet: bool = False, options: dict[str, Any] | None = None) -> RunContext:
    from autodistil.run import RunFolder

    RunFolder(run).record()
    return _open(run, None, options or {}, quiet)


def _check_method(method: str | None, finetune: bool) -> None:
    if finetune and method not in (None, "finetune"):
        from autodistil.errors import ConfigError

        raise ConfigError(f"--finetune and --method {method} are both given; give one of them")


def _set_threads(threads: int | None) -> None:
    import torch

    torch.set_num_threads(threads or os.cpu_count() or 1)


_INTERRUPTED = 130
"""Exit status after Ctrl-C."""
_RESUMABLE = (["search"], ["train"], ["certify"], ["refine"])
"""Commands with --resume; the others are quick, or keep what is done."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if app(arguments, standalone_mode=False) == _INTERRUPTED:  # typer turns a KeyboardInterrupt into this
            raise KeyboardInterrupt
        sys.exit(0)
    except AutodistilError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        words = [argument for argument in arguments if argument != "--resume"]
        words += ["--resume"] * (words[:1] in _RESUMABLE)
        _fail(f"stopped; go on with: autodistil {' '.join(words)}", _INTERRUPTED)
    except BrokenPipeError:
        os._exit(141)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            _fail(f"{error.format_message()}; see: autodistil --help", 2)
        if os.environ.get("AUTODISTIL_DEBUG"):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        _fail(f"internal error: {text[:300]}; set AUTODISTIL_DEBUG=1 for the trace and report it", 1)


def _fail(message: str, status: int) -> None:
    typer.echo(f"autodistil: {' '.join(message.split())}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
