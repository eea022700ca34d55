"""Fitting by least squares before training: the start of a SuperLM, and that of a student refined alone."""

from __future__ import annotations

from autodistil.data.batch import Batch
from autodistil.models.least_squares import fit_linear_maps
from autodistil.models.superlm import SuperLM
from autodistil.run.inputs import RunInputs
from autodistil.run.run import Run
from autodistil.space.space import StudentSet, SubSpace
from autodistil.space.student import Candidate, StudentConfig, size_key

STUDENTS = 8
"""Students that a SuperLM is fitted to."""
SHARED_TOKENS, ALONE_TOKENS = 15_000, 60_000
"""Tokens of the training text to which each of them is fitted, and a student alone; for one, a quarter was worse."""


def fitted_start(run: Run, sub_space: SubSpace) -> SuperLM | None:
    """The start of a SuperLM, fitted; None where that is not asked for, or not for it.

    What is fitted to the smaller students is taken from the larger ones. It is kept where the largest student, the
    nearest to the teacher, is no worse for it on held-out text: not where that is of the teacher's own shape, as larger
    students then end further from the teacher (LOG.md). Nor is it for students with fewer tokens than the teacher.
    """
    if run.config.least_squares != "all" or sub_space.has_axis_of("vocab_size"):
        return None
    superlm, largest = run.superlms.new(sub_space), sub_space.largest
    before = run.scorer.loss(superlm, largest)
    _fit(run, superlm, STUDENTS, SHARED_TOKENS)
    return superlm if run.scorer.loss(superlm, largest) <= before else None


def fitted_student(run: Run, candidate: Candidate) -> SuperLM | None:
    """A student alone, its slice of the teacher fitted; None where that is not for it."""
    if run.config.least_squares == "none" or candidate.config.vocab_size is not None:
        return None
    superlm = run.superlms.untrained(candidate)
    _fit(run, superlm, 1, ALONE_TOKENS)
    return superlm


def _fit(run: Run, superlm: SuperLM, students: int, tokens: int) -> None:
    chosen = spread_students(superlm.sub_space, students)
    with run.progress.track(f"fitting {superlm.sub_space.name} by least squares", 0):
        batches = fitting_batches(run.inputs, tokens)
        fit_linear_maps(superlm, run.inputs.ordered_teacher, batches, chosen, run.config.precision)


def spread_students(students: StudentSet, count: int) -> list[StudentConfig]:
    """At most `count` of the architectures, the largest first, evenly over the order of their sizes.

    Each with the widest window that it has among the students.
    """
    widest = (students.of_architecture(architecture)[-1].network for architecture in students.architectures)
    ordered = sorted(widest, key=size_key, reverse=True)
    steps = range(min(count, len(ordered)))
    return [ordered[step * (len(ordered) - 1) // max(1, len(steps) - 1)] for step in steps]


def fitting_batches(inputs: RunInputs, tokens: int) -> list[Batch]:
    """About so many tokens of the training text."""
    text = inputs.training_text
    return inputs.sample_batches(max(1, tokens * text.samples_a_step // text.tokens_a_step))
