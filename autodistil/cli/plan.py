"""What `search --dry-run` prints: a plan as lines, or as plain values for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from autodistil.cli.terminal import print_lines

if TYPE_CHECKING:
    from autodistil.stages.planning import Plan, Work

_MEETS = {
    True: "meets the budgets itself",
    False: "does not meet the budgets",
    None: "whether it meets the budgets itself is measured in the search",
}
_UNTIMED = "the fit before a refinement, checks, export and report"


def print_plan(plan: Plan) -> None:
    """A plan line by line, what to know of it last."""
    print_lines(
        f"run: {plan.run} ({'new' if plan.is_new else 'there'}; a dry run, nothing was written to it)",
        f"teacher: {plan.teacher.name}, {_costs(plan)}: {_MEETS[plan.teacher_meets]}",
        f"students: {_students(plan)}",
        f"SuperLMs: {_superlms(plan)}",
        f"training: {plan.steps:,} steps ({plan.steps_from}), {_work(plan.training, 'left')}",
        *([f"the teacher's text: {_work(plan.writing, 'steps')}"] if plan.writing.count else []),
        f"scoring: {plan.feasible:,} students ({plan.sampler}), {_work(plan.scoring, 'left')}",
        f"refining: {_refining(plan)}",
        *([] if plan.seconds is None else [f"in all: about {_duration(plan.seconds)}, without {_UNTIMED}"]),
        f"disk: {_disk(plan)}",
        f"memory: at least {_bytes(plan.memory)}",
        *plan.notes,
    )


def _costs(plan: Plan) -> str:
    from autodistil.costs.units import cost_of

    return ", ".join(cost_of(column).text(plan.teacher.value(column)) for column in ("flops", "params"))


def _students(plan: Plan) -> str:
    known = [text for text in plan.budgets if text not in plan.unmeasured]
    within = f" within {' and '.join(known)}" if known else ""
    of_each = ", ".join(f"{sub.name} {sub.feasible:,} of {sub.students:,}" for sub in plan.sub_spaces)
    return f"{plan.feasible:,} of {plan.students:,}{within}: {of_each}"


def _superlms(plan: Plan) -> str:
    """What is there of them, such as `base is trained; small, tiny to train`."""
    names: dict[str, list[str]] = {}
    for sub in plan.sub_spaces:
        words = f"begun ({sub.steps_done:,} steps)" if sub.state == "begun" else sub.state
        names.setdefault(words, []).append(sub.name)
    return "; ".join(f"{', '.join(those)} {words}" for words, those in names.items())


def _refining(plan: Plan) -> str:
    if not plan.finalists:
        return "none"
    who = "the best student" if plan.finalists == 1 else f"the best {plan.finalists} students"
    return f"{who} alone, {_work(plan.refining, 'steps')}"


def _work(work: Work, unit: str) -> str:
    """Such as `24 steps of about 2.6 s: about 62 seconds`."""
    if not work.seconds or work.seconds_each is None:
        return f"{work.count:,} {unit}"
    in_all = f": about {_duration(work.seconds)}" if work.seconds >= 1 else ""
    return f"{work.count:,} {unit} of about {work.seconds_each:.2g} s{in_all}"


def _disk(plan: Plan) -> str:
    disk = plan.disk
    training = (
        f"{_bytes(disk.checkpoints)} of checkpoints while it trains, {_bytes(disk.superlms)} of SuperLMs then; "
        if disk.checkpoints
        else ""
    )
    refined = f"about {_bytes(disk.refined)} refined, " if disk.refined else ""
    return f"{training}{refined}at most {_bytes(disk.student)} exported"


def _bytes(count: int) -> str:
    from autodistil.costs.units import scaled, significant

    number, prefix = scaled(count)
    return f"{significant(number)} {prefix}B"


def _duration(seconds: float) -> str:
    from autodistil.stages.training_length import duration

    return duration(seconds)


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan as plain values: times in seconds, sizes in bytes, None where something is not known."""
    works = {name: getattr(plan, name) for name in ("training", "writing", "scoring", "refining")}
    return {
        "run": str(plan.run),
        "new": plan.is_new,
        "budgets": list(plan.budgets),
        "unmeasured_budgets": list(plan.unmeasured),
        "teacher": {**plan.teacher.to_dict(), "meets_budgets": plan.teacher_meets},
        "students": plan.students,
        "feasible": plan.feasible,
        "sub_spaces": [asdict(sub) for sub in plan.sub_spaces],
        "steps": plan.steps,
        "steps_from": plan.steps_from,
        "sampler": plan.sampler,
        "finalists": plan.finalists,
        **{name: {**asdict(work), "seconds": work.seconds} for name, work in works.items()},
        "seconds": plan.seconds,
        "disk": asdict(plan.disk),
        "memory": plan.memory,
        "notes": list(plan.notes),
    }
