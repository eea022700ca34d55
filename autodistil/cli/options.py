"""The options that several commands share, as types of their arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

TRAINING, PROXY, REFINING, MACHINE = "Training", "Proxy task", "Refining", "Machine"
CLUSTER, DEVICES = "Cluster", "Budgets of devices"


def panel_option(panel: str, flag: str, metavar: str, text: str) -> Any:
    """An option that help lists under a heading of its own."""
    return typer.Option(flag, metavar=metavar, help=text, rich_help_panel=panel)


Teacher = Annotated[
    str | None,
    typer.Option(help="Hugging Face id, folder, or a packaged one: `autodistil teachers`.", metavar="ID|DIR"),
]
Corpus = Annotated[
    list[str] | None,
    typer.Option(
        help="Text (images, for such teachers): file, folder, glob, hf:dataset, or python-docs. Repeatable.",
        metavar="SRC",
    ),
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
        "--budget",
        help="5GFLOPs, 300MFLOPs@256, 12Mparams, 25MB, 12KBkv, 8ms@cpu,threads=1,runtime=onnx, 200MBram. "
        "Repeatable: all hold together.",
        metavar="B",
    ),
]
_TABLE_HELP = "Latency table for budgets such as 8ms@laptop. Repeatable."
_FORCE_HELP = "Also take tables of other devices; students are then not measured again."
LatencyTables = Annotated[list[str] | None, panel_option(DEVICES, "--latency-table", "NAME=FILE", _TABLE_HELP)]
ForceTable = Annotated[bool | None, typer.Option("--force-table", help=_FORCE_HELP, rich_help_panel=DEVICES)]
ObjectiveName = Annotated[
    str | None,
    typer.Option(
        help="auto, or a weighted sum such as relation-kl+10*last-hidden.", metavar="NAME", rich_help_panel=TRAINING
    ),
]
_ASSISTANT_HELP = "Sub-space whose largest student teaches those before it, or an encoder's folder."
_LAYER_HELP = "Teacher layer whose attention is distilled, from 0 [default: the last]."
Assistant = Annotated[str | None, panel_option(TRAINING, "--assistant", "NAME|DIR", _ASSISTANT_HELP)]
TeacherLayer = Annotated[int | None, panel_option(TRAINING, "--teacher-layer", "N", _LAYER_HELP)]
_METRIC_HELP = "What ranks students on held-out text: objective, or perplexity [default: perplexity of decoders]."
Metric = Annotated[str | None, panel_option(TRAINING, "--metric", "NAME", _METRIC_HELP)]
TrainSteps = Annotated[
    int | None, typer.Option(help="Optimiser steps [default: 24].", metavar="N", rich_help_panel=TRAINING)
]
TrainMinutes = Annotated[
    float | None, typer.Option(help="Time for training instead of steps.", metavar="M", rich_help_panel=TRAINING)
]
BatchSize = Annotated[
    int | None, typer.Option(help="Sequences a step [default: 16].", metavar="N", rich_help_panel=TRAINING)
]
SeqLen = Annotated[
    int | None,
    typer.Option(
        help="Tokens a sequence, and the length costs are stated at [default: 128].", rich_help_panel=TRAINING
    ),
]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16.", metavar="fp32|bf16", rich_help_panel=TRAINING)]
Seed = Annotated[int | None, typer.Option(help="Decides data order, drawn students and search [default: 0].")]
Sampler = Annotated[str | None, typer.Option(help="auto, exhaustive, gp, nsga2, tpe or random.", metavar="NAME")]
Trials = Annotated[int | None, typer.Option(help="Students to evaluate.", metavar="N")]
_RACING_HELP = "Stop scoring students that are surely not on the front, or not the pick; none: all on all text."
Racing = Annotated[str | None, typer.Option(help=_RACING_HELP, metavar="front|pick|none")]
_STUDY_HELP = "Study that several drivers search: a journal file, or postgresql+psycopg://... [default: in the run]."
StudyStorage = Annotated[str | None, panel_option(CLUSTER, "--study-storage", "URL|FILE", _STUDY_HELP)]
_PROXY_HELP = "Rank what the held-out loss leaves standing by a labelled task's train split: stsb, mrpc, ..., or none."
_METHOD_HELP = "similarity, probe or finetune [default: similarity where pairs have scores, else probe]."
_DATA_HELP = "Folder of tasks, as of evaluate [default: the Hub]."
_TOP_HELP = "Students to score, 0 for all [default: 16]."
_REFINE_HELP = "Distil the K best of the front alone and rank them again [default: 0]."
STEPS_HELP = "Steps alone [default: half of those of the training]."
ProxyTask = Annotated[str | None, panel_option(PROXY, "--proxy", "TASK", _PROXY_HELP)]
ProxyData = Annotated[str | None, panel_option(PROXY, "--data", "DIR", _DATA_HELP)]
ProxyMethod = Annotated[str | None, panel_option(PROXY, "--proxy-method", "NAME", _METHOD_HELP)]
ProxyTop = Annotated[int | None, panel_option(PROXY, "--proxy-top", "K", _TOP_HELP)]
RefineTop = Annotated[int | None, panel_option(REFINING, "--refine-top", "K", _REFINE_HELP)]
RefineSteps = Annotated[int | None, panel_option(REFINING, "--refine-steps", "N", STEPS_HELP)]
Threads = Annotated[int | None, typer.Option(help="CPU threads [default: all].", metavar="N", rich_help_panel=MACHINE)]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.", metavar="NAME", rich_help_panel=MACHINE)]
_WORKERS_HELP = "Ray workers [default: 0, this process alone, without Ray]."
_LAYOUT_HELP = "joint: all SuperLMs on every worker; split: each on workers of its own [default: joint]."
_ADDRESS_HELP = "Ray cluster [default: one on this machine that listens on loopback only]."
_STORAGE_HELP = "Checkpoints go here, where every node sees it [default: the run folder]."
_FAILURES_HELP = "Go on by itself so often after losing workers, -1: always [default: 2]."
Workers = Annotated[int | None, panel_option(CLUSTER, "--workers", "N", _WORKERS_HELP)]
CpusPerWorker = Annotated[int | None, panel_option(CLUSTER, "--cpus-per-worker", "C", "CPUs of each [default: 1].")]
GpusPerWorker = Annotated[float | None, panel_option(CLUSTER, "--gpus-per-worker", "G", "GPUs of each [default: 0].")]
Layout = Annotated[str | None, panel_option(CLUSTER, "--layout", "joint|split", _LAYOUT_HELP)]
Address = Annotated[str | None, panel_option(CLUSTER, "--address", "auto|HOST:PORT", _ADDRESS_HELP)]
Storage = Annotated[str | None, panel_option(CLUSTER, "--storage", "DIR|URI", _STORAGE_HELP)]
MaxFailures = Annotated[int | None, panel_option(CLUSTER, "--max-failures", "F", _FAILURES_HELP)]
_TRACK_HELP = "Tell an experiment tracker too: mlflow or wandb, or none [default: none]."
Track = Annotated[str | None, panel_option(MACHINE, "--track", "NAME", _TRACK_HELP)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML of options; flags override it.", metavar="run.yaml")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="YAML that tune wrote; over --config, under flags.", metavar="FILE")
]
ReportDir = Annotated[
    Path | None, typer.Option("--report", help="Also leave the report in this folder.", metavar="DIR")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
