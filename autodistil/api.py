"""The front door of notebooks: search students, and open what a search left.

import autodistil

result = autodistil.search(budgets=["500MFLOPs"], train_steps=60)
run = autodistil.open_run(result.run)
model, tokenizer = run.student(run.pick("best"))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pandas as pd

from autodistil import pipeline
from autodistil.export.student_folder import ExportedStudent, reader_of
from autodistil.pipeline import SearchResult
from autodistil.report.notebook import front_html, plotly_figure
from autodistil.run.folder import RunFolder
from autodistil.run.run import Run
from autodistil.stages.adapting import adapt
from autodistil.stages.exporting import exported_weights
from autodistil.stages.planning import Plan
from autodistil.stages.reporting import report_data
from autodistil.stages.searching import last_search
from autodistil.student_search.candidates import Refinement
from autodistil.student_search.pick import pick_student
from autodistil.utils import Progress

if TYPE_CHECKING:
    from plotly.graph_objects import Figure
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LoadedStudent", "Plan", "SearchResult", "SearchedRun", "adapt", "open_run", "plan", "search"]


def search(
    run: str | Path | None = None,
    *,
    budgets: str | Sequence[str] | None = None,
    keep: str | float | None = None,
    teacher: str | None = None,
    corpus: str | Sequence[str] | None = None,
    space: str | None = None,
    objective: str | None = None,
    train_steps: int | None = None,
    train_minutes: float | None = None,
    batch_size: int | None = None,
    seq_len: int | None = None,
    learning_rate: float | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    seed: int | None = None,
    sampler: str | None = None,
    trials: int | None = None,
    proxy: str | None = None,
    data: str | None = None,
    refine_top: int | None = None,
    latency_tables: str | Sequence[str] | None = None,
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] | None = None,
    workers: int | None = None,
    trust_remote_code: bool | None = None,
    resume: bool = False,
    report_dir: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> SearchResult:
    """Train what is not trained yet, search under the budgets, report, and export the best student.

    What is None is as the run folder has it, or else the default of `autodistil.config.RunConfig`, where every option
    is described.

    Args:
        run: run folder, `runs/<teacher>-<space>` unless given.
        budgets: such as `500MFLOPs`, `12Mparams`, `25MB`, `8ms@cpu,threads=1`; several hold together.
        keep: such as `85%` or 0.85: the cheapest student, by FLOPs, that keeps this share of the teacher's agreement,
            or of its score on the proxy task, in the place of budgets or beside them.
        teacher: packaged name, Hugging Face id or folder.
        corpus: files, folders, globs, `hf:` datasets or `python-docs`; images for teachers that read them.
        space: shipped space, YAML file or `auto`.
        objective: weighted sum of distillation terms, such as `relation-kl+10*last-hidden`.
        train_steps: optimiser steps.
        train_minutes: time for training, instead of steps.
        batch_size: sequences a step, or four times as many sentences or images.
        seq_len: tokens of a training sequence, and the length at which costs are stated.
        learning_rate: its peak; by the width of each sub-space unless given.
        precision: of the students' computation; weights stay in fp32.
        seed: decides data order, drawn students and search.
        sampler: search algorithm.
        trials: students to evaluate.
        proxy: labelled task whose score ranks the students that the held-out loss leaves standing.
        data: folder of labelled tasks.
        refine_top: best students of the front that are refined alone and ranked again, 0 for none.
        latency_tables: such as `laptop=table.json`, for budgets such as `8ms@laptop`.
        threads: CPU threads.
        device: where to compute.
        workers: Ray workers; 0 for this process alone.
        trust_remote_code: allow code that comes with the teacher.
        resume: go on with an interrupted training.
        report_dir: also leave the report there, under the run's name.
        progress: told what happens; nobody is unless given.
        **options: further fields of `RunConfig`.

    Returns:
        The front, the best student (exported) and the report. FLOPs are multiply-adds, batch 1, at `seq_len`.

    Raises:
        AutodistilError: wrong input, in one line; what was done before is kept.
    """
    named = {
        "budgets": budgets,
        "teacher": teacher,
        "corpus": corpus,
        "space": space,
        "objective": objective,
        "train_steps": train_steps,
        "train_minutes": train_minutes,
        "batch_size": batch_size,
        "seq_len": seq_len,
        "learning_rate": learning_rate,
        "precision": precision,
        "seed": seed,
        "sampler": sampler,
        "trials": trials,
        "proxy": proxy,
        "data": data,
        "refine_top": refine_top,
        "latency_tables": latency_tables,
        "threads": threads,
        "device": device,
        "workers": workers,
        "trust_remote_code": trust_remote_code,
    }
    given = {name: value for name, value in named.items() if value is not None}
    anew = {} if keep is None else {"budgets": ()}
    opened = Run.open(Path(run) if run is not None else None, {**anew, **options, **given}, progress=progress)
    return pipeline.search(opened, resume, Path(report_dir) if report_dir is not None else None, keep=keep)


def plan(run: str | Path | None = None, *, progress: Progress | None = None, **options: Any) -> Plan:
    """Say what a search with the same options would be and take, from steps that are timed and thrown away.

    Args:
        run: the run folder, which is only read; `runs/<teacher>-<space>` unless given.
        progress: told what happens; nobody is unless given.
        **options: fields of `RunConfig`, as of `search`.

    Raises:
        AutodistilError: wrong input, in one line.
    """
    given = {name: value for name, value in options.items() if value is not None}
    return pipeline.plan(Run.open(Path(run) if run is not None else None, given, progress=progress))


def open_run(path: str | Path, progress: Progress | None = None, *, trust_remote_code: bool = False) -> SearchedRun:
    """Open the folder of a run that was searched.

    Args:
        path: the run folder.
        progress: told what happens; nobody is unless given.
        trust_remote_code: allow code that comes with the teacher, as the run did.

    Raises:
        RunError: it is no run folder, was not searched, or is damaged.
        ConfigError: it runs code of its teacher, which was not allowed.
    """
    return SearchedRun(Path(path), progress, trust_remote_code)


class LoadedStudent(NamedTuple):
    """A student in memory."""

    model: PreTrainedModel
    """The Hugging Face model of the student's own config, its weights in, in evaluation mode."""
    tokenizer: PreTrainedTokenizerBase
    """What reads text for it; of a student that reads images the image processor."""


class SearchedRun:
    """A run folder after a search: its students, their front, and what can be done with them.

    Args:
        path: the run folder.
        progress: told what happens.
        trust_remote_code: allow code that comes with the teacher, as the run did.

    Raises:
        RunError: it is no run folder, was not searched, or is damaged.
        ConfigError: it runs code of its teacher, which was not allowed.
    """

    path: Path
    """The run folder."""

    def __init__(self, path: Path, progress: Progress | None = None, trust_remote_code: bool = False) -> None:
        RunFolder(path).record()  # a folder that is none is not made one
        self.path, self._progress = path, progress
        self._allowed = {"trust_remote_code": True} if trust_remote_code else {}
        self._run = Run.open(path, self._allowed, progress=progress)
        self._problem, self._table = last_search(self._run.inputs)

    @property
    def budgets(self) -> tuple[str, ...]:
        """The budgets of the last search."""
        return self._run.config.budgets

    @property
    def candidates(self) -> pd.DataFrame:
        """One row a student, by id, as in `candidates.csv`."""
        return self._table.frame

    @property
    def front(self) -> pd.DataFrame:
        """The Pareto front, cheapest first."""
        return self._table.front.cheapest_first.frame

    def pick(self, name: str = "best") -> str:
        """The id of a student: `best`, `half`, `near`, `knee`, or an id, which has to have been evaluated.

        Raises:
            ExportError: there is no such student, or it was not evaluated.
        """
        return pick_student(self._table, name)

    def student(self, pick: str = "best") -> LoadedStudent:
        """A student as a Hugging Face model with its tokenizer; refined weights where they are better.

        Raises:
            ExportError: there is no such student, or it was not evaluated.
        """
        candidate = self._problem.candidates[self.pick(pick)]
        weights = exported_weights(self._run.folder, self._run.superlms, candidate)
        model = weights.superlm.extract(candidate.config).eval()
        return LoadedStudent(model, reader_of(weights.superlm, candidate, self._run.inputs.teacher))

    def plot(self, cost: str = "flops") -> Figure:
        """The front over a cost as a plotly figure.

        Args:
            cost: `flops`, `params`, `size_mb` or another column of costs.

        Raises:
            ConfigError: there is no such cost.
        """
        return plotly_figure(report_data(self._run, self._problem, self._table, ()), cost)

    def export(
        self, pick: str, to: str | Path, *, unrefined: bool = False, formats: Sequence[str] = ()
    ) -> ExportedStudent:
        """Write a student as an ordinary Hugging Face folder, reloaded and compared before it is called done.

        Args:
            pick: `best`, `half`, `near`, `knee` or an id.
            to: a new folder.
            unrefined: the slice of the SuperLM, though the student was refined alone.
            formats: such as `onnx`, `onnx-int8`, `onnx-bits`, `openvino`, written beside the Hugging Face files.

        Raises:
            ExportError: no such student, it was not evaluated, or the target is taken.
        """
        return pipeline.export(self._run, pick, Path(to), unrefined=unrefined, formats=formats)[1]

    def evaluate(
        self,
        pick: str,
        tasks: str | Sequence[str],
        *,
        data: str | Path | None = None,
        method: str | None = None,
        beside: str | Sequence[str] = (),
    ) -> pd.DataFrame:
        """Score a student on labelled tasks; it is exported into the run folder first, where it is not yet.

        The results stand in its model card and in the report of the run.

        Args:
            pick: `best`, `half`, `near`, `knee` or an id.
            tasks: GLUE and STS by name, or folders of `data`.
            data: a folder of tasks; the Hugging Face Hub for what it does not hold.
            method: a key of `evaluation.evaluate.METHODS`; unless given, similarity where pairs have scores, ranking of
                collections, else a probe.
            beside: further models to score in the same way, such as the teacher: packaged names, ids or folders.

        Returns:
            A row a model, task and metric, the student's first: `model` (its id, or as `beside` says it), `task`,
            `method`, `split`, `rows`, `metric`, `mean` over `seeds`, its `standard_error` and the `baseline`
            (always the most frequent class; of questions no answer), NaN where there is none.

        Raises:
            AutodistilError: wrong input, in one line.
        """
        from autodistil.evaluation.evaluate import evaluate

        student_id = self.pick(pick)
        folder = self._run.folder.student_folder(student_id)
        if not folder.exists():
            self.export(student_id, folder)
        names = (tasks,) if isinstance(tasks, str) else tuple(tasks)
        others = (beside,) if isinstance(beside, str) else tuple(beside)
        found = evaluate(
            str(folder), names, Path(data) if data else None, method, progress=self._progress, beside=others
        )
        pipeline.report(self._run)
        return pd.DataFrame(
            {
                "model": model,
                "task": result.task,
                "method": result.method,
                "split": result.split,
                "rows": result.rows,
                "metric": metric,
                "mean": sum(values) / len(values),
                "seeds": result.seeds,
                "standard_error": result.standard_error.get(metric, math.nan),
                "baseline": result.baseline.get(metric, math.nan),
            }
            for model, results in ((student_id, found.results), *found.beside.items())
            for result in results
            for metric, values in result.metrics.items()
        )

    def refine(
        self, pick: str = "best", *, steps: int | None = None, learning_rate: float | None = None, resume: bool = False
    ) -> Refinement:
        """Go on distilling a student alone; it is then the refined one that `student` and `export` give.

        Args:
            pick: `best`, `half`, `near`, `knee` or an id.
            steps: optimiser steps; a share of the SuperLM's unless given.
            learning_rate: its peak; the SuperLM's unless given.
            resume: go on with an interrupted refinement.

        Raises:
            ExportError: no such student, or it was not evaluated.
            RunError: the student was refined with other settings.
        """
        given = {"refine_steps": steps, "refine_learning_rate": learning_rate}
        options = {name: value for name, value in given.items() if value is not None}
        refinement, _ = pipeline.refine(
            Run.open(self.path, options, self._allowed, progress=self._progress), pick, resume
        )
        self._problem, self._table = last_search(self._run.inputs)
        return refinement

    def __repr__(self) -> str:
        return f"<run {str(self.path)!r}: {len(self.front)} of {len(self.candidates)} students on the front>"

    def _repr_html_(self) -> str:
        return front_html(self._table, str(self.path), self.budgets, self._problem.teacher)
