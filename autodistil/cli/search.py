"""`autodistil search`."""

from __future__ import annotations

from autodistil.cli.main import app
from autodistil.cli.opening import given, open_run
from autodistil.cli.options import (
    Address,
    Assistant,
    BatchSize,
    Budgets,
    ConfigFile,
    Corpus,
    CpusPerWorker,
    Device,
    ForceTable,
    GpusPerWorker,
    Json,
    LatencyTables,
    Layout,
    MaxFailures,
    Metric,
    ObjectiveName,
    Precision,
    ProxyData,
    ProxyMethod,
    ProxyTask,
    ProxyTop,
    Racing,
    RecipeFile,
    RefineSteps,
    RefineTop,
    ReportDir,
    Resume,
    Run,
    Sampler,
    Seed,
    SeqLen,
    Space,
    Storage,
    StudyStorage,
    Teacher,
    TeacherLayer,
    Threads,
    Track,
    TrainMinutes,
    TrainSteps,
    Trials,
    Workers,
)


@app.command(epilog="Example: `autodistil search --budget 500MFLOPs --budget 12Mparams --train-minutes 30`")
def search(
    budget: Budgets = None,
    latency_tables: LatencyTables = None,
    force_table: ForceTable = None,
    teacher: Teacher = None,
    corpus: Corpus = None,
    space: Space = None,
    run: Run = None,
    objective: ObjectiveName = None,
    metric: Metric = None,
    assistant: Assistant = None,
    teacher_layer: TeacherLayer = None,
    train_steps: TrainSteps = None,
    train_minutes: TrainMinutes = None,
    batch_size: BatchSize = None,
    seq_len: SeqLen = None,
    sampler: Sampler = None,
    trials: Trials = None,
    racing: Racing = None,
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
    workers: Workers = None,
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    layout: Layout = None,
    address: Address = None,
    storage: Storage = None,
    study_storage: StudyStorage = None,
    max_failures: MaxFailures = None,
    track: Track = None,
    resume: Resume = False,
    config: ConfigFile = None,
    recipe: RecipeFile = None,
    report: ReportDir = None,
    json: Json = False,
) -> None:
    """Train what is not trained yet, search under the budgets, report, and export the best student."""
    options = given(locals(), skip=("budget", "run", "resume", "config", "recipe", "report", "json"))
    if budget:
        options["budgets"] = tuple(budget)
    context = open_run(run, config, options, quiet=json, recipe=recipe)
    if not context.config.budgets:
        from autodistil.errors import BudgetError

        raise BudgetError(
            "no budget is given; allowed: --budget 5GFLOPs, 300MFLOPs@256, 12Mparams, 25MB, 12KBkv or 8ms@cpu; add one"
        )
    from autodistil import pipeline
    from autodistil.cli import terminal as console
    from autodistil.stages.ranking_by_task import check_options

    check_options(options, context.config.proxy)
    result = pipeline.search(context, resume, report)
    if json:
        console.print_json(result)
    else:
        console.print_search(result)
