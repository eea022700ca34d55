"""How much faster a student is than its teacher, as measured on one machine; `profiling.forward_time` measures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autodistil.costs.units import significant

Milliseconds = tuple[float, float, float]
"""The median, and both ends of its 95 % interval."""


@dataclass(frozen=True)
class Speed:
    """A forward of a student and one of its teacher, batch 1, timed in turns."""

    student: Milliseconds
    teacher: Milliseconds
    inputs: str
    """What was read, in words."""
    where: str
    """With what and on which device, in words."""

    @classmethod
    def of_dict(cls, known: Mapping[str, Any]) -> Speed:
        """From what `dataclasses.asdict` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        (a, b, c), (d, e, f) = known["student"], known["teacher"]
        return cls((float(a), float(b), float(c)), (float(d), float(e), float(f)), known["inputs"], known["where"])

    @property
    def factor(self) -> str:
        """How many forwards of the student the time of one of the teacher holds, such as `3.1 x`."""
        return f"{significant(self.teacher[0] / self.student[0], 2)} x"

    @property
    def milliseconds(self) -> str:
        """Both medians, such as `4.10 ms against 12.7`."""
        return f"{significant(self.student[0])} ms against {significant(self.teacher[0])}"

    def of(self, teacher: str) -> str:
        """The answer in words, such as `3.1 x as fast as all-MiniLM-L6-v2: 4.10 ms against 12.7`."""
        return f"{self.factor} as fast as {teacher}: {self.milliseconds}"
