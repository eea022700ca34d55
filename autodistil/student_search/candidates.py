"""The students that a search looked at, by id: what they cost and scored, the front, and the ranks.

Students are ranked by their held-out loss, or, where a proxy task scored some of them, those by their score first.
`candidates.csv` in a run folder is this table.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from autodistil.config import rate_words
from autodistil.costs.closed_form import COST_COLUMNS, DECODER_COLUMNS, LAYERS
from autodistil.costs.units import AT_LENGTH
from autodistil.errors import RunError, SpaceError, one_line
from autodistil.space.student import DIMENSIONS, SIZES, LayerSizes, read_layers
from autodistil.student_search.pareto import pareto_mask, staircase
from autodistil.student_search.problem import SearchProblem
from autodistil.utils import atomic_path, check_sum

_NONE: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Ranking:
    """What students are ranked by."""

    column: str
    name: str
    sign: int
    """1 where low values are good, -1 where high ones are."""


BY_LOSS, BY_SCORE = Ranking("loss", "loss", 1), Ranking("score", "score", -1)


@dataclass(frozen=True)
class Refinement:
    """A student that went on training alone."""

    student: str
    steps: int
    """Optimiser steps taken alone."""
    learning_rate: float | None
    """Peak learning rate of these steps; None: by the student's width."""
    loss_before: float
    """Held-out loss as a slice of its SuperLM."""
    loss_after: float
    """Held-out loss after it; NaN where training diverged."""

    @property
    def settings(self) -> tuple[int, float | None]:
        """What two refinements must have in common to be compared."""
        return self.steps, self.learning_rate

    @property
    def helped(self) -> bool:
        """Whether the refined weights are the better ones."""
        return self.loss_after < self.loss_before

    def __str__(self) -> str:
        return (
            f"alone for {self.steps} steps at learning rate {rate_words(self.learning_rate)}: "
            f"loss {self.loss_before:.4f} -> {self.loss_after:.4f}"
        )


@dataclass(frozen=True)
class CandidateRow:
    """One student of the table; None for what is not known of it."""

    id: str
    sub_space: str
    axes: Mapping[str, int]
    """The student's dimensions, and the optional axes that its space has."""
    layers: tuple[LayerSizes, ...]
    """Of each layer of the teacher, where they have sizes of their own."""
    costs: Mapping[str, float]
    """Closed forms of `flops` (multiply-adds), `params`, `params_no_embeddings`, `size_mb`, of decoders `kv_bytes`
    and `cache_bytes`; `flops@256` where a budget is at a length of its own."""
    devices: Mapping[str, float | None]
    """Costs on the devices of budgets, such as `ms@laptop` (what counts) and `ms@laptop measured`."""
    feasible: bool
    """Within every budget."""
    loss: float | None = None
    """Held-out, in its SuperLM, on all text."""
    texts: int | None = None
    """Held-out texts that it was scored on."""
    estimate: float | None = None
    """What its loss is guessed to be, where a race stopped it before the end of the text."""
    score: float | None = None
    """Score on the proxy task, higher is better."""
    refined_loss: float | None = None
    """Held-out, after training on alone."""
    finalist: bool = False
    pareto: bool = False
    """Whether it is on the front."""
    rank: int | None = None
    """1 is best, across sub-spaces."""
    rank_in_sub_space: int | None = None

    @property
    def exported_loss(self) -> float:
        """The held-out loss that the student is exported with: refined, where that lowered it."""
        return min((loss for loss in (self.loss, self.refined_loss) if loss is not None), default=math.nan)

    def value(self, column: str) -> float:
        """A cost (of a device too), the loss or the score, by its column; NaN where it is not known."""
        value = {**self.costs, **self.devices, "loss": self.loss, "score": self.score}[column]
        return math.nan if value is None else value

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: id, sub_space, config, costs, loss, ranks; score and others where they are known."""
        known = {
            "estimate": self.estimate,
            "refined_loss": self.refined_loss,
            "score": self.score,
            "devices": self.devices or None,
        }
        return {
            "id": self.id,
            "sub_space": self.sub_space,
            "config": {**self.axes, **({LAYERS: [list(layer) for layer in self.layers]} if self.layers else {})},
            "costs": dict(self.costs),
            **{name: value for name, value in known.items() if value is not None},
            "loss": self.loss if self.loss is not None and math.isfinite(self.loss) else None,
            "rank": self.rank,
            "rank_in_sub_space": self.rank_in_sub_space,
        }


@dataclass(frozen=True, eq=False)
class CandidateTable:
    """Students with all that a search knows of them.

    Rows come in the order of the search space; `front`, `best_first` and the like are tables of some of them, in their
    order. Today's spaces are filled in whole, whatever was scored.
    """

    frame: pd.DataFrame
    """One row a student, by id, for notebooks: the columns of `candidates.csv`. Rows are ordered under any index."""
    front_costs: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    """The costs that span the front beside the loss or score, by id; `scored` needs them."""
    limiting: str | None = None
    """The column of `front_costs` that limits the search most; None where no problem is known."""

    # ---- making

    @classmethod
    def of(cls, problem: SearchProblem) -> CandidateTable:
        """The students of a problem with their costs and whether they meet its budgets; nothing is scored yet."""
        table = problem.table.assign(feasible=problem.feasible)
        return cls(table, problem.budget_costs, problem.limiting)

    def scored(
        self, losses: Mapping[str, float], texts: Mapping[str, float] = _NONE, scores: Mapping[str, float] = _NONE
    ) -> CandidateTable:
        """Add losses, front and ranks to a table of costs.

        Ranks go to feasible students: those with a task score by that, behind them the others by loss. Losses of
        different SuperLMs are on one scale but not equally well trained: compare ranks within a sub-space first.

        A loss on fewer texts than others is the estimate of a student that a race stopped: it is kept as such, and the
        student stays without a loss, and so without a rank.

        Args:
            losses: held-out loss by id, of those that were evaluated.
            texts: the number of held-out texts of each loss.
            scores: task scores of those that a proxy task ranks; the front is then among these.
        """
        frame = self.frame.assign(
            loss=self._column(losses),
            **({"score": self._column(scores)} if scores else {}),
            texts=self._column(texts).astype("Int64"),
        )
        frame = _without_estimates(frame)
        first = CandidateTable(frame).minimised.where(frame["feasible"])
        rest = frame["loss"].where(frame["feasible"] & first.isna())
        costs = self.front_costs.loc[frame.index].to_numpy(dtype=float)
        frame["pareto"] = pareto_mask(np.column_stack([first.where(np.isfinite(first)), costs]))
        frame["rank"] = _ranks(first, rest, np.zeros(len(frame)))
        frame["rank_in_sub_space"] = _ranks(first, rest, frame["sub_space"].to_numpy())
        frame["texts"] = frame.pop("texts")  # the last column
        return replace(self, frame=frame)

    def under(self, problem: SearchProblem, scores: Mapping[str, float] | None = None) -> CandidateTable:
        """The same losses ranked under the budgets of a problem, and by these task scores instead of its own."""
        known = self.known("score") if scores is None else scores
        losses = {**self.known("estimate"), **self.known("loss")}
        return CandidateTable.of(problem.including(losses)).scored(losses, self.known("texts"), known)

    def refined(self, results: Mapping[str, Refinement], top: int) -> CandidateTable:
        """Add `refined_loss` and `finalist` to a ranked table; finalists count as of the front.

        Args:
            results: by student id.
            top: finalists that the search ranks again. They are marked only where all of them were refined alike:
                otherwise their losses do not compare.
        """
        chosen = self.finalist_ids(top)
        settings = [results[student_id].settings if student_id in results else None for student_id in chosen]
        alike = len(set(settings)) == 1 and None not in settings
        losses = self._column({student_id: result.loss_after for student_id, result in results.items()})
        finalist = self.frame.index.isin(chosen if alike else [])
        pareto = self.frame["pareto"] | finalist
        return replace(self, frame=self.frame.assign(refined_loss=losses, finalist=finalist, pareto=pareto))

    @classmethod
    def read(cls, path: Path, problem: SearchProblem | None = None) -> CandidateTable:
        """Read the `candidates.csv` of a run folder, ranked as when it was written, or under the budgets of a problem.

        Raises:
            RunError: the run was never searched, or the file is damaged.
        """
        if not path.is_file():
            raise RunError(f"run {str(path.parent)!r} was not searched yet; run: autodistil search --run {path.parent}")
        try:
            check_sum(path)
            frame = pd.read_csv(path).set_index("id", drop=False).astype({"loss": float, "pareto": bool})
            table, _ = cls(_without_estimates(frame)), frame[["sub_space", *COST_COLUMNS]]
            problem = None if problem is None else problem.including(table.known("loss"))
        except (ValueError, KeyError, SpaceError, pd.errors.ParserError) as error:
            raise RunError(
                f"{str(path)!r} is damaged ({one_line(error, 150)}); write it anew from the scores in the study: "
                f"autodistil search --run {shlex.quote(str(path.parent))}"
            ) from error
        return table if problem is None else table.under(problem)

    def write(self, path: Path, perplexity: bool = False) -> None:
        """Write `candidates.csv`, whole or not at all; where losses are cross-entropies with their perplexity."""
        frame = self.frame.assign(perplexity=np.exp(self.frame["loss"])) if perplexity else self.frame
        with atomic_path(path, summed=True) as temporary:
            frame.to_csv(temporary, index=False)

    def _column(self, values: Mapping[str, float]) -> pd.Series:
        return pd.Series(dict(values), dtype=float).reindex(self.frame.index)

    # ---- one student, one column

    def __len__(self) -> int:
        return len(self.frame)

    def __contains__(self, student_id: str) -> bool:
        return student_id in self.frame.index

    def get(self, student_id: str | None) -> CandidateRow | None:
        """One student; None where there is none of this id."""
        return self[student_id] if student_id is not None and student_id in self else None

    def __getitem__(self, student_id: str) -> CandidateRow:
        known = self.frame.loc[student_id].dropna()

        def of(kind: type, *names: str) -> dict[str, Any]:
            return {name: kind(known[name]) for name in names if name in known}

        return CandidateRow(
            id=str(student_id),
            sub_space=str(known["sub_space"]),
            axes=of(int, *SIZES),
            layers=read_layers(known.get(LAYERS, "")),
            costs={**of(int, *COST_COLUMNS, *DECODER_COLUMNS), **of(float, "size_mb", *self.at_lengths)},
            devices={**dict.fromkeys(self.devices), **of(float, *self.devices)},
            **of(float, "loss", "estimate", "score", "refined_loss"),
            **of(int, "texts", "rank", "rank_in_sub_space"),
            **of(bool, "feasible", "finalist", "pareto"),
        )

    @property
    def ids(self) -> list[str]:
        """Ids of all students, in the order of the rows."""
        return [str(student_id) for student_id in self.frame.index]

    def known(self, column: str) -> dict[str, Any]:
        """The values of a column by id, of those students that have one; none where the table lacks the column."""
        return dict(self.frame.reindex(columns=[column])[column].dropna().to_dict())

    @property
    def devices(self) -> list[str]:
        """Columns that hold a cost on a device, such as `ms@laptop` and `ms@laptop measured`."""
        return [str(name) for name in self.frame if "@" in str(name) and str(name) not in self.at_lengths]

    @property
    def at_lengths(self) -> list[str]:
        """Columns that hold a cost at the length of a budget, such as `flops@256`."""
        return [str(name) for name in self.frame if "@" in str(name) and str(name).partition("@")[0] in AT_LENGTH]

    # ---- order

    @property
    def ranking(self) -> Ranking:
        """What students are ranked by: the task score where a proxy task gave some."""
        return BY_SCORE if BY_SCORE.column in self.frame else BY_LOSS

    @property
    def minimised(self) -> pd.Series:
        """What students are ranked by, as a value to minimise; NaN where a student has none."""
        return self.ranking.sign * self.frame[self.ranking.column]

    @property
    def exported_losses(self) -> pd.Series:
        """The held-out losses that students are exported with: refined, where that lowered them."""
        return self.frame.reindex(columns=["loss", "refined_loss"]).min(axis=1)

    @property
    def front(self) -> CandidateTable:
        """The Pareto front."""
        return replace(self, frame=self.frame[self.frame["pareto"]])

    @property
    def within_budgets(self) -> CandidateTable:
        """The feasible students that are ranked."""
        return replace(self, frame=self.frame[self.frame["feasible"] & np.isfinite(self.minimised)])

    @property
    def best_first(self) -> CandidateTable:
        """The order of ranks, the cheaper of equals first; those without a task score by loss, behind the others."""
        first = self.minimised
        return self._sorted(first, self.frame["loss"].where(first.isna()), self.frame["flops"])

    @property
    def cheapest_first(self) -> CandidateTable:
        """The students from the fewest FLOPs up, the lower loss of equals first."""
        return self._sorted(self.frame["flops"], self.frame["loss"])

    def finalist_ids(self, count: int) -> list[str]:
        """The students that a search refines: the largest around the best ones of the front, then these themselves.

        Alone a student is no worse than those inside it, whatever sharing made of their order. So in the place of each
        stands the largest within the budgets that contains it.
        """
        best, chosen = self.front.best_first.ids, dict[str, None]()
        for student_id in best:
            if len(chosen) == count:
                break
            chosen[self.largest_around(student_id)] = None
        return list(dict.fromkeys([*chosen, *best]))[:count]

    def largest_around(self, student_id: str) -> str:
        """The student of the most weights within the budgets that contains this one in its SuperLM; itself if none.

        Itself too where task scores rank, which are of single students, or layers have sizes of their own.
        """
        if self.ranking == BY_SCORE or LAYERS in self.frame:
            return student_id
        frame, own = self.within_budgets.frame, self.frame.loc[student_id]
        alike = ["sub_space", *(size for size in SIZES if size in frame and size not in DIMENSIONS)]
        sizes = list(DIMENSIONS)
        around = (frame[sizes] >= own[sizes]).all(axis=1) & (frame[alike].fillna(0) == own[alike].fillna(0)).all(axis=1)
        ordered = frame[around].sort_values(["params_no_embeddings", "loss"], ascending=[False, True], kind="stable")
        return str(ordered.index[0]) if len(ordered) else student_id

    @property
    def finalists(self) -> CandidateTable:
        """The refined finalists by the loss that they are exported with; empty where none are marked."""
        marked = self.frame.reindex(columns=["finalist"], fill_value=False)["finalist"]
        chosen = replace(self, frame=self.frame[marked & self.frame["pareto"]]).best_first
        return chosen._sorted(chosen.exported_losses, chosen.frame["flops"])

    def staircase(self, cost: str) -> CandidateTable:
        """Those of the front over this one cost, cheapest first: each is better than all cheaper ones."""
        points = np.column_stack([self.frame[cost], self.minimised]).astype(float)
        return replace(self, frame=self.frame.iloc[staircase(points)])

    def standing(self, top: int) -> list[str]:
        """Ids of the feasible students that the held-out loss leaves standing, for a closer look at them.

        In this order, each group from the lowest loss or rank up, until there are `top` (0: all):

        1. the best of each sub-space, since losses of different SuperLMs do not quite compare;
        2. the front of loss and budgeted costs;
        3. the others by their rank within their sub-space, so that all sub-spaces take turns.
        """
        table = replace(self, frame=self.frame[self.frame["feasible"] & np.isfinite(self.frame["loss"])])
        in_sub_space = table.frame["rank_in_sub_space"]
        group = pd.Series(np.select([in_sub_space == 1, table.frame["pareto"]], [0, 1], 2), table.frame.index)
        turn = in_sub_space.where(group == 2, 0).astype(int)
        return table._sorted(group, turn, table.frame["loss"], table.frame["flops"]).ids[: top or None]

    def _sorted(self, *keys: pd.Series) -> CandidateTable:
        """The table by the first key, equals by the next; NaN last, and what is equal in all of them in its order."""
        order = pd.concat([key.reset_index(drop=True) for key in keys], axis=1, ignore_index=True)
        return replace(self, frame=self.frame.iloc[order.sort_values([*order.columns], kind="stable").index])

    # ---- what refining did

    @property
    def ranks_flipped(self) -> bool:
        """Whether refining changed the order of the finalists."""
        return self.finalists.ids != self.finalists.best_first.ids

    def rank_notes(self) -> list[str]:
        """What ranking the finalists again did, in words; nothing where there are none."""
        rows = list(self.finalists.frame.reindex(columns=["loss", "refined_loss"]).itertuples())
        if not rows:
            return []
        losses = "; ".join(f"{row.Index} {row.loss:.4f} -> {row.refined_loss:.4f}" for row in rows)
        if len(rows) == 1:
            worse = "" if rows[0].refined_loss < rows[0].loss else ", no better: its slice of the SuperLM is exported"
            return [f"The best student was refined alone: {losses}{worse}."]
        verdict = "and their ranks flipped" if self.ranks_flipped else "which left their ranks as they were"
        return [f"The {len(rows)} best students of the front were refined alone, {verdict}; now, best first: {losses}."]


def _without_estimates(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with losses on fewer texts than others in a column of their own, `estimate`, where there are any."""
    texts = frame.reindex(columns=["texts"])["texts"].astype("Int64")
    partial = ((texts < texts.max()) & frame["loss"].notna()).fillna(False).astype(bool)
    if not partial.any():
        return frame
    return frame.assign(loss=frame["loss"].mask(partial), estimate=frame["loss"].where(partial))


def _ranks(first: pd.Series, rest: pd.Series, groups: np.ndarray) -> pd.Series:
    """Ranks from 1 within each group, equals alike: `first` from the lowest up, then `rest`; NA where both are NaN."""
    ranks = first.groupby(groups).rank(method="min")
    behind = rest.groupby(groups).rank(method="min") + first.groupby(groups).transform("count")
    return ranks.fillna(behind).astype("Int64")
