"""The configuration of a run: typed, frozen, strict about names and values, layered from files and flags."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from autodistil.errors import ConfigError, suggest

LARGEST_FIRST = ("sandwich", "progressive")
"""Ways of sampling that draw the largest student in every step, first, which in-place distillation needs."""


@dataclass(frozen=True)
class RunConfig:
    """Every option of a run. A `run.yaml` holds them under `config:`; flags of the command line override it."""

    # What is distilled: another value means another run folder.
    teacher: str = "all-MiniLM-L6-v2"
    """Packaged name, Hugging Face id or folder of the teacher."""
    corpus: tuple[str, ...] = ("python-docs",)
    """Text sources: files, folders, globs, `hf:` datasets or `python-docs`; images for teachers that read them."""
    space: str | None = None
    """Shipped space, YAML file, or `auto` to derive one; unless given, one made for such a teacher, or `auto`."""
    trust_remote_code: bool = False
    """Allow code that comes with the teacher."""

    # How it is trained: fixed once a run has begun.
    order: str = "both"
    """Importance order of the teacher's dimensions (`ordering.ORDERS`), or `none` for its own."""
    objective: str = "auto"
    """Weighted sum of `objectives.OBJECTIVES`; `auto` adds terms of the output for encoders of sentences and images."""
    relation_heads: int | None = None
    """Relation heads; chosen so that they divide every width unless given."""
    teacher_layer: int | None = None
    """Teacher layer whose relations are distilled, from 0; the last unless given."""
    assistant: str | None = None
    """What teaches the smaller students (`assistant.py`): a sub-space, whose largest student teaches those before it,
    or the folder of an encoder with the teacher's tokenizer."""
    layer_map: str = "spread"
    """Which teacher layers a shallower student starts from (`layer_maps.LAYER_MAPS`, or `influence`)."""
    train_steps: int | None = None
    """Optimiser steps; 24 unless steps or minutes are given."""
    train_minutes: float | None = None
    """Time for training, turned into steps by timing the first ones."""
    text_unit: str = "auto"
    """Texts are `sequences`, packed to `seq_len`, or `sentences`; `auto`: sentences for sentence encoders."""
    batch_size: int = 16
    """Sequences per step, or four times as many sentences or images."""
    accumulate: int = 1
    """Micro-batches that a step is cut into, to save memory."""
    seq_len: int = 128
    """Tokens per training sequence, and the length at which costs are stated."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW; the best of those tried for short trainings (reports/LOG.md)."""
    warmup: float = 0.1
    """Share of the steps with rising learning rate."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices."""
    clip: float = 1.0
    """Largest gradient norm of a SuperLM."""
    sampling: str = "sandwich"
    """How students are drawn (`training.sampling.SAMPLINGS`)."""
    random_students: int = 2
    """Random students a step, beside the largest and the smallest."""
    in_place: bool = False
    """In-place distillation: the smaller students of a step learn from its largest one."""
    precision: str = "fp32"
    """`fp32`, or `bf16`: students compute in bfloat16, where the hardware has it; weights stay in fp32."""
    heldout_sequences: int = 32
    """Held-out sequences that a student is scored on, or four times as many sentences or images."""
    metric: str = "auto"
    """What ranks students on held-out text: `objective`, the loss that they are trained on, or `perplexity`, of
    decoders, whose logarithm is then the loss of reports; `auto`: perplexity for decoders."""
    seed: int = 0
    """Decides data order, drawn students and search."""

    # What is searched: may change from search to search in one run.
    budgets: tuple[str, ...] = ()
    """Budgets that hold together, such as `500MFLOPs` or `12Mparams`."""
    latency_tables: tuple[str, ...] = ()
    """Latency tables by name, such as `laptop=table.json`, for budgets such as `8ms@laptop`."""
    force_table: bool = False
    """Also take latency tables of other devices; students are then not measured again."""
    sampler: str = "auto"
    """Search algorithm (`student_search.study.SAMPLERS`)."""
    trials: int | None = None
    """Students to evaluate; all of a small space, 200 of a large one, unless given."""
    study_storage: str | None = None
    """URL of a database or journal file that several drivers search together; in the run folder unless given."""
    racing: str = "front"
    """Stop scoring students that are surely not on the `front`, surely not the `pick`, or `none`."""

    proxy: str | None = None
    """Labelled task whose score ranks the students that the held-out loss leaves standing; `none` for none."""
    data: str | None = None
    """Folder of labelled tasks; the Hugging Face Hub for what it does not hold."""
    proxy_method: str | None = None
    """`similarity`, `probe` or `finetune`; similarity where pairs have scores, else a probe, unless given."""
    proxy_top: int = 16
    """Students that are scored by the task; 0 for all that have a loss."""

    refine_top: int = 0
    """Best students of the front that are refined alone and ranked again; 0 for none."""
    refine_steps: int | None = None
    """Steps of a refinement; a share of `train_steps` unless given (`stages.refining.STEPS_SHARE`)."""
    refine_learning_rate: float | None = None
    """Its peak learning rate; a share of `learning_rate` unless given (`stages.refining.RATE_SHARE`)."""

    # The machine: never changes what is computed, but for rounding.
    threads: int | None = None
    """CPU threads; all cores unless given."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `mps`."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints."""
    track: str | None = None
    """Experiment tracker that is told of the run too (`tracking.TRACKERS`); `none` for none."""

    workers: int = 0
    """Ray workers that share a global batch, or score students; 0: this process alone, without Ray."""
    cpus_per_worker: int = 1
    """CPUs, and so CPU threads, of a worker."""
    gpus_per_worker: float = 0.0
    """GPUs of a worker; a fraction shares one among workers that score."""
    layout: str = "joint"
    """`joint`: each worker holds the teacher and all SuperLMs; `split`: each SuperLM is trained by its own workers."""
    address: str | None = None
    """Ray cluster: `auto` or `host:port`; one on this machine, bound to loopback, unless given."""
    storage: str | None = None
    """Folder or URI that every node of the cluster sees, for checkpoints; the run folder unless given."""
    max_failures: int = 2
    """Times that a training goes on by itself from its last checkpoint after it lost workers; -1: always."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = _coerce(field.name, getattr(self, field.name), _HINTS[field.name])
            object.__setattr__(self, field.name, value)
            _check_range(field.name, value)
        if self.in_place and self.sampling not in LARGEST_FIRST:
            raise ConfigError(
                f"in_place = true needs the largest student in every step, sampling = {self.sampling!r} does not draw "
                f"it; allowed: {', '.join(LARGEST_FIRST)}"
            )
        if self.refine_top and self.proxy not in (None, "none"):
            raise ConfigError(
                f"refine_top = {self.refine_top} ranks the finalists by loss, proxy = {self.proxy!r} by a task; "
                "give one of them: --refine-top 0, or --proxy none"
            )
        if self.train_steps is not None and self.train_minutes is not None:
            raise ConfigError("train_steps and train_minutes are both given; give one of them")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


_HINTS = typing.get_type_hints(RunConfig)
OPTIONS = tuple(field.name for field in fields(RunConfig))
REFINE_OPTIONS = frozenset({"refine_top", "refine_steps", "refine_learning_rate"})
PROXY_OPTIONS = frozenset({"proxy", "data", "proxy_method", "proxy_top"})
DEVICE_OPTIONS = frozenset({"latency_tables", "force_table"})
STUDY_OPTIONS = frozenset({"budgets", "sampler", "trials", "racing", "study_storage"})
SEARCH_OPTIONS = REFINE_OPTIONS | PROXY_OPTIONS | DEVICE_OPTIONS | STUDY_OPTIONS
CLUSTER_OPTIONS = frozenset(
    {"workers", "cpus_per_worker", "gpus_per_worker", "layout", "address", "storage", "max_failures"}
)
MACHINE_OPTIONS = CLUSTER_OPTIONS | {"threads", "device", "checkpoint_seconds", "track"}
RUN_OPTIONS = frozenset(OPTIONS) - SEARCH_OPTIONS - MACHINE_OPTIONS
"""Options that decide the trained weights: fixed for the life of a run folder."""
RECIPE_OPTIONS = frozenset({"learning_rate", "relation_heads", "layer_map", "random_students"})
"""Options of a recipe, which `tune` searches."""

_CHOICES = {
    "order": ("both", "activation", "gradient", "none"),
    "layer_map": ("spread", "stride", "first", "influence"),
    "text_unit": ("auto", "sequences", "sentences"),
    "sampling": ("sandwich", "uniform", "inverse-cost", "progressive"),
    "precision": ("fp32", "bf16"),
    "metric": ("auto", "objective", "perplexity"),
    "sampler": ("auto", "exhaustive", "gp", "nsga2", "tpe", "random"),
    "racing": ("front", "pick", "none"),
    "proxy_method": ("similarity", "probe", "finetune"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "layout": ("joint", "split"),
    "track": ("mlflow", "wandb", "none"),
}
_MINIMUM = {
    "relation_heads": 1,
    "teacher_layer": 0,
    "train_steps": 1,
    "batch_size": 1,
    "accumulate": 1,
    "seq_len": 8,
    "random_students": 0,
    "seed": 0,
    "trials": 1,
    "proxy_top": 0,
    "refine_top": 0,
    "refine_steps": 1,
    "heldout_sequences": 1,
    "threads": 1,
    "checkpoint_seconds": 0,
    "workers": 0,
    "cpus_per_worker": 1,
    "gpus_per_worker": 0,
    "max_failures": -1,
    "weight_decay": 0,
    "warmup": 0,
}
_ABOVE_ZERO = ("train_minutes", "learning_rate", "refine_learning_rate", "clip")


def layered(*layers: Mapping[str, Any]) -> RunConfig:
    """The configuration of several layers, later ones overriding earlier ones.

    Raises:
        ConfigError: an unknown option, a value of the wrong type or out of range.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        given = set(layer)
        if "train_steps" in given and layer["train_steps"] is not None:
            merged.pop("train_minutes", None)
        if "train_minutes" in given and layer["train_minutes"] is not None:
            merged.pop("train_steps", None)
        merged.update(layer)
    unknown = sorted(set(merged) - set(OPTIONS))
    if unknown:
        hint = suggest(unknown[0], OPTIONS)
        raise ConfigError(f"unknown option {unknown[0]!r}{hint}; allowed: {', '.join(OPTIONS)}")
    return RunConfig(**merged)


def read_config(path: Path) -> dict[str, Any]:
    """The options in a YAML file: a flat mapping, or the `config:` of a `run.yaml`.

    Raises:
        ConfigError: missing, not YAML, or not a mapping.
    """
    content = read_yaml(path)
    options = content.get("config", content)
    if not isinstance(options, dict):
        raise ConfigError(f"config file {str(path)!r}: 'config' is not a mapping of options; see the README's run.yaml")
    layered(options)  # complain about the file before anything else is said
    return options


def read_recipe(path: Path) -> dict[str, Any]:
    """The options in a recipe: read as any other configuration, but it holds nothing else than hyper-parameters.

    Raises:
        ConfigError: as `read_config`, or another option.
    """
    options = read_config(path)
    others = sorted(set(options) - RECIPE_OPTIONS)
    if others:
        raise ConfigError(
            f"recipe {str(path)!r} has option {others[0]!r}; allowed: {', '.join(sorted(RECIPE_OPTIONS))}; "
            "give files with other options to --config"
        )
    return options


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        ConfigError: missing, unreadable, not YAML or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {str(path)!r} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {str(path)!r} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"config file {str(path)!r} holds no mapping of options; got {type(content).__name__}")
    return content


def _coerce(name: str, value: Any, hint: Any) -> Any:
    """Check a value against its annotation; ints pass as floats, lists as tuples."""
    if typing.get_origin(hint) is types.UnionType:
        if value is None:
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if typing.get_origin(hint) is tuple:
        return _coerce_strings(name, value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"option {name} = {value!r} is of type {type(value).__name__}; expected {hint.__name__}")
    return value


def _coerce_strings(name: str, value: Any) -> tuple[str, ...]:
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, Iterable) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"option {name} = {value!r} is not a list of strings")
    return tuple(items)


def _check_range(name: str, value: Any) -> None:
    if value is None:
        return
    choices = _CHOICES.get(name, ())
    if choices and value not in choices:
        raise ConfigError(f"option {name} = {value!r}{suggest(value, choices)}; allowed: {', '.join(choices)}")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise ConfigError(f"option {name} = {value} is not a finite number")
    if name in _MINIMUM and value < _MINIMUM[name]:
        raise ConfigError(f"option {name} = {value} is too small; allowed: at least {_MINIMUM[name]}")
    if name in _ABOVE_ZERO and value <= 0:
        raise ConfigError(f"option {name} = {value} is too small; allowed: above 0")
    if name == "warmup" and value >= 1:
        raise ConfigError(f"option warmup = {value} is a share of the steps; allowed: from 0 to below 1")
