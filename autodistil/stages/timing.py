"""How much faster: forwards of the students worth choosing, timed beside their teacher's on this machine.

speed.json      what was measured, by student; measured again on another machine, or with other threads or libraries
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autodistil.costs.speed import Speed
from autodistil.profiling.forward_time import forward_speeds, where_timed
from autodistil.run.run import Run
from autodistil.space.student import Candidate
from autodistil.utils import write_text


def speeds_of(run: Run, candidates: Sequence[Candidate]) -> Mapping[str, Speed]:
    """How much faster students are than the teacher here, by id; those are missing that other work disturbed.

    Args:
        run: its SuperLMs are trained.
        candidates: the students; each is measured once.
    """
    inputs, path = run.inputs, run.folder.speed_path
    device = inputs.device if inputs.device.type == "cuda" else inputs.teacher.model.device
    known, here = known_speeds(path), where_timed(device)
    wanted = {one.id: one for one in candidates}
    missing = [name for name in wanted if name not in known or known[name].where != here]
    if missing:
        students = [_model_of(run, wanted[name]).to(device) for name in missing]
        with run.progress.track("timing forwards", 0):
            found = forward_speeds(students, inputs.teacher.model, inputs.seq_len)
        known |= {name: speed for name, speed in zip(missing, found, strict=True) if speed is not None}
        write_text(path, json.dumps({name: asdict(speed) for name, speed in known.items()}, indent=1) + "\n")
    speeds = {name: known[name] for name in wanted if name in known and known[name].where == here}
    if left_out := [name for name in wanted if name not in speeds]:
        run.progress.say(
            f"no milliseconds of {', '.join(left_out)}: other work disturbed the timing; search again, or use "
            "`autodistil profile`, while the machine does nothing else"
        )
    return speeds


def _model_of(run: Run, candidate: Candidate) -> Any:
    """A student as it is exported, less its head."""
    return run.superlms.of(candidate).extract(candidate.config).eval().base_model


def known_speeds(path: Path) -> dict[str, Speed]:
    """What was measured before; nothing of a file that is damaged, as it is measured again in seconds."""
    try:
        raw: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: Speed.of_dict(one) for name, one in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}
