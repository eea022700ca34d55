"""Stage four: a student of the search as an ordinary Hugging Face model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autodistil.config import MACHINE_OPTIONS, RunConfig
from autodistil.costs.speed import Speed
from autodistil.evaluation.agreement import Agreement
from autodistil.evaluation.results import RESULTS, read_results, update_card
from autodistil.export.card import Repeat
from autodistil.export.checks import check_flops
from autodistil.export.student_folder import ExportedStudent, export_student
from autodistil.formats.writing import CALIBRATION_TEXTS
from autodistil.models.hf_folder import CARD
from autodistil.models.student_files import adding, read_list
from autodistil.models.superlm import SuperLM
from autodistil.run.facts import (
    embedding_facts,
    perplexity_facts,
    provenance,
    score_name,
    teacher_costs,
    training_facts,
    vocabulary_facts,
)
from autodistil.run.folder import RunFolder
from autodistil.run.inputs import RunInputs
from autodistil.run.kept import read_refinements
from autodistil.run.run import Run
from autodistil.run.superlms import SuperLMs
from autodistil.space.student import Candidate
from autodistil.stages.agreeing import agreement_of, beside_teacher
from autodistil.stages.certifying import certificate_of
from autodistil.stages.measuring import device_notes
from autodistil.stages.searching import teacher_of, whole_loss
from autodistil.stages.timing import speeds_of
from autodistil.student_search.candidates import BY_SCORE, CandidateTable, Refinement
from autodistil.student_search.certificate.verdict import verdict
from autodistil.student_search.pick import best_id
from autodistil.student_search.problem import SearchProblem


def export_candidate(
    run: Run,
    problem: SearchProblem,
    table: CandidateTable,
    student_id: str,
    to: Path,
    replace_existing: bool = False,
    unrefined: bool = False,
    formats: Sequence[str] = (),
    speeds: Mapping[str, Speed] | None = None,
) -> ExportedStudent:
    """Export a student, its FLOPs counted again, with what a model card says about it.

    One that was refined alone is exported with its refined weights, unless they are no better or `unrefined` says so.
    Its forward is timed for the card, unless `speeds` are given: those that could be measured just now.
    """
    inputs, folder = run.inputs, run.folder
    candidate = problem.candidates[student_id]
    superlm, refinement, refined = exported_weights(folder, run.superlms, candidate, unrefined)
    row = table[student_id]
    check_flops(superlm, candidate, int(row.costs["flops"]), inputs.seq_len)
    costs: dict[str, Any] = {**row.costs, "teacher": teacher_costs(inputs), "seq_len": inputs.seq_len}
    trust = verdict(certificate_of(folder.certificate_path, table, student_id))
    loss = refinement.loss_after if refinement and refined else whole_loss(run.scorer, candidate, table)
    weights = str(refinement) if refined else f"no, this is the slice of its SuperLM (refined {refinement})"
    agreement = agreement_of(run, candidate, lambda: superlm, loss)
    teacher = teacher_of(run, problem)
    by = "" if inputs.output_teacher is None else " with those of the output teacher"
    compared = f"{agreement.texts} {inputs.samples}"
    facts = {
        "held-out loss": f"{loss:.4f} ({inputs.measure.name})",
        f"beside {teacher.name}": f"{beside_teacher(teacher, row, agreement)}{'. ' if agreement.warning else ''}"
        f"{agreement.warning or ''}",
        **({"RSA": f"Spearman correlation of cosines{by}, all pairs of {compared}"} if agreement.texts else {}),
        **embedding_facts(inputs, candidate.config),
        **perplexity_facts(inputs, run.scorer, loss),
        **({"refined": weights} if refinement else {}),
        **_task_facts(score_name(folder), table, student_id, refined),
        **({"on devices": "; ".join(notes)} if (notes := device_notes(problem, student_id)) else {}),
        "how far to trust it": trust,
        **vocabulary_facts(inputs, run.scorer, candidate.config),
        **provenance(inputs, run.superlms),
    }
    trained = {candidate.sub_space, run.config.assistant or "", student_id if refined else ""}
    machines, threads = training_facts(folder, trained)
    facts |= machines
    steps = folder.resolved().get("train_steps")
    again = repeat_of(run.config, steps, student_id, refinement if refined else None, threads)
    speed = (speeds_of(run, [candidate]) if speeds is None else speeds).get(student_id)
    texts, images = _real_inputs(inputs) if formats else ([], None)
    exported = export_student(
        superlm, candidate, inputs.teacher, costs, facts, to, replace_existing, formats, again, speed, texts, images
    )
    for note in exported.notes:
        run.progress.say(note)
    if RESULTS in read_list(to):  # of an earlier export of the same weights
        with adding(to, CARD):
            update_card(to, read_results(to))
    return exported


def _real_inputs(inputs: RunInputs) -> tuple[list[str], NDArray[np.float32] | None]:
    """Held-out texts, or images (images, channels, height, width) as a model reads them, for `write_formats`."""
    samples = inputs.heldout_texts[:CALIBRATION_TEXTS]
    if inputs.teacher.images is None:
        return inputs.decoded(samples), None
    return [], inputs.teacher.inputs.batch(samples)["pixel_values"].numpy()


class ExportedWeights(NamedTuple):
    """What a student is exported with."""

    superlm: SuperLM
    refinement: Refinement | None
    """What training on alone did, where it was done."""
    refined: bool
    """The weights are those of the refinement."""


def exported_weights(
    folder: RunFolder, superlms: SuperLMs, candidate: Candidate, unrefined: bool = False
) -> ExportedWeights:
    """The weights of a student: refined alone, unless they are no better or `unrefined` says so."""
    refinement = read_refinements(folder.refined_path).get(candidate.id)
    refined = refinement is not None and refinement.helped and not unrefined
    return ExportedWeights(superlms.refined(candidate) if refined else superlms.of(candidate), refinement, refined)


def agreement_as_exported(run: Run, problem: SearchProblem, table: CandidateTable, student_id: str) -> Agreement:
    """How near a student is to its teacher with the weights that it is exported with."""
    candidate, loss = problem.candidates[student_id], table[student_id].exported_loss
    return agreement_of(run, candidate, lambda: exported_weights(run.folder, run.superlms, candidate).superlm, loss)


def repeat_of(
    config: RunConfig, train_steps: int | None, student_id: str, refinement: Refinement | None, threads: int | None
) -> Repeat:
    """What makes a student again: the run's options that are not the defaults, its steps as they were resolved.

    Args:
        config: of the run.
        train_steps: of its SuperLM.
        student_id: whose.
        refinement: what it was refined with, where it has these weights.
        threads: those that trained it, where as many give the same bits.
    """
    default, kept = RunConfig().to_dict(), {"teacher", "seed", *(["threads"] if threads else [])}
    used = {"train_minutes": None, "train_steps": train_steps, "threads": threads}
    asked = {name: value for name, value in {**config.to_dict(), **used}.items() if name not in MACHINE_OPTIONS - kept}
    options = {name: value for name, value in asked.items() if name in kept or value != default[name]}
    settings = {} if refinement is None else {"steps": refinement.steps, "learning_rate": refinement.learning_rate}
    refined = {name: value for name, value in settings.items() if value is not None} or None
    return Repeat(student_id, options, refined, same_bits=threads is not None)


def _task_facts(score_name: str | None, table: CandidateTable, student_id: str, refined: bool) -> dict[str, str]:
    """The task score and what it meant for the pick; nothing where the held-out loss ranked.

    Args:
        score_name: what the score is.
        table: the candidates.
        student_id: whose.
        refined: it is exported with refined weights, which are not those that were ranked.
    """
    if table.ranking != BY_SCORE:
        return {}
    row = table[student_id]
    if row.score is None:
        return {"task score": "none: the student was not among those that the proxy task scored"}
    picked = "; picked for it, so it flatters" if student_id == best_id(table) else ""
    rank = f"rank {row.rank} of {len(table.known('score'))} scored"
    of = ", as a slice of its SuperLM, before it was refined" if refined else ""
    return {"task score": f"{row.score:.4f} ({score_name or 'proxy task'}, on its train split{of}), {rank}{picked}"}
