"""Errors a user can act on: one line that says what, got, allowed and the next step.

Every error that autodistil raises on purpose derives from `AutodistilError`; its `exit_code` is the exit status of the
command line: 2 for wrong input, 1 for a failure of ours. Broken invariants are `assert`s, not these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AutodistilError(Exception):
    """Base class. The message is one line for people."""

    exit_code = 2


class ConfigError(AutodistilError):
    """A run configuration or option that cannot be used."""


class SpaceError(AutodistilError):
    """A search space that is malformed, empty or does not fit its teacher."""


class BudgetError(AutodistilError):
    """A budget that cannot be read, or that no student satisfies."""


class CorpusError(AutodistilError):
    """A corpus that is missing, empty, binary or too small."""


class TeacherError(AutodistilError):
    """A teacher that cannot be loaded, or whose family is not supported."""


class TaskError(AutodistilError):
    """A labelled task that is unknown, or whose data cannot be used."""


class RunError(AutodistilError):
    """A run folder that is missing, foreign, half-written or not writable."""


class ClusterError(AutodistilError):
    """A Ray cluster that cannot be reached, is too small, or lost more workers than it may."""


class ExportError(AutodistilError):
    """A student that cannot be picked or written."""


class ProfileError(AutodistilError):
    """A measurement that cannot be made, or a latency table that cannot be used."""


class DivergedError(AutodistilError):
    """A training whose loss or gradient is no longer finite; what was saved before is untouched."""


class IntegrityError(AutodistilError):
    """A check of our own failed: the numbers of two independent ways differ. Always a defect of ours."""

    exit_code = 1


def one_line(error: BaseException, most: int) -> str:
    """What an error says, on one line of about `most` characters, cut between words: no address is cut in two."""
    return _cut(" ".join(str(error).split()), most)


def one_line_named(error: BaseException, most: int) -> str:
    """The same with the error's type in front, for those that say little by themselves."""
    return _cut(" ".join(f"{type(error).__name__}: {error}".split()), most)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    whole, _, _ = text[: most + 1].rpartition(" ")
    return f"{whole or text[:most]} ..."


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` when an allowed name is close to `name`, in any case, else an empty string."""
    known = {one.lower(): one for one in allowed if one != name}
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f" (did you mean {known[close[0]]!r}?)" if close else ""
