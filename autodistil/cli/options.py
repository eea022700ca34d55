"""Options of commands: fields of `RunConfig`, each with its words for help, and others that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from autodistil.config import OPTIONS

_FLAGS: dict[str | None, dict[str, tuple[str | None, str]]] = {
    None: {
        "budgets": (
            "B",
            "5GFLOPs, 300MFLOPs@256, 12Mparams, 25MB, 12KBkv, 8ms@cpu,threads=1,runtime=onnx, 200MBram. "
            "Repeatable: all hold together.",
        ),
        "teacher": ("ID|DIR", "Hugging Face id, folder, or a packaged one: `autodistil teachers`."),
        "corpus": (
            "SRC",
            "Text (images, for such teachers): file, folder, glob, hf:dataset, or python-docs. Repeatable.",
        ),
        "space": ("NAME|FILE", "Search space: a shipped name, a YAML file, or auto."),
        "per_layer": (None, "Derive a space from the teacher in which each layer has sizes of its own."),
        "train_steps": ("N", "Optimiser steps [default: 24, a look; 120 and more for a student to ship]."),
        "train_minutes": ("M", "Time for training, alone too, instead of steps."),
    },
    "Search": {
        "sampler": ("NAME", "auto, exhaustive, gp, evolution, nsga2, tpe or random."),
        "trials": ("N", "Students to evaluate."),
        "racing": ("none|pick", "pick: stop scoring students that are surely not the best; none: all on all text."),
        "seed": (None, "Decides data order, drawn students and search [default: 0]."),
        "trust_remote_code": (None, "Run code that comes with the teacher; no file can say so, ask each time."),
    },
    "Budgets of devices": {
        "latency_tables": ("NAME=FILE", "Latency table for budgets such as 8ms@laptop. Repeatable."),
        "force_table": (None, "Also take tables of other devices; students are then not measured again."),
    },
    "Training": {
        "objective": ("NAME", "auto, or a weighted sum such as relation-kl+10*last-hidden."),
        "metric": (
            "NAME",
            "What ranks students on held-out text: objective, or perplexity [default: perplexity of decoders].",
        ),
        "assistant": ("NAME|DIR", "Sub-space whose largest student teaches those before it, or an encoder's folder."),
        "output_teacher": (
            "ID|DIR|NPY",
            "Encoder whose embeddings students learn, through a linear head; any tokenizer and width. Or embeddings "
            "made elsewhere: texts.npy, their texts beside in texts.jsonl or .txt. Repeatable, with weights: 2*ID.",
        ),
        "output_role": (
            "document|query",
            "Which of its prompts goes before each training text [default: document].",
        ),
        "matryoshka": ("DIMS", "Dimensions to which embeddings may be cut, such as 256,128,64: trained to bear it."),
        "exits": (None, "Train every layer to end in a usable embedding: a student may be left after any."),
        "visible_patches": (
            "SHARE",
            "Share of an image's patches that a step reads, such as 0.25 [default: 1].",
        ),
        "masking": ("random|disjoint", "Patches of each image at random, or views that have none in common."),
        "teacher_text": ("SHARE", "Share of the training text whose continuation the teacher writes; of decoders."),
        "on_policy": ("SHARE", "Share of the steps on text that the largest student writes; of decoders."),
        "teacher_layer": ("N", "Teacher layer whose attention is distilled, from 0 [default: the last]."),
        "select": ("NAME", "Train on a part of the sentences: random, frequent, diverse or hard; with --tokens."),
        "tokens": ("N", "Tokens of that part."),
        "batch_size": ("N", "Sequences a step [default: 16]."),
        "seq_len": (None, "Tokens a sequence, and the length costs are stated at [default: 128]."),
        "precision": ("fp32|bf16", "fp32 or bf16."),
    },
    "Proxy task": {
        "proxy": (
            "TASK",
            "Rank what the held-out loss leaves standing by a labelled task's train split: stsb, mrpc, ..., or none.",
        ),
        "data": ("DIR", "Folder of tasks, as of evaluate [default: the Hub]."),
        "proxy_method": (
            "NAME",
            "similarity, probe, knn or finetune [default: similarity where pairs have scores, else probe].",
        ),
        "proxy_top": ("K", "Students to score, 0 for all [default: 16]."),
    },
    "Refining": {
        "refine_top": (
            "K",
            "Distil the K best of the front alone and rank them again [default: 1; 0 on Ray].",
        ),
        "refine_steps": ("N", "Steps alone [default: six times those of the training]."),
    },
    "Machine": {
        "threads": ("N", "CPU threads [default: all that it may use]."),
        "device": ("NAME", "auto, cpu, cuda or mps."),
        "track": ("NAME", "Tell an experiment tracker too: mlflow or wandb, or none [default: none]."),
    },
    "Cluster": {
        "workers": ("N", "Ray workers [default: 0, this process alone, without Ray]."),
        "cpus_per_worker": ("C", "CPUs of each [default: 1]."),
        "gpus_per_worker": ("G", "GPUs of each [default: 0]."),
        "layout": (
            "joint|split",
            "joint: all SuperLMs on every worker; split: each on workers of its own [default: joint].",
        ),
        "address": ("auto|HOST:PORT", "Ray cluster [default: one on this machine that listens on loopback only]."),
        "storage": ("DIR|URI", "Checkpoints go here, where every node sees it [default: the run folder]."),
        "study_storage": (
            "URL|FILE",
            "Study that several drivers search: a journal file, or postgresql+psycopg://... [default: in the run].",
        ),
        "max_failures": ("F", "Go on by itself so often after losing workers, -1: always [default: 2]."),
    },
}
FLAGS = tuple(name for panel in _FLAGS.values() for name in panel)
"""Fields of `RunConfig` that are options of the command line, in the order of help."""

_SINGULAR = {"budgets": "--budget", "latency_tables": "--latency-table"}
"""Repeatable options whose flag names one of them."""

_FILES = "Files and output"

Pick = Annotated[
    str,
    typer.Option(
        help="best; half (the best at half its cost); near (the cheapest within 1 %); knee; or an id.",
        metavar="best|half|near|knee|ID",
    ),
]
ExistingRun = Annotated[Path, typer.Option("--run", help="Run folder of a search.", metavar="DIR")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="YAML of options; flags override it.", metavar="run.yaml", rich_help_panel=_FILES),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe", help="YAML that tune wrote; over --config, under flags.", metavar="FILE", rich_help_panel=_FILES
    ),
]
ReportDir = Annotated[
    Path | None,
    typer.Option("--report", help="Also leave the report in this folder.", metavar="DIR", rich_help_panel=_FILES),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]


def flag(name: str) -> inspect.Parameter:
    """The option of a command for a field of `RunConfig`; None where it is not typed.

    It takes any text for a field with choices: `RunConfig` says what is allowed, with the closest one.
    """
    panel = next(panel for panel, names in _FLAGS.items() if name in names)
    metavar, words = _FLAGS[panel][name]
    kind: Any = list[str] if OPTIONS[name].kind is tuple else OPTIONS[name].kind
    spelt = _SINGULAR.get(name, f"--{name.replace('_', '-')}")
    option = typer.Option(None, spelt, help=words, metavar=metavar, rich_help_panel=panel)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind | None)


def with_flags(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these fields of `RunConfig` as options: those that are typed come as its argument `options`.

    Help lists them where `options` stands among the command's own arguments.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapped(**arguments: Any) -> None:
            options = given(**{name: arguments.pop(name) for name in names})
            command(options=options, **arguments)

        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            parameters += map(flag, names) if own.name == "options" else [own.replace(kind=own.KEYWORD_ONLY)]
        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapped

    return decorate


def given(**arguments: Any) -> dict[str, Any]:
    """The options that were typed."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in arguments.items()
        if value not in (None, [])
    }
