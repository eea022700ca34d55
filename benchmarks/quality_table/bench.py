"""What all rows share: the run whose SuperLMs are trained once and searched once a budget, its text, and the tasks."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch

from autodistil import pipeline
from autodistil.config import RUN_OPTIONS, SEARCH_OPTIONS, RunConfig, layered
from autodistil.data.sources import DEFAULT_CORPUS
from autodistil.errors import TaskError
from autodistil.run.facts import teacher_costs
from autodistil.run.run import Run
from autodistil.space.student import Candidate
from autodistil.tasks.catalogue import SPLITS, Split, TaskData, load_task
from autodistil.tasks.collection import Collection, find_collection
from autodistil.utils import Progress, resolve_device, write_text
from quality_table.corpus import WeightedText, short_texts, weighted_text
from quality_table.settings import FINETUNED, SCORED_PAIRS, Settings, digest, percent

NO_PROXY: Mapping[str, Any] = MappingProxyType({"proxy": "none"})
"""Search options for a search by held-out loss alone: a run remembers the ones it was last searched with."""


class Skip(Exception):
    """A row that cannot be made here; the message says why."""


@dataclass(frozen=True)
class Found:
    """What the search under one budget found."""

    pick: str
    runner_up: str | None
    """The student of the front with the next loss."""
    flops: Mapping[str, int]
    """Multiply-adds of the students in budget, by id."""
    losses: Mapping[str, float]
    """Held-out losses of those that were scored, by id."""


def found_in(table: pd.DataFrame, pick: str) -> Found:
    """Of the candidates of a search."""
    feasible = table[table["feasible"].astype(bool)]
    front = feasible[feasible["pareto"].astype(bool)].sort_values(["loss", "flops"], kind="stable")
    others = [str(student) for student in front.index if student != pick]
    losses = feasible["loss"].dropna()
    return Found(
        pick,
        others[0] if others else None,
        {str(key): int(value) for key, value in feasible["flops"].items()},
        {str(key): float(value) for key, value in losses.items()},
    )


@dataclass
class Bench:
    """One table's settings and what they stand for, loaded when first needed."""

    settings: Settings
    progress: Progress = field(default_factory=Progress)
    _tasks: dict[str, TaskData] = field(default_factory=dict, init=False, repr=False)
    _collections: dict[str, Collection] = field(default_factory=dict, init=False, repr=False)
    _found: dict[str, Found] = field(default_factory=dict, init=False, repr=False)

    # ---- text and run

    @cached_property
    def text(self) -> WeightedText | None:
        """The weighted text, None for the default one."""
        if self.settings.data is None:
            return None
        with self.progress.track("putting the text together", 0):
            data, to = self.settings.data, self.settings.work / "text"
            short = short_texts(data, SCORED_PAIRS) if self.settings.short_texts else ()
            return weighted_text(data / "corpus", to, self.settings.text_mb, short=short)

    @cached_property
    def training(self) -> dict[str, Any]:
        """Options of `RunConfig` for our own recipe."""
        corpus = DEFAULT_CORPUS if self.text is None else str(self.text.path)
        return {**self.settings.training, "corpus": [corpus]}

    @cached_property
    def key(self) -> str:
        """Stands for everything that decides the SuperLMs: where the text lies does not."""
        corpus = self.text.content if self.text else DEFAULT_CORPUS
        return digest({**self._given(RUN_OPTIONS), "corpus": corpus})

    @cached_property
    def search_key(self) -> str:
        """Stands for the options of search and refinement, which a run may change."""
        return digest(self._given(SEARCH_OPTIONS))

    def _given(self, names: Container[str]) -> dict[str, Any]:
        """Options that are not at their defaults: so a new option of a later version renames nothing."""
        config, plain = layered(self.training).to_dict(), RunConfig().to_dict()
        return {key: value for key, value in config.items() if key in names and value != plain[key]}

    @property
    def folder(self) -> Path:
        """Of the run and all students."""
        return self.settings.work / self.key

    @cached_property
    def run(self) -> Run:
        """The run, begun: cells may draw its held-out text before anything is trained."""
        run = Run.open(self.folder / "run", self.training, NO_PROXY, progress=self.progress)
        if not run.folder.exists():
            run.inputs.write_record()
        return run

    @property
    def steps(self) -> int:
        """Training steps of the run."""
        self.trained()
        return int(self.run.folder.resolved()["train_steps"])

    @property
    def tokens(self) -> int:
        """Tokens that a training has seen."""
        return self.steps * int(self.run.folder.resolved()["tokens_a_step"])

    def trained(self) -> None:
        """Train the SuperLMs, or go on with it."""
        if not all(self.run.superlms.is_trained(sub) for sub in self.run.inputs.space.sub_spaces):
            pipeline.train(self.run, resume=True)

    @cached_property
    def device(self) -> torch.device:
        """Where students are trained and evaluated."""
        return resolve_device(layered(self.training).device)

    # ---- budgets and searches

    def limit(self, budget: float) -> float:
        """Multiply-adds at most, for a budget in percent of the teacher's."""
        return float(budget / 100 * teacher_costs(self.run.inputs)["flops"])

    def found(self, budget: float, proxy: str | None = None) -> Found:
        """The search under a budget; done once and kept.

        Args:
            budget: percent of the teacher's FLOPs.
            proxy: a labelled task to rank by, beside the held-out loss.
        """
        name = "-".join(["search", percent(budget), *([proxy] if proxy else []), self.search_key])
        path = self.folder / f"{name}.json"
        if name not in self._found:
            if not path.is_file():
                write_text(path, json.dumps(asdict(self._search(budget, proxy)), indent=1))
            self._found[name] = Found(**json.loads(path.read_text(encoding="utf-8")))
        return self._found[name]

    def _search(self, budget: float, proxy: str | None) -> Found:
        self.trained()  # all sub-spaces, whatever this budget needs: they are trained side by side
        options: dict[str, Any] = {**NO_PROXY, "budgets": [f"{self.limit(budget) / 1e6:.3f}MFLOPs"]}
        options["refine_top"] = self.settings.training.get("refine_top", 0)  # `pick-refined` is a row of its own
        if proxy is not None:
            options |= {"proxy": proxy, "data": str(self.settings.data)}
        # A new run: one that was opened under another budget holds its configuration.
        run = Run.open(self.folder / "run", self.training, options, progress=self.progress)
        result = pipeline.search(run, resume=True)
        return found_in(result.candidates, result.best)

    def candidate(self, student_id: str) -> Candidate:
        """A student of the run by id."""
        return next(candidate for candidate in self.run.inputs.space.candidates if candidate.id == student_id)

    def pick(self, budget: float) -> Candidate:
        """The student of the lowest held-out loss in budget."""
        return self.candidate(self.found(budget).pick)

    # ---- tasks

    def task(self, name: str) -> TaskData:
        """A labelled task, scored on `max_eval` rows at most where it is fine-tuned on.

        Raises:
            TaskError: its data are missing or damaged.
        """
        if name not in self._tasks:
            task, _, split = name.partition("-")
            data = load_task(task, self.settings.data, ("train", split) if split else SPLITS)
            self._tasks[name] = with_fewer_scored(data, self.settings.max_eval if name in FINETUNED else None)
        return self._tasks[name]

    def collection(self, name: str) -> Collection:
        """A retrieval collection of the data folder.

        Raises:
            TaskError: it is not there, or damaged.
        """
        if name not in self._collections:
            found = find_collection(name, self.settings.data)
            if found is None:
                data = str(self.settings.data)
                raise TaskError(f"collection {name!r} is not in --data {data!r}; give a folder of retrieval/, or none")
            self._collections[name] = found
        return self._collections[name]


def with_fewer_scored(data: TaskData, max_rows: int | None) -> TaskData:
    """A task with `max_rows` random rows of its scored split, always the same and in their order."""
    if max_rows is None or max_rows >= len(data.evaluated):
        return data
    chosen = np.sort(np.random.default_rng(0).permutation(len(data.evaluated))[:max_rows])
    part: Split = data.evaluated.take(int(index) for index in chosen)
    return replace(data, splits=MappingProxyType({**data.splits, data.evaluated_name: part}))
