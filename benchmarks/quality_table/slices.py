"""Rows that are cut out of something that is there: of our SuperLMs, or of the teacher without training."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from autodistil.models.layer_maps import first_layers
from autodistil.models.superlm import SuperLM
from autodistil.space.space import OneStudent
from autodistil.space.student import Candidate
from autodistil.stages.costing import search_problem
from autodistil.stages.refining import refine_students
from autodistil.student_search.candidates import CandidateTable
from quality_table.bench import Bench, Skip
from quality_table.compute import own_step_cost, run_cost
from quality_table.drafts import Draft, budget_of
from quality_table.rows import RowSpec
from quality_table.shapes import truncated

USED = 0.8
"""Share of the budget that a random pick uses at least: at equal cost it could use less only by being smaller."""

# ---- slices of our SuperLMs


def _slice(bench: Bench, student_id: str, facts: Mapping[str, Any] = MappingProxyType({})) -> Draft:
    run, candidate = bench.run, bench.candidate(student_id)
    bench.trained()
    superlm = run.superlms.trained(candidate.sub_space)
    search_loss = run.scorer.loss(superlm, candidate.config)
    return Draft(run, superlm, candidate, {**_effort(bench), "search_loss": search_loss, **facts})


def _effort(bench: Bench) -> dict[str, Any]:
    """What the training of all SuperLMs took."""
    return {"steps": bench.steps, "tokens": bench.tokens, "training_flops": run_cost(bench.run)}


def pick_draft(bench: Bench, spec: RowSpec) -> Draft:
    """The student of the lowest held-out loss in budget."""
    return _slice(bench, bench.found(budget_of(spec)).pick)


def runner_up_draft(bench: Bench, spec: RowSpec) -> Draft:
    """The student of the front with the next loss."""
    runner_up = bench.found(budget_of(spec)).runner_up
    if runner_up is None:
        raise Skip("the front has one student only")
    return _slice(bench, runner_up)


def pick_proxy_draft(bench: Bench, spec: RowSpec) -> Draft:
    """The pick of a search by a labelled task."""
    if bench.settings.data is None:
        raise Skip("a proxy task needs labelled data: --data")
    pick = bench.found(budget_of(spec), bench.settings.proxy).pick
    return _slice(bench, pick, {"proxy": bench.settings.proxy})


def pick_refined_draft(bench: Bench, spec: RowSpec) -> Draft:
    """The pick after `autodistil refine`, and in the same place: neither does it again."""
    found, run, candidate = bench.found(budget_of(spec)), bench.run, bench.pick(budget_of(spec))
    # It is not known on how much text they were scored, so the student is scored again.
    table = CandidateTable.of(search_problem(run.inputs, ())).scored(found.losses)
    with run.folder.locked():
        refinement = refine_students(run, [candidate], table, resume=True)[candidate.id]
    effort = _effort(bench)
    effort["steps"] += refinement.steps
    effort["tokens"] = effort["steps"] * run.folder.resolved()["tokens_a_step"]
    effort["training_flops"] += refinement.steps * own_step_cost(run, {candidate.config: 1.0})
    superlm = run.superlms.refined(candidate)
    return Draft(run, superlm, candidate, {**effort, "search_loss": refinement.loss_after})


def random_pick_draft(bench: Bench, spec: RowSpec) -> Draft:
    """The seed-th of the random students."""
    drawn = random_students(bench.found(budget_of(spec)).flops, bench.limit(budget_of(spec)))
    seed = spec.seed or 0
    if seed >= len(drawn):
        raise Skip(f"{len(drawn)} students use {100 * USED:g} % to 100 % of the budget")
    return _slice(bench, drawn[seed])


def random_students(flops: Mapping[str, int], limit: float) -> list[str]:
    """Ids of the students that use `USED` to all of the budget, in an order that is random but always the same."""
    pool = sorted(student for student, cost in flops.items() if USED * limit <= cost <= limit)
    return [pool[index] for index in np.random.default_rng(0).permutation(len(pool))]


# ---- slices of the teacher

UNTRAINED: Mapping[str, Any] = MappingProxyType({"steps": 0, "tokens": 0, "training_flops": 0.0})


def untrained_draft(bench: Bench, spec: RowSpec) -> Draft:
    """The pick's architecture in importance order."""
    run, candidate = bench.run, bench.pick(budget_of(spec))
    superlm = run.superlms.new(OneStudent("untrained", candidate.config))
    loss = run.scorer.loss(superlm, candidate.config)
    return Draft(run, superlm, candidate, {**UNTRAINED, "search_loss": loss})


def untrained_leading_draft(bench: Bench, spec: RowSpec) -> Draft:
    """The pick's architecture in the teacher's own order."""
    run, candidate = bench.run, bench.pick(budget_of(spec))
    sub = OneStudent("untrained", candidate.config)
    superlm = SuperLM.from_teacher(run.inputs.teacher, sub, run.inputs.layer_map)
    return Draft(run, superlm, candidate, UNTRAINED)


def truncated_draft(bench: Bench, spec: RowSpec) -> Draft:
    """The teacher's first layers."""
    run = bench.run
    shape, seq_len = run.inputs.teacher.encoder_shape, run.config.seq_len
    student = truncated(run.inputs.teacher.dims, shape, seq_len, bench.limit(budget_of(spec)))
    if student is None:
        raise Skip("not one layer of full width fits into the budget")
    superlm = SuperLM.from_teacher(run.inputs.teacher, OneStudent("truncated", student), first_layers)
    return Draft(run, superlm, Candidate("truncated", student), UNTRAINED)
