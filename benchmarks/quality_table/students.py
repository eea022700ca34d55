"""The student of each row, exported as a Hugging Face folder, whatever it comes from: all are measured alike.

Each maker yields a SuperLM with the student in it; exporting checks the folder against it, its parameters against the
closed form and its FLOPs against fvcore.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import yaml
from transformers import AutoModel

from autodistil import pipeline
from autodistil.config import OPTIONS
from autodistil.context import RunContext
from autodistil.costs import COST_COLUMNS, cost_table
from autodistil.export import check_flops, export_student
from autodistil.files import write_text
from autodistil.layer_maps import first_layers
from autodistil.spaces import Candidate, SearchSpace, StudentConfig, SubSpace, space_to_dict
from autodistil.stages.training import recipe_of, train_with_checkpoints
from autodistil.superlm import SuperLM
from autodistil.teacher import Teacher
from autodistil.training.checkpoint import restore_checkpoint
from autodistil.training.trainer import SuperLMTrainer
from quality_table.bench import Bench, Skip
from quality_table.compute import own_step_cost, run_cost, step_cost
from quality_table.rows import RowSpec
from quality_table.settings import digest, percent
from quality_table.shapes import hand_made, truncated

HAND_MADE_RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "objective": "relation-kl",
        "order": "none",
        "layer_map": "first",
        "text_unit": "sequences",
        "relation_heads": None,
    }
)
"""What differs from our recipe in the classic one: MiniLMv2's only target, and no importance order."""
USED = 0.8
"""Share of the budget that a random pick uses at least: at equal cost it could use less only by being smaller."""


@dataclass(frozen=True)
class Draft:
    """A student that is not exported yet."""

    context: RunContext
    """Whose teacher gives the tokenizer and the costs."""
    superlm: SuperLM
    candidate: Candidate
    facts: Mapping[str, Any]
    """How it was trained."""


@dataclass(frozen=True)
class Made:
    """A student's folder and what the table says of it."""

    folder: Path
    facts: dict[str, Any]


def row_key(bench: Bench, spec: RowSpec) -> str:
    """Stands for what decides a row's student."""
    return digest([bench.key, spec.id, {name: value(bench) for name, value in _EXTRA.get(spec.kind, {}).items()}])


_RATE: Mapping[str, Callable[[Bench], Any]] = MappingProxyType({"rate": lambda bench: bench.settings.hand_made_rate})
_EXTRA: Mapping[str, Mapping[str, Callable[[Bench], Any]]] = MappingProxyType(
    {
        "hand-made": _RATE,
        "hand-made-equal-compute": {**_RATE, "budgets": lambda bench: len(bench.settings.budgets)},
        "pick-proxy": {"proxy": lambda bench: bench.settings.proxy},
    }
)
"""What decides a kind of row beside our training and the budget."""


def make(bench: Bench, spec: RowSpec) -> Made:
    """The student of a row, made if it is not there.

    Raises:
        Skip: there is none, or this version cannot make it.
    """
    if spec.kind == "teacher":
        return _teacher(bench)
    folder = bench.folder / "students" / f"{spec.id}-{row_key(bench, spec)}"
    record = folder.with_suffix(".json")
    if not (record.is_file() and folder.is_dir()):
        begun = time.perf_counter()
        draft = MAKERS[spec.kind](bench, spec)
        facts = _export(draft, folder)
        write_text(record, json.dumps({**facts, "seconds": round(time.perf_counter() - begun, 1)}, indent=1))
    return Made(folder, json.loads(record.read_text(encoding="utf-8")))


def _export(draft: Draft, folder: Path) -> dict[str, Any]:
    context, candidate = draft.context, draft.candidate
    row = cost_table([candidate], context.teacher.encoder_shape, context.config.seq_len).iloc[0]
    costs = {name: row[name].item() for name in COST_COLUMNS}
    check_flops(draft.superlm, candidate, costs["flops"], context.config.seq_len)
    for_card = {**costs, "teacher": context.teacher_costs(), "seq_len": context.config.seq_len}
    facts = {key: str(value) for key, value in draft.facts.items()}
    export_student(draft.superlm, candidate, context.teacher, for_card, facts, folder, replace_existing=True)
    return {"label": candidate.config.label, "id": candidate.id, **costs, **draft.facts}


def _teacher(bench: Bench) -> Made:
    teacher = bench.context.teacher
    if teacher.folder is None:
        raise Skip("the teacher is no local folder")
    return Made(teacher.folder, {"label": teacher.dims.label, "id": "teacher", **bench.context.teacher_costs()})


# ---- slices of our SuperLMs


def _slice(bench: Bench, student_id: str, facts: Mapping[str, Any] = MappingProxyType({})) -> Draft:
    context, candidate = bench.context, bench.candidate(student_id)
    bench.trained()
    superlm = context.trained_superlm(context.space.sub_space(candidate.sub_space))
    search_loss = context.heldout_for(candidate.config).loss(superlm, candidate.config)
    return Draft(context, superlm, candidate, {**_effort(bench), "search_loss": search_loss, **facts})


def _effort(bench: Bench) -> dict[str, Any]:
    """What the training of all SuperLMs took."""
    return {"steps": bench.steps, "tokens": bench.tokens, "training_flops": run_cost(bench.context)}


def _pick(bench: Bench, spec: RowSpec) -> Draft:
    return _slice(bench, bench.found(_budget(spec)).pick)


def _runner_up(bench: Bench, spec: RowSpec) -> Draft:
    runner_up = bench.found(_budget(spec)).runner_up
    if runner_up is None:
        raise Skip("the front has one student only")
    return _slice(bench, runner_up)


def _pick_proxy(bench: Bench, spec: RowSpec) -> Draft:
    if "proxy" not in OPTIONS:
        raise Skip("this version has no search by a proxy task")
    if bench.settings.data is None:
        raise Skip("a proxy task needs labelled data: --data")
    pick = bench.found(_budget(spec), bench.settings.proxy).pick
    return _slice(bench, pick, {"proxy": bench.settings.proxy})


def _pick_refined(bench: Bench, spec: RowSpec) -> Draft:
    if importlib.util.find_spec("autodistil.refine") is None:
        raise Skip("this version has no autodistil refine")
    raise Skip("autodistil refine is not called from here yet")


def _random_pick(bench: Bench, spec: RowSpec) -> Draft:
    drawn = random_students(bench.found(_budget(spec)).flops, bench.limit(_budget(spec)))
    seed = spec.seed or 0
    if seed >= len(drawn):
        raise Skip(f"{len(drawn)} students use {100 * USED:g} % to 100 % of the budget")
    return _slice(bench, drawn[seed])


def random_students(flops: Mapping[str, int], limit: float) -> list[str]:
    """Ids of the students that use `USED` to all of the budget, in an order that is random but always the same."""
    pool = sorted(student for student, cost in flops.items() if USED * limit <= cost <= limit)
    return [pool[index] for index in np.random.default_rng(0).permutation(len(pool))]


def _budget(spec: RowSpec) -> float:
    assert spec.budget is not None
    return spec.budget


# ---- the pick's architecture


def _alone(bench: Bench, spec: RowSpec) -> Draft:
    """As `autodistil certify` trains a student alone, and in the same place: neither does it again."""
    context, candidate = bench.context, bench.pick(_budget(spec))
    superlm = context.new_superlm(SubSpace.of_student(candidate.id, candidate.config))
    trainer = SuperLMTrainer(superlm, recipe_of(context.config, bench.steps), context.objective)
    folder = context.folder.alone_folder(candidate.id)
    restore_checkpoint(trainer, folder)
    if not trainer.finished:
        with context.folder.locked():
            train_with_checkpoints(context, [trainer], lambda _: folder, lambda _: None)
    cost = bench.steps * own_step_cost(context, {candidate.config: 1.0})
    loss = context.heldout_for(candidate.config).loss(superlm, candidate.config)
    facts = {"steps": bench.steps, "tokens": bench.tokens, "training_flops": cost, "search_loss": loss}
    return Draft(context, superlm, candidate, facts)


_UNTRAINED: Mapping[str, Any] = MappingProxyType({"steps": 0, "tokens": 0, "training_flops": 0.0})


def _untrained(bench: Bench, spec: RowSpec) -> Draft:
    context, candidate = bench.context, bench.pick(_budget(spec))
    superlm = context.new_superlm(SubSpace.of_student("untrained", candidate.config))
    loss = context.heldout_for(candidate.config).loss(superlm, candidate.config)
    return Draft(context, superlm, candidate, {**_UNTRAINED, "search_loss": loss})


def _untrained_leading(bench: Bench, spec: RowSpec) -> Draft:
    context, candidate = bench.context, bench.pick(_budget(spec))
    sub = SubSpace.of_student("untrained", candidate.config)
    return Draft(context, SuperLM.from_teacher(context.teacher, sub, context.layer_map), candidate, _UNTRAINED)


def _random_teacher(bench: Bench, spec: RowSpec) -> Draft:
    context, candidate = bench.context, bench.pick(_budget(spec))
    teacher = random_teacher(context.teacher, bench.folder / "random-teacher")
    options = {
        **bench.training,
        "teacher": str(teacher),
        "relation_heads": context.objective.options.relation_heads,
    }
    return _own_run(bench, f"random-teacher-{candidate.id}", options, candidate.config, bench.steps)


def random_teacher(teacher: Teacher, folder: Path) -> Path:
    """A model of a teacher's shape with random weights, its tokenizer and pooling, in `folder`."""
    if not folder.is_dir():
        building = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(building, ignore_errors=True)
        _save_random(teacher, building)
        building.rename(folder)
    return folder


def _save_random(teacher: Teacher, folder: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_config(teacher.model.config)
    if not teacher.has_pooler:
        model.pooler = None
    model.save_pretrained(folder)
    teacher.tokenizer.save_pretrained(folder)
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling"):
        source = teacher.folder / name if teacher.folder else None
        if source is not None and source.is_dir():
            shutil.copytree(source, folder / name)
        elif source is not None and source.is_file():
            shutil.copyfile(source, folder / name)


# ---- made by hand


def _truncated(bench: Bench, spec: RowSpec) -> Draft:
    context = bench.context
    shape, seq_len = context.teacher.encoder_shape, context.config.seq_len
    student = truncated(context.teacher.dims, shape, seq_len, bench.limit(_budget(spec)))
    if student is None:
        raise Skip("not one layer of full width fits into the budget")
    superlm = SuperLM.from_teacher(context.teacher, SubSpace.of_student("truncated", student), first_layers)
    return Draft(context, superlm, Candidate("truncated", student), _UNTRAINED)


def _hand_made(bench: Bench, spec: RowSpec) -> Draft:
    options = _hand_made_options(bench)
    tokens_a_step = bench.context.config.batch_size * bench.context.config.seq_len
    steps = max(1, round(bench.tokens / tokens_a_step))
    return _own_run(bench, f"hand-made-{percent(_budget(spec))}", options, _hand_made_shape(bench, spec), steps)


def _hand_made_equal_compute(bench: Bench, spec: RowSpec) -> Draft:
    bench.trained()
    options, student, config = _hand_made_options(bench), _hand_made_shape(bench, spec), bench.context.config
    a_step = step_cost(bench.context.teacher, config.batch_size, config.seq_len, {student: 1.0})
    steps = max(1, round(run_cost(bench.context) / len(bench.settings.budgets) / a_step))
    return _own_run(bench, f"hand-made-{percent(_budget(spec))}-compute", options, student, steps)


def _hand_made_options(bench: Bench) -> dict[str, Any]:
    rate = bench.settings.hand_made_rate
    return {**bench.training, **HAND_MADE_RECIPE, **({} if rate is None else {"learning_rate": rate})}


def _hand_made_shape(bench: Bench, spec: RowSpec) -> StudentConfig:
    teacher = bench.context.teacher
    limit = bench.limit(_budget(spec))
    student = hand_made(teacher.dims, teacher.encoder_shape, bench.context.config.seq_len, limit)
    if student is None:
        raise Skip("not even one layer of one head fits into the budget")
    return student


def _own_run(bench: Bench, name: str, options: Mapping[str, Any], student: StudentConfig, steps: int) -> Draft:
    """Train a student alone in a run of its own, whose space is that student."""
    plain = {key: value for key, value in options.items() if key not in ("train_minutes", "train_steps", "space")}
    folder = bench.folder / "alone" / f"{name}-{digest([plain, steps, student.label])}"
    sub = SubSpace.of_student("student", student)
    space = SearchSpace("one", f"One student: {student.label}.", (sub,))
    path = write_text(folder.with_suffix(".yaml"), yaml.safe_dump(space_to_dict(space), sort_keys=False))
    context = RunContext.open(folder, {**plain, "space": str(path), "train_steps": steps}, progress=bench.progress)
    pipeline.train(context, resume=True)
    facts = {
        "steps": steps,
        "tokens": steps * context.resolved()["tokens_a_step"],
        "training_flops": steps * own_step_cost(context, {student: 1.0}),
        "objective": context.objective.name,
    }
    return Draft(context, context.trained_superlm(sub), Candidate("student", student), facts)


MAKERS: Mapping[str, Callable[[Bench, RowSpec], Draft]] = MappingProxyType(
    {
        "pick": _pick,
        "runner-up": _runner_up,
        "pick-proxy": _pick_proxy,
        "pick-refined": _pick_refined,
        "alone": _alone,
        "hand-made": _hand_made,
        "hand-made-equal-compute": _hand_made_equal_compute,
        "random-pick": _random_pick,
        "untrained": _untrained,
        "untrained-leading": _untrained_leading,
        "truncated": _truncated,
        "random-teacher": _random_teacher,
    }
)
