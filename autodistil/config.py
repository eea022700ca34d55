"""The configuration of a run: typed, frozen, strict about names and values, layered from files and flags."""

import importlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

from autodistil.errors import ConfigError, suggest

LARGEST_FIRST = ("sandwich", "progressive")
"""Ways of sampling that draw the largest student in every step, first, which in-place distillation needs."""


class AtLeast(float):
    """The smallest number that an option may be."""


class Above(float):
    """The number that an option must be above."""


class AtMost(float):
    """The largest number that an option may be."""


MOST = AtMost(2**31 - 1)
"""What no whole number is above, unless it says so itself: libraries take no more."""

MOST_MINUTES = 60 * 24 * 366 * 10
"""Ten years."""


class KeyOf(NamedTuple):
    """The dict whose keys an option may be.

    It is imported for values that are none of the `known` ones, so that neither `--help` nor a default waits for it.
    """

    module: str
    name: str
    known: tuple[str, ...]

    def allowed(self) -> tuple[str, ...]:
        """Every value, the known ones first."""
        return tuple(dict.fromkeys((*self.known, *getattr(importlib.import_module(self.module), self.name))))


class Option(NamedTuple):
    """What the annotation of a field says about its values."""

    kind: type[Any]
    """`bool`, `int`, `float`, `str`, or `tuple` of strings."""
    choices: tuple[str, ...]
    """All values that it may have; empty for any."""
    keys: KeyOf | None
    """Where the values stand, if not here."""
    bounds: tuple[AtLeast | Above | AtMost, ...]
    optional: bool
    """Whether it may be None."""

    @classmethod
    def of(cls, annotation: Any) -> Self:
        """Read such as `Annotated[int | None, AtLeast(1)]` or `Literal["fp32", "bf16"]`."""
        hint, *bounds = get_args(annotation) if get_origin(annotation) is Annotated else [annotation]
        optional = NoneType in get_args(hint)
        hint = get_args(hint)[0] if optional else hint
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        keys = next((bound for bound in bounds if isinstance(bound, KeyOf)), None)
        limits = tuple(bound for bound in bounds if bound is not keys)
        if hint is int and not any(isinstance(bound, AtMost) for bound in limits):
            limits += (MOST,)
        return cls(str if choices else get_origin(hint) or hint, choices, keys, limits, optional)

    def checked(self, name: str, value: Any) -> Any:
        """The value of the option called `name`; ints pass as floats, a string and lists as tuples.

        Raises:
            ConfigError: it is of another type, none of the choices, not finite or out of bounds.
        """
        if value is None and self.optional:
            return None
        if self.kind is tuple:
            return _strings(name, value)
        if self.kind is float and type(value) is int:
            value = float(value) if abs(value) < 1e300 else math.inf
        if self.kind is float and isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
            value = float(value)
        if not isinstance(value, self.kind) or isinstance(value, bool) != (self.kind is bool):
            got = type(value).__name__
            raise ConfigError(f"option {name} = {value!r} is of type {got}; expected {self.kind.__name__}")
        choices = self.choices if self.keys is None or value in self.keys.known else self.keys.allowed()
        if choices and value not in choices:
            hint = suggest(value, choices)
            raise ConfigError(f"option {name} = {value!r}{hint}; allowed: {', '.join(choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"option {name} = {value} is not a finite number")
        self._check_bounds(name, value)
        return value

    def _check_bounds(self, name: str, value: Any) -> None:
        for bound in self.bounds:
            if isinstance(bound, AtMost):
                wrong, allowed = value > bound, f"large; allowed: at most {bound:,.0f}"
            elif isinstance(bound, Above):
                wrong, allowed = value <= bound, f"small; allowed: above {bound:g}"
            else:
                wrong, allowed = value < bound, f"small; allowed: at least {bound:g}"
            if wrong:
                got = value if abs(value) < 1e15 else f"{min(value, 1e300):.4g}"  # Python prints no huge integers
                raise ConfigError(f"option {name} = {got} is too {allowed}")


_SCIENTIFIC = re.compile(r"[0-9]+e[+-]?[0-9]+")
"""Such as `5e-4`, which YAML 1.1 takes for text, as it has no point."""


def _strings(name: str, value: Any) -> tuple[str, ...]:
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, Iterable) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"option {name} = {value!r} is not a list of strings")
    return tuple(items)


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
    per_layer: bool = False
    """Derive a space whose students' layers have sizes of their own; goes with no `space`, or `auto`."""
    trust_remote_code: bool = False
    """Run code that comes with the teacher. Files record that it was run; they never grant it (`without_trust`)."""

    # How it is trained: fixed once a run has begun.
    order: Literal["both", "activation", "gradient", "none"] = "both"
    """Importance order of the teacher's dimensions (`ordering.ORDERS`), or `none` for its own."""
    objective: str = "auto"
    """Weighted sum of `objectives.TERMS`; `auto` adds terms of the output for encoders of sentences and images."""
    relation_heads: Annotated[int | None, AtLeast(1)] = None
    """Relation heads; chosen so that they divide every width unless given."""
    teacher_layer: Annotated[int | None, AtLeast(0)] = None
    """Teacher layer whose relations are distilled, from 0; the last unless given."""
    assistant: str | None = None
    """What teaches the smaller students (`assistant.py`): a sub-space, whose largest student teaches those before it,
    or the folder of an encoder with the teacher's tokenizer."""
    output_teacher: tuple[str, ...] | None = None
    """Encoders whose embeddings students learn through a linear head, and so their space: any tokenizer and width.
    Or embeddings that were made elsewhere: `texts.npy`, their texts beside in `texts.jsonl` or `texts.txt`. Several
    such as `2*mpnet-base` are joined by weights."""
    output_role: Literal["document", "query"] = "document"
    """Which of an output teacher's prompts goes before a training text: as `query`, students answer its index."""
    matryoshka: str | None = None
    """Dimensions to which embeddings may be cut, such as `256,128,64`: they are trained to be useful then too."""
    visible_patches: Annotated[float, Above(0), AtMost(1)] = 1.0
    """Share of an image's patches that a training step reads, teacher and students alike: 0.25 as in DMAE."""
    masking: Literal["random", "disjoint"] = "random"
    """Which: drawn for each image, or in views of an image that have none in common (`data.patch_masks`)."""
    teacher_text: Annotated[float, AtLeast(0), AtMost(1)] = 0.0
    """Share of the training sequences whose end the teacher writes, of decoders (`run.teacher_text`)."""
    on_policy: Annotated[float, AtLeast(0), AtMost(1)] = 0.0
    """Share of the steps whose texts the largest student writes, of decoders (`training.on_policy`)."""
    exits: bool = False
    """Every layer is trained to end in a usable embedding, so that a student can be left after any of them."""
    layer_map: Literal["spread", "stride", "first", "influence"] = "spread"
    """Which teacher layers a shallower student starts from (`layer_maps.LAYER_MAPS`, or `influence`)."""
    least_squares: Literal["none", "alone", "all"] = "alone"
    """What may start from slices whose linear maps are fitted to the teacher's (`stages.fitting`): students that are
    refined `alone`, or SuperLMs too, `all`."""
    train_steps: Annotated[int | None, AtLeast(1)] = None
    """Optimiser steps; 24 unless steps or minutes are given."""
    train_minutes: Annotated[float | None, Above(0), AtMost(MOST_MINUTES)] = None
    """Time for training, that of the best student alone included, turned into steps by timing some."""
    text_unit: Literal["auto", "sequences", "sentences", "documents"] = "auto"
    """Texts are `sequences`, packed to `seq_len`, `sentences`, or `documents`, the beginning of longer ones; `auto`:
    sentences for sentence encoders, documents where an output teacher is a file of embeddings."""
    select: Annotated[str | None, KeyOf("autodistil.data.selection", "SELECTIONS", ("random",))] = None
    """Which sentences to train on where not all are (`data.selection`); goes with `tokens`."""
    tokens: Annotated[int | None, AtLeast(1)] = None
    """Tokens of text to choose by `select`."""
    batch_size: Annotated[int, AtLeast(1)] = 16
    """Sequences per step, or four times as many sentences or images."""
    accumulate: Annotated[int, AtLeast(1)] = 1
    """Micro-batches that a step is cut into, to save memory; its gradient stays that of the whole batch."""
    seq_len: Annotated[int, AtLeast(8)] = 128
    """Tokens per training sequence, and the length at which costs are stated."""
    learning_rate: Annotated[float | None, Above(0)] = None
    """Peak learning rate of AdamW; by width unless given: 5e-4 at 384 hidden, more below, less above
    (`training.recipe.rate_at`)."""
    warmup: Annotated[float, AtLeast(0)] = 0.1
    """Share of the steps with rising learning rate."""
    weight_decay: Annotated[float, AtLeast(0)] = 0.01
    """Decoupled weight decay of matrices."""
    clip: Annotated[float, Above(0)] = 1.0
    """Largest gradient norm of a SuperLM."""
    sampling: Annotated[str, KeyOf("autodistil.training.sampling", "SAMPLINGS", ("sandwich",))] = "sandwich"
    """How students are drawn: `sandwich`, `uniform`, `inverse-cost` or `progressive`."""
    random_students: Annotated[int, AtLeast(0)] = 2
    """Random students a step, beside the largest and the smallest."""
    in_place: bool = False
    """In-place distillation: the smaller students of a step learn from its largest one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`fp32`, or `bf16`: students compute in bfloat16, where the hardware has it; weights stay in fp32."""
    heldout_sequences: Annotated[int, AtLeast(1)] = 32
    """Held-out sequences that a student is scored on, or four times as many sentences or images."""
    metric: Literal["auto", "objective", "perplexity"] = "auto"
    """What ranks students on held-out text: `objective`, the loss that they are trained on, or `perplexity`, of
    decoders, whose logarithm is then the loss of reports; `auto`: perplexity for decoders."""
    seed: Annotated[int, AtLeast(0), AtMost(2**63)] = 0
    """Decides data order, drawn students and search; what is held out does not depend on it."""

    # What is searched: may change from search to search in one run.
    budgets: tuple[str, ...] = ()
    """Budgets that hold together, such as `500MFLOPs` or `12Mparams`."""
    latency_tables: tuple[str, ...] = ()
    """Latency tables by name, such as `laptop=table.json`, for budgets such as `8ms@laptop`."""
    force_table: bool = False
    """Also take latency tables of other devices; students are then not measured again."""
    sampler: Annotated[str, KeyOf("autodistil.student_search.samplers", "SAMPLERS", ("auto",))] = "auto"
    """Search algorithm: `auto`, `exhaustive`, `gp`, `nsga2`, `tpe` or `random`."""
    trials: Annotated[int | None, AtLeast(1)] = None
    """Students to evaluate; all of a small space, 200 of a large one, unless given."""
    study_storage: str | None = None
    """URL of a database or journal file that several drivers search together; in the run folder unless given."""
    racing: Literal["none", "pick"] = "none"
    """`none`: score students on all held-out text; `pick`: stop those that are surely worse than the best so far."""

    proxy: str | None = None
    """Labelled task whose score ranks the students that the held-out loss leaves standing; `none` for none."""
    data: str | None = None
    """Folder of labelled tasks; the Hugging Face Hub for what it does not hold."""
    proxy_method: Literal["similarity", "probe", "knn", "finetune"] | None = None
    """`similarity`, `probe`, `knn` or `finetune`; similarity where pairs have scores, else a probe, unless given."""
    proxy_top: Annotated[int, AtLeast(0)] = 16
    """Students that are scored by the task; 0 for all that have a loss."""

    refine_top: Annotated[int | None, AtLeast(0)] = None
    """Best students of the front that are refined alone and ranked again, 0 for none; the best one unless given or Ray
    trains, and not more where a proxy task ranks."""
    refine_steps: Annotated[int | None, AtLeast(1)] = None
    """Steps of a refinement; six times `train_steps` unless given (`training.recipe.STEPS_ALONE`)."""
    refine_learning_rate: Annotated[float | None, Above(0)] = None
    """Peak learning rate of a refinement; `learning_rate` unless given, or by the student's width."""

    # The machine: never changes what is computed, but for rounding.
    threads: Annotated[int | None, AtLeast(1), AtMost(1024)] = None
    """CPU threads; all that the process may use unless given."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto`, `cpu`, `cuda` or `mps`."""
    checkpoint_seconds: Annotated[float, AtLeast(0)] = 60.0
    """Seconds between checkpoints."""
    track: Literal["mlflow", "wandb", "none"] | None = None
    """Experiment tracker that is told of the run too (`tracking.TRACKERS`); `none` for none."""

    workers: Annotated[int, AtLeast(0), AtMost(10_000)] = 0
    """Ray workers that share a global batch, or score students; 0: this process alone, without Ray."""
    cpus_per_worker: Annotated[int, AtLeast(1), AtMost(1024)] = 1
    """CPUs, and so CPU threads, of a worker."""
    gpus_per_worker: Annotated[float, AtLeast(0)] = 0.0
    """GPUs of a worker; a fraction shares one among workers that score."""
    layout: Literal["joint", "split"] = "joint"
    """`joint`: each worker holds the teacher and all SuperLMs; `split`: each SuperLM is trained by its own workers."""
    address: str | None = None
    """Ray cluster: `auto` or `host:port`; one on this machine, bound to loopback, unless given."""
    storage: str | None = None
    """Folder or URI that every node of the cluster sees, for checkpoints; the run folder unless given."""
    max_failures: Annotated[int, AtLeast(-1)] = 2
    """Times that a training goes on by itself from its last checkpoint after it lost workers; -1: always."""

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            object.__setattr__(self, name, option.checked(name, getattr(self, name)))
        if self.warmup >= 1:
            raise ConfigError(f"option warmup = {self.warmup} is a share of the steps; allowed: from 0 to below 1")
        if self.in_place and self.sampling not in LARGEST_FIRST:
            raise ConfigError(
                f"in_place = true needs the largest student in every step, sampling = {self.sampling!r} does not draw "
                f"it; allowed: {', '.join(LARGEST_FIRST)}"
            )
        if (self.refine_top or 0) > 1 and self.proxy not in (None, "none"):
            raise ConfigError(
                f"refine_top = {self.refine_top} ranks the finalists by loss, proxy = {self.proxy!r} by a task; "
                "give one of them: --refine-top 1 or 0, or --proxy none"
            )
        if (self.select is None) != (self.tokens is None):
            raise ConfigError("select and tokens go together: which text, and how much of it; give both or neither")
        if self.output_role != "document" and not self.output_teacher:
            raise ConfigError(
                f"output_role = {self.output_role!r} is of an output teacher's prompts, and there is none; "
                "give --output-teacher, or leave it out"
            )
        if self.train_minutes is not None and (self.teacher_text or self.on_policy):
            raise ConfigError(
                f"train_minutes = {self.train_minutes:g} is turned into steps by timing some, without the text that "
                "models write (teacher_text, on_policy); give train_steps"
            )
        if self.train_steps is not None and self.train_minutes is not None:
            raise ConfigError("train_steps and train_minutes are both given; give one of them")

    @property
    def num_finalists(self) -> int:
        """Students of the front that a search refines: `refine_top`, or what stands in for it."""
        return int(not self.workers) if self.refine_top is None else self.refine_top

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


OPTIONS = {name: Option.of(hint) for name, hint in get_type_hints(RunConfig, include_extras=True).items()}
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
RECIPE_OPTIONS = frozenset({"objective", "learning_rate", "relation_heads", "layer_map", "random_students"})
"""Options of a recipe, which `tune` searches."""


def rate_words(learning_rate: float | None) -> str:
    """A learning rate as people read it."""
    return "by width" if learning_rate is None else f"{learning_rate:g}"


def layered(*layers: Mapping[str, Any]) -> RunConfig:
    """The configuration of several layers, later ones overriding earlier ones.

    Raises:
        ConfigError: an unknown option, a value of the wrong type or out of range.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for given, other in (("train_steps", "train_minutes"), ("train_minutes", "train_steps")):
            if layer.get(given) is not None:
                merged.pop(other, None)
        merged.update(layer)
    unknown = sorted(set(merged) - set(OPTIONS))
    if unknown:
        hint = suggest(unknown[0], OPTIONS)
        raise ConfigError(f"unknown option {unknown[0]!r}{hint}; allowed: {', '.join(OPTIONS)}")
    return RunConfig(**merged)


def without_trust(options: Mapping[str, Any], source: str, trusted: bool) -> dict[str, Any]:
    """Options of a file, which says nothing about whose code may run: that is asked of who runs it, each time.

    Args:
        options: as the file has them.
        source: what to call the file.
        trusted: whether code was allowed in another way.

    Raises:
        ConfigError: they need code that was not allowed.
    """
    if options.get("trust_remote_code") and not trusted:
        raise ConfigError(
            f"{source} has trust_remote_code = true: it runs code that comes with its teacher, and no file can allow "
            "that; if you trust that code, add --trust-remote-code (in Python trust_remote_code=True)"
        )
    return {name: value for name, value in options.items() if name != "trust_remote_code"}


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
    import yaml  # only where a file is read: `--help` is quicker

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {str(path)!r} cannot be read: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates that no calendar has are ValueErrors
        raise ConfigError(f"config file {str(path)!r} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"config file {str(path)!r} holds no mapping of options; got {type(content).__name__}")
    return content
