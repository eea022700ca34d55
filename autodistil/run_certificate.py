"""The certificate of a run: what a search measures for it, and where it is kept.

A search scores feasible students only. Whether the largest student of a SuperLM is its best can be asked of any budget,
so a search also scores the two ends of each SuperLM that it used.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from autodistil.certificate import Certificate, Measured, assess, read_measured, verdict, write_measured
from autodistil.context import RunContext
from autodistil.spaces import Candidate, SubSpace
from autodistil.student_search.pick import best_id


def score_ends(context: RunContext, sub_spaces: Sequence[SubSpace], ranked: pd.DataFrame) -> None:
    """Score the largest and the smallest student of each sub-space, in budget or not, and write `certificate.json`."""
    ends = [Candidate(sub.name, end) for sub in sub_spaces for end in (sub.largest, sub.smallest)]
    measured = read_measured(context.folder.certificate_path)
    losses = score_unknown(context, ends, ranked, measured)
    write_certificate(context, ranked, measured.merged(in_superlm=losses))


def score_unknown(
    context: RunContext, candidates: Sequence[Candidate], ranked: pd.DataFrame, measured: Measured
) -> dict[str, float]:
    """Held-out losses, in their SuperLMs, of those candidates that have none yet."""
    known = {*ranked.index[ranked["loss"].notna()], *measured.in_superlm}
    missing = [candidate for candidate in candidates if candidate.id not in known]
    superlms = {c.sub_space: context.trained_superlm(context.space.sub_space(c.sub_space)) for c in missing}
    return {c.id: context.heldout_for(c.config).loss(superlms[c.sub_space], c.config) for c in missing}


def write_certificate(context: RunContext, ranked: pd.DataFrame, measured: Measured) -> Certificate:
    """Work out the certificate of a search and write `certificate.json`."""
    found = assess(ranked, measured, best_id(ranked))
    write_measured(context.folder.certificate_path, measured, {"verdict": verdict(found), **found.to_dict()})
    return found


def certificate_of(context: RunContext, ranked: pd.DataFrame, pick: str) -> Certificate:
    """The certificate of a pick from what was measured so far.

    Raises:
        RunError: `certificate.json` is damaged.
    """
    return assess(ranked, read_measured(context.folder.certificate_path), pick)
