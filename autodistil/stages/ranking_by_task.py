"""Stage two, the paper's other variant: the students that the held-out loss leaves standing, ranked by a task score.

The loss is cheap and says nothing about a task; the task is what counts and takes longer. So a search scores by loss
first, and by task only those that are still in question (`student_search.pick.standing`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch

from autodistil.errors import ConfigError
from autodistil.evaluation.embedding import DEFAULT_LENGTH, Encoder, student_encoder, text_batcher
from autodistil.evaluation.proxy_task import ProxyScores, ProxyTask, load_proxy
from autodistil.export.student_folder import student_tokenizer
from autodistil.models.hf_folder import EvaluatedModel, usable_length
from autodistil.models.pooling import PLAIN_MODULES, module_kinds
from autodistil.run.run import RunContext
from autodistil.space.student import Candidate
from autodistil.stages.certifying import write_certificate
from autodistil.stages.searching import superlm_of
from autodistil.student_search.candidates import TEXTS, rank, standing, with_texts
from autodistil.student_search.certificate.measured import read_measured
from autodistil.student_search.problem import SearchProblem
from autodistil.tasks.batching import TextBatcher
from autodistil.utils import stop_on_interrupt

NONE = "none"
"""As the name of a task: back to the held-out loss."""
RECORD = "proxy"
"""Key of what `run.yaml` says about the proxy task of the last search."""


def open_proxy(context: RunContext) -> ProxyTask | None:
    """The proxy task of a run, None where students are ranked by loss.

    Raises:
        TaskError: it is unknown, or its data are missing or of no use.
        ConfigError: the teacher reads images.
        RunError: scores of earlier searches are damaged.
    """
    config = context.config
    if config.proxy in (None, NONE):
        return None
    context.teacher.check_reads_text(f"proxy task {config.proxy!r}")
    data_dir = None if config.data is None else Path(config.data).expanduser()
    task = load_proxy(config.proxy, data_dir, config.proxy_method)
    ProxyScores.open(context.folder.proxy_path, task.protocol)
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


def rank_by_task(
    context: RunContext, problem: SearchProblem, ranked: pd.DataFrame, task: ProxyTask | None
) -> pd.DataFrame:
    """Score the standing students on the task and rank by that; the candidates as they are where there is no task."""
    if task is None:
        if context.resolved().get(RECORD):
            context.record(**{RECORD: None})
        return ranked
    protocol = {**task.protocol, "train_steps": context.resolved()["train_steps"]}
    scores = ProxyScores.open(context.folder.proxy_path, protocol)
    chosen = standing(ranked, context.config.proxy_top)
    context.progress.say(
        f"proxy: {task.data.task.name} by {task.method}, {len(task.data.evaluated):,} rows of its train split, "
        f"{len(chosen)} students"
    )
    _score(context, [problem.candidates[student_id] for student_id in chosen], task, scores)
    losses = ranked["loss"].dropna().to_dict()
    texts = ranked[TEXTS].dropna().to_dict()
    ranked = with_texts(rank(problem, losses, {student_id: scores.known[student_id] for student_id in chosen}), texts)
    context.record(**{RECORD: {**protocol, "origin": task.data.origin, "students": len(chosen)}})
    measured = read_measured(context.folder.certificate_path)
    named = replace(measured, task=task.data.task.name, task_scores=scores.known)  # never beside those of another task
    write_certificate(context, ranked, named)
    return ranked


def _score(context: RunContext, candidates: Sequence[Candidate], task: ProxyTask, scores: ProxyScores) -> None:
    """Score those that have no score yet; each is kept at once."""
    students = _Students(context)
    with (
        stop_on_interrupt() as stop,
        context.progress.track(f"scoring on {task.data.task.name}", len(candidates)) as advance,
    ):
        for candidate in candidates:
            if candidate.id not in scores.known:
                scores.add(candidate.id, task.score(students.model(candidate)))
            if stop.requested:
                raise KeyboardInterrupt
            advance(1, f"{candidate.id} {scores.known[candidate.id]:.4f}")


@dataclass(frozen=True)
class _Students:
    """Students as models to score; those of one vocabulary read the same batches."""

    context: RunContext
    batchers: dict[int | None, TextBatcher] = field(default_factory=dict)

    def model(self, candidate: Candidate) -> _Student:
        """A student with its texts."""
        size = candidate.config.vocab_size
        if size not in self.batchers:
            teacher = self.context.teacher
            tokenizer = student_tokenizer(superlm_of(self.context, candidate), candidate, teacher)
            length = usable_length(teacher.model, tokenizer, DEFAULT_LENGTH)
            self.batchers[size] = text_batcher(tokenizer, length, self.context.device)
        return _Student(self.context, candidate, self.batchers[size])


@dataclass(frozen=True)
class _Student:
    """A student of a SuperLM as an `evaluation.proxy.ScoredModel`; it gives what its export would give."""

    context: RunContext
    candidate: Candidate
    batches: TextBatcher

    @property
    def device(self) -> torch.device:
        return self.context.device

    def encoder(self) -> Encoder:
        superlm = superlm_of(self.context, self.candidate)
        kinds = module_kinds(self.context.teacher.folder)
        carried_over = PLAIN_MODULES.issuperset(kinds)  # as `export` does it
        pooling = (self.context.teacher.pooling if carried_over else None) or "mean"
        return student_encoder(superlm, self.candidate.config, self.batches, pooling, "Normalize" in kinds)

    @contextmanager
    def exported(self) -> Iterator[EvaluatedModel]:
        superlm = superlm_of(self.context, self.candidate)
        with TemporaryDirectory(prefix="autodistil-") as folder:
            superlm.extract(self.candidate.config).save_pretrained(folder)
            self.batches.tokenizer.save_pretrained(folder)
            yield EvaluatedModel(self.candidate.id, Path(folder), users_own=False)


def proxy_words(context: RunContext) -> str | None:
    """What ranked the students of the last search, in words; None where the held-out loss did."""
    record = context.resolved().get(RECORD)
    if not record:
        return None
    fitted = f" after fitting {record['fitted_rows']:,} others" if record["fitted_rows"] else ""
    return (
        f"{record['metric']} on {record['task']} ({record['origin']}) by {record['method']}: {record['scored_rows']:,} "
        f"rows of its train split{fitted}; {record['students']} students, those that the held-out loss left standing"
    )


def score_name(context: RunContext) -> str | None:
    """Such as `stsb spearman`; None where the held-out loss ranked."""
    record = context.resolved().get(RECORD)
    return f"{record['task']} {record['metric']}" if record else None
