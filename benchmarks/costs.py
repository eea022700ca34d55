"""How much faster are closed forms than tracing, and do they agree?

FLOPs of every student of the shipped spaces, by `autodistil.costs.closed_form.flops` (numpy, all students at once) and
by fvcore's trace of each student's Hugging Face model on the meta device, which is how a search without closed forms
would have to do it. Rounds trace a sample of students and state the time of one; `--size real` also traces every
student once and compares all counts.
"""

from __future__ import annotations

import numpy as np
from bench_common.options import arguments, parse, record_path
from bench_common.picture import write_picture
from bench_common.record import print_table, write_record
from bench_common.timing import Spread, take_turns
from transformers import BertConfig

from autodistil.costs.closed_form import flops
from autodistil.costs.fvcore_check import count_flops
from autodistil.models.families import family_of
from autodistil.space.files import load_space
from autodistil.space.shape import EncoderShape
from autodistil.space.student import StudentConfig

SPACES = ("minilm-l6-h384", "bert-base")
SEQ_LEN = 128
SAMPLE = 4
"""Students that a round traces."""
GOAL = 1000.0
BASE = BertConfig()
SHAPE = EncoderShape(BASE.vocab_size, BASE.max_position_embeddings + BASE.type_vocab_size, None, pooler=True)


def traced(students: list[StudentConfig]) -> list[int]:
    """Multiply-adds of each, by fvcore."""
    family = family_of(BASE)
    return [
        count_flops(family.student_config(BASE, student, range(student.num_layers)), SEQ_LEN) for student in students
    ]


def compare(name: str, rounds: int, every: bool) -> dict[str, object]:
    """One row: a space, its times by both ways, and in how many students they agree."""
    students = [candidate.config for candidate in load_space(name).candidates]
    random = np.random.default_rng(0)
    counts = flops(students, SHAPE, SEQ_LEN)
    seen: dict[int, int] = {}

    def trace() -> None:
        rows = random.choice(len(students), SAMPLE, replace=False)
        seen.update(zip(rows.tolist(), traced([students[row] for row in rows]), strict=True))

    def closed_form() -> None:
        flops(students, SHAPE, SEQ_LEN)

    times = take_turns({"closed": closed_form, "traced": trace}, rounds)
    if every:
        missing = [row for row in range(len(students)) if row not in seen]
        seen.update(zip(missing, traced([students[row] for row in missing]), strict=True))
    closed, each = ([second / n for second in times[key]] for key, n in (("closed", len(students)), ("traced", SAMPLE)))
    return {
        "space": name,
        "students": len(students),
        "closed form, us a student": Spread.of([second * 1e6 for second in closed]),
        "trace, ms a student": Spread.of([second * 1e3 for second in each]),
        "times faster": Spread.of([b / a for a, b in zip(closed, each, strict=True)]),
        "goal": GOAL,
        "compared": len(seen),
        "equal": sum(int(counts[row]) == count for row, count in seen.items()),
    }


def main() -> None:
    """Run, print and record."""
    options = parse(arguments(__doc__))
    rows = [compare(name, options.rounds, options.size == "real") for name in SPACES]
    print_table(rows)
    path = record_path(options, "costs")
    write_record(path, rows, {"seq_len": SEQ_LEN, "sample": SAMPLE})
    write_picture(
        path.with_suffix(".png"), rows, "times faster", "FLOPs in closed form: times faster than tracing", GOAL
    )


if __name__ == "__main__":
    main()
