"""Rows that are trained alone: the pick's architecture by our recipe, hand-made students, and from a random teacher."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import yaml
from transformers import AutoModel

from autodistil import pipeline
from autodistil.models.teacher import Teacher
from autodistil.run.run import Run
from autodistil.space.files import space_to_dict
from autodistil.space.space import OneStudent, SearchSpace, SubSpace
from autodistil.space.student import Candidate, StudentConfig
from autodistil.stages.training import recipe_of, train_kept, trainer_of
from autodistil.utils import write_text
from quality_table.bench import Bench, Skip
from quality_table.compute import own_step_cost, run_cost, step_cost
from quality_table.drafts import Draft, budget_of
from quality_table.rows import RowSpec
from quality_table.settings import digest, percent
from quality_table.shapes import hand_made

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


def alone_draft(bench: Bench, spec: RowSpec) -> Draft:
    """As `autodistil certify` trains a student alone, and in the same place: neither does it again."""
    run, candidate = bench.run, bench.pick(budget_of(spec))
    start = run.superlms.new(OneStudent(candidate.id, candidate.config))
    targets = run.superlms.targets_for(candidate.id)
    trainer = trainer_of(run.inputs, start, recipe_of(run.config, bench.steps), targets)
    said = ("training alone", f"{bench.steps} steps")
    with run.folder.locked():
        (superlm,) = train_kept(run.inputs, run.superlms, [trainer], run.folder.alone_folder, said)
    cost = bench.steps * own_step_cost(run, {candidate.config: 1.0})
    loss = run.scorer.loss(superlm, candidate.config)
    facts = {"steps": bench.steps, "tokens": bench.tokens, "training_flops": cost, "search_loss": loss}
    return Draft(run, superlm, candidate, facts)


def random_teacher_draft(bench: Bench, spec: RowSpec) -> Draft:
    """What our recipe makes of a teacher that knows nothing."""
    run, candidate = bench.run, bench.pick(budget_of(spec))
    teacher = random_teacher(run.inputs.teacher, bench.folder / "random-teacher")
    options = {
        **bench.training,
        "teacher": str(teacher),
        "relation_heads": run.inputs.objective.options.relation_heads,
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


def hand_made_draft(bench: Bench, spec: RowSpec) -> Draft:
    """As many tokens as each of our SuperLMs."""
    options = _hand_made_options(bench)
    tokens_a_step = bench.run.config.batch_size * bench.run.config.seq_len
    steps = max(1, round(bench.tokens / tokens_a_step))
    return _own_run(bench, f"hand-made-{percent(budget_of(spec))}", options, _hand_made_shape(bench, spec), steps)


def hand_made_equal_compute_draft(bench: Bench, spec: RowSpec) -> Draft:
    """As many multiply-adds as all of our SuperLMs, over the number of budgets."""
    bench.trained()
    options, student, config = _hand_made_options(bench), _hand_made_shape(bench, spec), bench.run.config
    a_step = step_cost(bench.run.inputs.teacher, config.batch_size, config.seq_len, {student: 1.0})
    steps = max(1, round(run_cost(bench.run) / len(bench.settings.budgets) / a_step))
    return _own_run(bench, f"hand-made-{percent(budget_of(spec))}-compute", options, student, steps)


def _hand_made_options(bench: Bench) -> dict[str, Any]:
    rate = bench.settings.hand_made_rate
    return {**bench.training, **HAND_MADE_RECIPE, **({} if rate is None else {"learning_rate": rate})}


def _hand_made_shape(bench: Bench, spec: RowSpec) -> StudentConfig:
    teacher = bench.run.inputs.teacher
    limit = bench.limit(budget_of(spec))
    student = hand_made(teacher.dims, teacher.encoder_shape, bench.run.config.seq_len, limit)
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
    run = Run.open(folder, {**plain, "space": str(path), "train_steps": steps}, progress=bench.progress)
    pipeline.train(run, resume=True)
    facts = {
        "steps": steps,
        "tokens": steps * run.folder.resolved()["tokens_a_step"],
        "training_flops": steps * own_step_cost(run, {student: 1.0}),
        "objective": run.inputs.objective.name,
    }
    return Draft(run, run.superlms.trained(sub.name), Candidate("student", student), facts)
