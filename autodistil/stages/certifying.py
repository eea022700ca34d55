"""How far a search can be trusted: what is measured for its certificate, and where that is kept.

A search scores feasible students only. Whether the largest student of a SuperLM is its best can be asked of any budget,
so a search also scores the two ends of each SuperLM that it used.

`certify_search` trains students alone, as their SuperLM was trained, to see whether it had ranked them so: few, spread
over size, chosen by design and the seed. Each starts from the same slices of the teacher and takes the same number of
steps on the same text as its SuperLM; only the sharing is gone. With `one`, a single SuperLM over all sub-spaces is
trained likewise, the ablation of K against one. Everything is checkpointed beside the SuperLMs, nothing is trained
twice.
"""

from __future__ import annotations

import shlex
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autodistil.errors import ConfigError, RunError
from autodistil.evaluation.heldout import HeldOutScorer
from autodistil.models.superlm import SuperLM
from autodistil.run.inputs import RunInputs
from autodistil.run.run import Run
from autodistil.run.superlms import SuperLMs
from autodistil.space.axes.window import WINDOWS
from autodistil.space.space import JoinedSubSpaces, OneStudent, StudentSet, SubSpace, by_size
from autodistil.space.student import Candidate, StudentConfig
from autodistil.stages.searching import last_search
from autodistil.stages.training import check_interrupted, recipe_of, train_kept, trainer_of
from autodistil.stages.training_length import duration
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.certificate.assess import Certificate, assess
from autodistil.student_search.certificate.measured import CertificateLosses, read_measured, write_measured
from autodistil.student_search.certificate.verdict import NOT_CERTIFIED, level, verdict
from autodistil.student_search.pick import best_id
from autodistil.student_search.problem import SearchProblem
from autodistil.training.metrics import read_metrics, training_seconds
from autodistil.training.recipe import Recipe
from autodistil.training.sampling import draw_students

DEFAULT_SAMPLE = 5
"""Students a sub-space: with 5, the same order in both has a p-value of 1/60; with 4, no order is below 0.05."""

MIN_SAMPLE = 2
LIKE = 0.1
"""Students whose FLOPs differ by no more cost alike."""

ONE = "one"
"""Name of the SuperLM over all sub-spaces; ids of students hold a hyphen."""

_COUNTED_STEPS = 2_000
"""Steps over which it is counted how often a student is drawn; later ones are drawn likewise."""


def sample_students(
    sub_space: StudentSet, size: int, seed: int, pick: StudentConfig | None = None
) -> tuple[StudentConfig, ...]:
    """A stratified sample of architectures with their windows: both ends, and one from each of equal strata between.

    Args:
        sub_space: the students to choose from.
        size: students to choose; all where there are no more.
        seed: decides who is drawn from a stratum.
        pick: taken instead of the one drawn from its stratum.

    Returns:
        The students, smallest first.
    """
    assert size >= MIN_SAMPLE
    ordered = by_size(networks(sub_space))
    if len(ordered) <= size:
        return tuple(ordered)
    generator = np.random.default_rng([seed, zlib.crc32(sub_space.name.encode())])
    strata = np.array_split(np.arange(1, len(ordered) - 1), size - 2) if size > MIN_SAMPLE else []
    inner = [[ordered[i] for i in stratum] for stratum in strata]
    drawn = [stratum[int(generator.integers(len(stratum)))] for stratum in inner]
    chosen = [pick if pick and pick in stratum else one for stratum, one in zip(inner, drawn, strict=True)]
    return (ordered[0], *chosen, ordered[-1])


def networks(students: StudentSet) -> Sequence[StudentConfig]:
    """The architectures of a set, once for each window that they have there: what is scored, and trained alone."""
    if not any(map(students.has_axis_of, WINDOWS)):
        return students.architectures
    return sorted(
        {one.network for architecture in students.architectures for one in students.of_architecture(architecture)}
    )


def score_ends(run: Run, sub_spaces: Sequence[SubSpace], table: CandidateTable) -> None:
    """Score the largest and the smallest student of each sub-space, in budget or not, and write `certificate.json`."""
    ends = [Candidate(sub.name, end) for sub in sub_spaces for end in _ends(sub)]
    path = run.folder.certificate_path
    measured = read_measured(path)
    losses = score_unknown(run.scorer, ends, table, measured)
    write_certificate(path, table, measured.merged(in_superlm=losses))


def _ends(students: StudentSet) -> tuple[StudentConfig, StudentConfig]:
    """The largest and the smallest, of equal weights the one with the widest and with the narrowest window."""
    if not any(map(students.has_axis_of, WINDOWS)):
        return students.largest, students.smallest
    ordered = by_size(networks(students))
    return ordered[-1], ordered[0]


def score_unknown(
    scorer: HeldOutScorer, candidates: Sequence[Candidate], table: CandidateTable, measured: CertificateLosses
) -> dict[str, float]:
    """Held-out losses, in their SuperLMs, of those candidates that have none yet."""
    known = {*table.known("loss"), *measured.in_superlm}
    missing = [candidate for candidate in candidates if candidate.id not in known]
    return {one.id: scorer.loss(scorer.superlm_of(one.sub_space), one.config) for one in missing}


def write_certificate(path: Path, table: CandidateTable, measured: CertificateLosses) -> Certificate:
    """Work out the certificate of a search and write `certificate.json`."""
    found = assess(table, measured, best_id(table))
    write_measured(path, measured, {"verdict": verdict(found), **found.to_dict()})
    return found


def certifying_note(run: Run, certificate: Certificate) -> list[str]:
    """What certifying a search would take here, where that was not done: from the time of its training."""
    path = run.folder.metrics_path
    if level(certificate) != NOT_CERTIFIED or not path.is_file():
        return []
    sub_spaces = len([sub for sub in run.inputs.space.sub_spaces if run.superlms.is_trained(sub)])
    alone = training_seconds(read_metrics(path)) * DEFAULT_SAMPLE / (run.config.random_students + 2)
    return [
        f"Certifying it (autodistil certify --run {shlex.quote(str(run.folder.path))}) trains {DEFAULT_SAMPLE} "
        f"students of each of {sub_spaces} sub-spaces alone: about {duration(alone)} here."
    ]


def certificate_of(path: Path, table: CandidateTable, pick: str) -> Certificate:
    """The certificate of a pick from what was measured so far.

    Raises:
        RunError: `certificate.json` is damaged.
    """
    return assess(table, read_measured(path), pick)


def certify_search(run: Run, sample: int = DEFAULT_SAMPLE, one: bool = False, resume: bool = False) -> Certificate:
    """Train a sample of students alone and write what that says about the search to `certificate.json`.

    Args:
        run: a run that was searched; its folder is locked by the caller.
        sample: students of each trained sub-space; those trained before count as well.
        one: also train one SuperLM over all sub-spaces.
        resume: go on with an interrupted certification.

    Raises:
        RunError: the run was not searched, a training was interrupted, or a file is damaged.
        ConfigError: the sample is too small.
    """
    if sample < MIN_SAMPLE:
        raise ConfigError(f"sample = {sample} gives no ranks; allowed: at least {MIN_SAMPLE}; give --sample 5")
    folder, resolved = run.folder, run.folder.resolved()

    def folder_of(name: str) -> Path:
        return folder.one_folder if name == ONE else folder.alone_folder(name)

    problem, table = last_search(run.inputs)
    measured = read_measured(folder.certificate_path)
    sub_spaces = _trained_sub_spaces(run.superlms, one)
    chosen = _sample(sub_spaces, sample, run.config.seed, problem, table)
    joined = JoinedSubSpaces(ONE, sub_spaces) if one else None
    # What has to be trained (or read) to measure what is not known yet, the one SuperLM first.
    missing: list[StudentSet] = [OneStudent(c.id, c.config) for c in chosen if c.id not in measured.alone]
    if joined is not None and not all(candidate.id in measured.in_one for candidate in chosen):
        missing.insert(0, joined)
    check_interrupted(folder, [students.name for students in missing], folder_of, resume)
    recipe = recipe_of(run.config, resolved["train_steps"])
    measured = measured.merged(
        in_superlm=score_unknown(run.scorer, chosen, table, measured),
        start=_starts(run.superlms, run.scorer, sub_spaces, [c for c in chosen if c.id not in measured.start]),
        tokens=float(recipe.steps * resolved["tokens_a_step"]),
        **_draws(recipe, sub_spaces, chosen, joined),
    )
    found = write_certificate(folder.certificate_path, table, measured)
    for superlm in _trained(run.inputs, run.superlms, missing, recipe, folder_of):
        students = superlm.sub_space
        if students.name == ONE:
            measured = measured.merged(in_one={c.id: run.scorer.loss(superlm, c.config) for c in chosen})
        else:
            measured = measured.merged(alone={students.name: run.scorer.loss(superlm, students.largest)})
        found = write_certificate(folder.certificate_path, table, measured)
    return found


def _trained_sub_spaces(superlms: SuperLMs, all_of_them: bool) -> tuple[SubSpace, ...]:
    """The sub-spaces with a trained SuperLM.

    Raises:
        RunError: there is none, or one is missing where all are needed.
    """
    sub_spaces, path = superlms.inputs.space.sub_spaces, superlms.inputs.folder.path
    trained = tuple(sub for sub in sub_spaces if superlms.is_trained(sub))
    missing = [sub.name for sub in sub_spaces if sub not in trained]
    if not trained or (all_of_them and missing):
        raise RunError(
            f"run {str(path)!r} has no trained SuperLM of {', '.join(missing)}; "
            f"train it with: autodistil train --run {path}"
        )
    return trained


def _sample(
    sub_spaces: Sequence[SubSpace], size: int, seed: int, problem: SearchProblem, table: CandidateTable
) -> tuple[Candidate, ...]:
    """The students to train alone; the pick is one of them.

    Of a sub-space that lists none: scored ones that cost what the pick does, whose ranks no count of FLOPs gives.
    """
    chosen: list[Candidate] = []
    pick = problem.candidates[best_id(table)]
    for sub in sub_spaces:
        if not sub.is_listed and len(alike := _as_costly(table, pick.id, sub.name)) >= size:
            places = [round(step * (len(alike) - 1) / (size - 1)) for step in range(size)]
            if pick.id in alike:  # refined, it need not be the one of the lowest loss
                own_place = alike.index(pick.id)
                places[int(np.abs(np.array(places) - own_place).argmin())] = own_place
            chosen += [problem.candidates[alike[place]] for place in places]
            continue
        own = pick.config.network if pick.sub_space == sub.name else None
        chosen += [Candidate(sub.name, student) for student in sample_students(sub, size, seed, own)]
    return tuple(chosen)


def _as_costly(table: CandidateTable, pick: str, sub_space: str) -> list[str]:
    """The scored students of a sub-space within `LIKE` of a student's FLOPs, by their loss."""
    frame = table.frame[table.frame["loss"].notna() & (table.frame["sub_space"] == sub_space)]
    alike = frame[(frame["flops"] / table[pick].costs["flops"] - 1).abs() <= LIKE]
    return [str(one) for one in alike.sort_values("loss", kind="stable").index]


def _trained(
    inputs: RunInputs, superlms: SuperLMs, sets: Sequence[StudentSet], recipe: Recipe, folder_of: Callable[[str], Path]
) -> Iterator[SuperLM]:
    """SuperLMs trained to the end, each by what taught the student's own; the one over all by the teacher."""
    trainers = (
        trainer_of(
            inputs,
            superlms.new(students),
            recipe,
            targets=None if students.name == ONE else superlms.targets_for(students.name),
        )
        for students in sets
    )
    return train_kept(inputs, superlms, trainers, folder_of, ("training to compare with", f"{recipe.steps} steps each"))


def _starts(
    superlms: SuperLMs, scorer: HeldOutScorer, sub_spaces: Sequence[SubSpace], candidates: Sequence[Candidate]
) -> dict[str, float]:
    """Held-out losses before any training."""
    needed = {candidate.sub_space for candidate in candidates}
    losses: dict[str, float] = {}
    for sub in (sub for sub in sub_spaces if sub.name in needed):
        untrained = superlms.new(sub)
        losses |= {c.id: scorer.loss(untrained, c.config) for c in candidates if c.sub_space == sub.name}
    return losses


def _draws(
    recipe: Recipe, sub_spaces: Sequence[SubSpace], chosen: Sequence[Candidate], joined: JoinedSubSpaces | None
) -> dict[str, Any]:
    """How often the students were drawn in training, as `CertificateLosses` holds it."""
    shares = {sub.name: draw_shares(sub, recipe) for sub in sub_spaces}
    a_step = {name: sum(share.values()) for name, share in shares.items()}
    if joined is not None:
        a_step[""] = sum(draw_shares(joined, recipe).values())
    return {"draws": {c.id: shares[c.sub_space].get(c.config, 0.0) for c in chosen}, "students_a_step": a_step}


def draw_shares(students: StudentSet, recipe: Recipe) -> dict[StudentConfig, float]:
    """Student -> share of the steps that draw it; they add up to the students of a step."""
    steps = min(recipe.steps, _COUNTED_STEPS)
    counts = Counter(student for step in range(steps) for student in draw_students(students, recipe, step))
    return {student: count / steps for student, count in counts.items()}
