"""Stage two, the paper's other variant: the students that the held-out loss leaves standing, ranked by a task score.

The loss is cheap and says nothing about a task; the task is what counts and takes longer. So a search scores by loss
first, and by task only those that are still in question (`CandidateTable.standing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from autodistil.config import RunConfig
from autodistil.errors import ConfigError
from autodistil.evaluation.embedding import DEFAULT_LENGTH, Encoder, check_reads, student_encoder
from autodistil.evaluation.proxy_task import ProxyScores, ProxyTask, load_proxy
from autodistil.export.student_folder import student_tokenizer
from autodistil.models.hf_folder import EvaluatedModel, usable_length
from autodistil.models.pooling import PLAIN_MODULES, module_kinds
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher
from autodistil.run.facts import PROXY
from autodistil.run.folder import RunFolder
from autodistil.run.inputs import RunInputs
from autodistil.run.run import Run
from autodistil.run.superlms import SuperLMs
from autodistil.space.student import Candidate
from autodistil.stages.certifying import write_certificate
from autodistil.stages.exporting import exported_weights
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.certificate.measured import read_measured
from autodistil.student_search.pick import best_id
from autodistil.student_search.problem import SearchProblem
from autodistil.tasks.batching import TextBatcher
from autodistil.tasks.image_batching import ImageBatcher
from autodistil.utils import stop_on_interrupt

NONE = "none"
"""As the name of a task: back to the held-out loss."""


def open_proxy(folder: RunFolder, config: RunConfig, teacher: Teacher) -> ProxyTask | None:
    """The proxy task of a run, None where students are ranked by loss.

    Raises:
        TaskError: it is unknown, or its data are missing or of no use.
        CorpusError: an image of it is damaged.
        RunError: scores of earlier searches are damaged.
    """
    if config.proxy in (None, NONE):
        return None
    data_dir = Path(config.data).expanduser() if config.data is not None else None
    task = load_proxy(config.proxy, data_dir, config.proxy_method)
    check_reads("the teacher", teacher.images is not None, f"proxy task {config.proxy!r}", task.data.task.images)
    ProxyScores.open(folder.proxy_path, task.protocol)
    return task


def check_options(given: Mapping[str, object], proxy: str | None) -> None:
    """Refuse options of a proxy task where there is none.

    Raises:
        ConfigError: there is none.
    """
    idle = [name for name in ("data", "proxy_method", "proxy_top") if name in given]
    if idle and proxy in (None, NONE):
        flag = f"--{idle[0].replace('_', '-')}"
        raise ConfigError(f"{flag} is given without a proxy task; add --proxy TASK, or leave {flag} out")


def rank_by_task(run: Run, problem: SearchProblem, table: CandidateTable, task: ProxyTask | None) -> CandidateTable:
    """Score the standing students on the task and rank by that; the candidates as they are where there is no task."""
    resolved = run.folder.resolved()
    if task is None:
        if resolved.get(PROXY):
            run.inputs.write_record(**{PROXY: None})
        return table
    protocol = {**task.protocol, "train_steps": resolved["train_steps"]}
    scores = ProxyScores.open(run.folder.proxy_path, protocol)
    chosen = table.standing(run.config.proxy_top)
    run.progress.say(
        f"proxy: {task.data.task.name} by {task.method}, {len(task.data.evaluated):,} rows of its train split, "
        f"{len(chosen)} students"
    )
    _score(run.inputs, run.superlms, [problem.candidates[student_id] for student_id in chosen], task, scores)
    table = table.under(problem, {student_id: scores.known[student_id] for student_id in chosen})
    run.inputs.write_record(**{PROXY: {**protocol, "origin": task.data.origin, "students": len(chosen)}})
    measured = read_measured(run.folder.certificate_path)
    named = replace(measured, task=task.data.task.name, task_scores=scores.known)  # never beside those of another task
    write_certificate(run.folder.certificate_path, table, named)
    return table


def refined_note(run: Run, problem: SearchProblem, table: CandidateTable, task: ProxyTask | None) -> list[str]:
    """What the best student scores on the task with its refined weights, in words; nothing where it has none."""
    student_id = best_id(table)
    candidate, before = problem.candidates[student_id], table[student_id].score
    weights = exported_weights(run.folder, run.superlms, candidate)
    if task is None or before is None or not weights.refined:
        return []
    after = task.score(_Students(run.inputs.teacher, lambda _: weights.superlm, run.inputs.device).model(candidate))
    worse = f"; `export --unrefined` writes the one of {before:.4f}" if after < before else ""
    name = f"{task.data.task.name}, train split"
    return [f"{name}: {student_id} scores {after:.4f} refined alone, {before:.4f} before{worse}."]


def score_of_teacher(run: Run, task: ProxyTask) -> float:
    """The score of the teacher itself on the task, as students are scored."""
    teacher = Candidate("teacher", run.inputs.teacher.dims)
    students = _Students(run.inputs.teacher, run.superlms.untrained, run.inputs.device)
    return task.score(students.model(teacher))


def _score(
    inputs: RunInputs, superlms: SuperLMs, candidates: Sequence[Candidate], task: ProxyTask, scores: ProxyScores
) -> None:
    """Score those that have no score yet; each is kept at once."""
    students, doing = _Students(inputs.teacher, superlms.of, inputs.device), f"scoring on {task.data.task.name}"
    with stop_on_interrupt() as stop, inputs.progress.track(doing, len(candidates)) as advance:
        for candidate in candidates:
            if candidate.id not in scores.known:
                scores.add(candidate.id, task.score(students.model(candidate)))
            stop.obey()
            advance(1, f"{candidate.id} {scores.known[candidate.id]:.4f}")


@dataclass(frozen=True)
class _Students:
    """Students as models to score; those of one vocabulary read the same batches, those of images all do."""

    teacher: Teacher
    superlm_of: Callable[[Candidate], SuperLM]
    device: torch.device
    batchers: dict[int | None, TextBatcher | ImageBatcher] = field(default_factory=dict)

    def model(self, candidate: Candidate) -> _Student:
        """A student with its texts or images."""
        superlm, size = self.superlm_of(candidate), candidate.config.vocab_size
        if size not in self.batchers:
            self.batchers[size] = self._batcher(superlm, candidate)
        return _Student(self.teacher, superlm, candidate, self.batchers[size], self.device)

    def _batcher(self, superlm: SuperLM, candidate: Candidate) -> TextBatcher | ImageBatcher:
        if self.teacher.images is not None:
            return ImageBatcher(self.teacher.images, self.device, keep=True)
        tokenizer = student_tokenizer(superlm, candidate, self.teacher)
        return TextBatcher(tokenizer, usable_length(self.teacher.model, tokenizer, DEFAULT_LENGTH), self.device)


@dataclass(frozen=True)
class _Student:
    """A student of a SuperLM as an `evaluation.evaluate.ScoredModel`; it gives what its export would give."""

    teacher: Teacher
    superlm: SuperLM
    candidate: Candidate
    batches: TextBatcher | ImageBatcher
    device: torch.device
    index: None = None

    def encoder(self) -> Encoder:
        if self.teacher.images is not None:
            return student_encoder(self.superlm, self.candidate.config, self.batches, "cls")
        kinds = module_kinds(self.teacher.folder)
        pooling = (self.teacher.pooling if PLAIN_MODULES.issuperset(kinds) else None) or "mean"  # as `export` does it
        return student_encoder(self.superlm, self.candidate.config, self.batches, pooling, "Normalize" in kinds)

    @contextmanager
    def exported(self) -> Iterator[EvaluatedModel]:
        batches = self.batches
        reads: Any = batches.tokenizer if isinstance(batches, TextBatcher) else batches.reader.processor
        with TemporaryDirectory(prefix="autodistil-") as folder:
            self.superlm.extract(self.candidate.config).save_pretrained(folder)
            reads.save_pretrained(folder)
            yield EvaluatedModel(self.candidate.id, Path(folder), users_own=False)
