"""Evolution guided by a model of the loss: the sampler of spaces whose students nobody lists.

Costs are closed forms, so that children cost nothing until they are scored. Each generation breeds many from the front
and from the best within budget (uniform crossover of whole layers, then mutation: genes one or more ranks up or down, a
block left out, capacity moved from one gene to another), shrinks those that break a budget and lets half of the others
grow until just before they would, and scores the few of which an additive model of the loss expects most: half by the
lowest loss within budget, half by their gain in hypervolume over the costs. Regularised by age it is not: a student's
loss is no draw.

The model is a ridge regression of the logarithm of the loss on the genes, each once as it is and once as its root, and
the logarithms of the costs; what its leave-one-out predictions miss is its deviation. Additive models of layers are of
Molchanov et al. 2022 (LANA, arXiv 2107.10624); predictors that pick children of an evolution of Wen et al. 2020 (arXiv
1912.00848).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from autodistil.space.space import SubSpace
from autodistil.space.student import Candidate
from autodistil.student_search.pareto import pareto_mask, scaled
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.samplers.exhaustive import halving
from autodistil.student_search.samplers.sampler import Sampler, View
from autodistil.student_search.samplers.surrogate import Floats, cost_limits, expected_gain

GENERATION = 32
"""Students that are scored at a time."""
LADDER = 12
"""Of the first generation those that the space lists; the others are drawn at random and brought to the budget."""
CHILDREN = 400
"""Bred for each generation."""
PARENTS = 16
"""The best within budget, beside the front."""
_LIMITS = 64
"""Cost limits over which the gain in hypervolume is averaged."""
_STEPS = 60
"""Steps of a child on its way to the budget at most."""
_STRIDE = 0.4
"""Share of a child's ranks that a step moves where it is infinitely far from there."""

Genes = NDArray[np.int64]
"""Ranks of the values of a student's genes."""


class Evolution(Sampler):
    """A generation in view of all students that were scored."""

    batch: ClassVar[int] = GENERATION

    def propose(self, view: View) -> list[str]:
        """The students of a generation that are left; others of the same parents where it is over."""
        seen = view.losses.keys() | view.claimed
        start = view.number - view.number % GENERATION
        bred = [one for one in self._generation(start, view) if one not in seen]
        return (bred or self._bred_from(view.losses, view.number, seen))[: self.wanted - len(seen)]

    def _generation(self, start: int, view: View) -> list[str]:
        """The students of the generation whose trials begin at a number, by those that were asked for before."""
        if start not in self._generations:
            before = dict(list(view.losses.items())[:start])
            self._generations[start] = self._bred_from(before, start, before) if start else self._first
        return self._generations[start]

    @cached_property
    def _generations(self) -> dict[int, list[str]]:
        return {}

    def _bred_from(self, losses: Mapping[str, float], number: int, seen: Collection[str]) -> list[str]:
        """As many students as a generation has, none of `seen`, in view of these losses."""
        generator = np.random.default_rng([self.seed, number])
        known = {one: loss for one, loss in losses.items() if math.isfinite(loss)}
        if len(known) < GENERATION // 4:
            return self._to_budget(self._drawn(generator, GENERATION), generator, seen)
        children = self._to_budget(self._bred(known, generator), generator, seen)
        return self._promising(children, known)[:GENERATION] if children else []

    # ---- the first generation

    @cached_property
    def _first(self) -> list[str]:
        """Ids: listed students spread over their costs, and random ones that just meet the budgets."""
        generator = np.random.default_rng(self.seed)
        ladder = self.problem.budget_costs[self.problem.feasible]
        by_cost = ladder.index[np.argsort(np.log(ladder.to_numpy(dtype=float)).sum(1), kind="stable")]
        listed = [str(by_cost[i]) for i in generator.permutation(halving(len(by_cost))[:LADDER])]
        drawn = self._to_budget(self._drawn(generator, GENERATION - len(listed)), generator, listed)
        return [*listed, *drawn]

    def _drawn(self, generator: np.random.Generator, count: int) -> list[Candidate]:
        subs = self.problem.space.sub_spaces
        return [
            Candidate(sub.name, student)
            for number, sub in enumerate(subs)
            for student in sub.drawn(generator, -(-(count - number) // len(subs)))
        ]

    # ---- breeding

    def _bred(self, losses: Mapping[str, float], generator: np.random.Generator) -> list[Candidate]:
        """Children of the front and of the best within budget."""
        problem = self.problem.including(losses)
        values = np.array(list(losses.values()))
        costs = problem.budget_costs.loc[list(losses)].to_numpy(dtype=float)
        front = np.flatnonzero(pareto_mask(np.column_stack([values, costs])))
        chosen = [*np.argsort(values, kind="stable")[:PARENTS], *front]
        parents = [problem.candidates[one] for one in np.array(list(losses))[chosen]]
        return [child for child in (self._child(parents, generator) for _ in range(CHILDREN)) if child is not None]

    def _child(self, parents: Sequence[Candidate], generator: np.random.Generator) -> Candidate | None:
        first = parents[int(generator.integers(len(parents)))]
        genome = self._genomes[first.sub_space]
        genes = genome.of(first)
        mates = [one for one in parents if one.sub_space == first.sub_space]
        if generator.random() < 0.5:
            genes = genome.crossed(genes, genome.of(mates[int(generator.integers(len(mates)))]), generator)
        return genome.candidate(genome.mutated(genes, generator))

    @cached_property
    def _genomes(self) -> dict[str, _Genome]:
        return {sub.name: _Genome.of_space(sub) for sub in self.problem.space.sub_spaces}

    # ---- budgets

    def _to_budget(
        self, students: Sequence[Candidate], generator: np.random.Generator, seen: Collection[str]
    ) -> list[str]:
        """Ids of the students, none of `seen`, within the budgets: every other one from above, so that it is close."""
        pool = [(self._genomes[one.sub_space], self._genomes[one.sub_space].of(one)) for one in students]
        above = self._walked(pool[::2], generator, step=1) if self.problem.budgets else pool[::2]
        made = (genome.candidate(genes) for genome, genes in self._walked([*above, *pool[1::2]], generator, step=-1))
        found = {one.id: one for one in made if one is not None}
        feasible = self.problem.having(found.values()).feasible
        return [one for one in found if feasible[one] and one not in seen]

    def _walked(
        self, pool: list[tuple[_Genome, Genes]], generator: np.random.Generator, step: int
    ) -> list[tuple[_Genome, Genes]]:
        """Genes that lose ranks until they meet the budgets, or gain some until they do not; the fewer the nearer.

        Those that find no way there are left out.
        """
        done: list[tuple[_Genome, Genes]] = []
        for _ in range(_STEPS):
            if not pool:
                break
            excess = self._excess(pool)
            there = excess <= 0 if step < 0 else excess > 0
            done += [one for one, is_there in zip(pool, there, strict=True) if is_there]
            far = [abs(one) / (1 + abs(one)) if math.isfinite(one) else 0.0 for one in excess]
            pool = [
                (genome, genome.stepped(genes, step, 1 + int(_STRIDE * share * genes.sum()), generator))
                for (genome, genes), share, is_there in zip(pool, far, there, strict=True)
                if not is_there
            ]
        return done

    def _excess(self, pool: Sequence[tuple[_Genome, Genes]]) -> Floats:
        """By how much the students of some genes exceed a budget, relative to it; infinite where there is none."""
        made = [genome.candidate(genes) for genome, genes in pool]
        problem = self.problem.having(one for one in made if one is not None)
        worst = problem.excess.max(axis=1).fillna(-1.0)  # no budgets
        return np.array([math.inf if one is None else worst[one.id] for one in made])

    # ---- the model

    def _promising(self, ids: Sequence[str], losses: Mapping[str, float]) -> list[str]:
        """The children in the order to score them: of the lowest losses expected and of the largest gains in turn."""
        problem = self.problem.including([*losses, *ids])
        features, costs = self._features(problem, [*losses, *ids]), problem.budget_costs
        values = np.log(np.maximum(np.array(list(losses.values())), 1e-12))
        known, new = features[: len(values)], features[len(values) :]
        model = RidgeCV(np.logspace(-3, 3, 13)).fit(known, values)
        mean, deviation = model.predict(new), math.sqrt(max(-model.best_score_, 1e-12))
        log_costs = scaled(np.log(costs.loc[[*losses, *ids]].to_numpy(dtype=float)))
        limits, done = cost_limits(log_costs.shape[1], _LIMITS), len(values)
        gain = expected_gain(limits, log_costs[:done], values, log_costs[done:], mean, deviation)
        best, spread = np.argsort(mean, kind="stable"), np.argsort(-gain, kind="stable")
        turns = [i for pair in zip(best, spread, strict=True) for i in (pair if self.problem.budgets else pair[1:])]
        return [ids[i] for i in dict.fromkeys(turns)]

    def _features(self, problem: SearchProblem, ids: Sequence[str]) -> Floats:
        """(students, features), standardised."""
        students = [problem.candidates[one] for one in ids]
        places = {name: i for i, name in enumerate(self._genomes)}
        width = max(len(genome.counts) for genome in self._genomes.values())
        genes = np.zeros((len(ids), len(places) * width))
        for row, one in enumerate(students):
            own = self._genomes[one.sub_space]
            start = places[one.sub_space] * width
            genes[row, start : start + len(own.counts)] = own.of(one) / np.maximum(1, own.counts - 1)
        costs = np.log(problem.budget_costs.loc[list(ids)].to_numpy(dtype=float))
        which = np.array([[one.sub_space == name for name in places] for one in students], dtype=float)
        weights = np.log([[one.config.encoder_weights, one.config.hidden_size] for one in students])
        columns = np.column_stack([genes, np.sqrt(genes), costs, weights, which])
        columns = columns[:, np.ptp(columns, axis=0) > 0]
        return np.asarray((columns - columns.mean(0)) / columns.std(0))


@dataclass(frozen=True)
class _Genome:
    """The genes of one sub-space as ranks."""

    sub_space: SubSpace
    counts: Genes
    """Values of each gene."""
    layers: tuple[int, ...]
    """The layer of each gene; -1 of one that all layers share."""

    @classmethod
    def of_space(cls, sub_space: SubSpace) -> _Genome:
        """Those of a sub-space."""
        genes = sub_space.genes
        numbers = (gene.rpartition(" ")[2] for gene in genes)
        layers = tuple(int(number) if number.isdigit() else -1 for number in numbers)
        return cls(sub_space, np.array([len(values) for values in genes.values()]), layers)

    def of(self, candidate: Candidate) -> Genes:
        """The genes of a student."""
        point = self.sub_space.point_of(candidate.config)
        return np.array([self.sub_space.genes[gene].index(value) for gene, value in point.items()])

    def candidate(self, genes: Genes) -> Candidate | None:
        """The student of these genes; None where there is none."""
        sub = self.sub_space
        student = sub.student(**{gene: own[rank] for (gene, own), rank in zip(sub.genes.items(), genes, strict=True)})
        return None if student is None else Candidate(sub.name, student)

    def crossed(self, genes: Genes, other: Genes, generator: np.random.Generator) -> Genes:
        """Each layer of either parent, and each gene that layers share."""
        of_layer = generator.random(max(self.layers) + 1) < 0.5
        of_gene = generator.random(len(genes)) < 0.5
        theirs = [bool(of_gene[i] if layer < 0 else of_layer[layer]) for i, layer in enumerate(self.layers)]
        return np.where(theirs, other, genes)

    def mutated(self, genes: Genes, generator: np.random.Generator) -> Genes:
        """Some genes up or down, about two of them; or one down and another up; at times one left out."""
        result = genes.copy()
        kind = generator.random()
        if kind < 0.4:
            down, up = generator.integers(len(genes), size=2)
            far = self._steps(generator)
            result[down] -= far[down]
            result[up] += far[up]
        else:
            moved = generator.random(len(genes)) < 2 / len(genes)
            result[moved] += generator.choice([-1, 1], moved.sum()) * self._steps(generator)[moved]
        if kind > 0.9:
            result[generator.integers(len(genes))] = 0
        return np.clip(result, 0, self.counts - 1)

    def _steps(self, generator: np.random.Generator) -> Genes:
        """How far each gene would go: a rank or two of sixteen, however many values it has."""
        return np.maximum(1, np.round(generator.geometric(0.45, len(self.counts)) * self.counts / 16)).astype(np.int64)

    def stepped(self, genes: Genes, step: int, count: int, generator: np.random.Generator) -> Genes:
        """So many times one gene, any that can, a rank further; the same where none can."""
        result = genes.copy()
        for _ in range(count):
            free = np.flatnonzero(result > 0 if step < 0 else result < self.counts - 1)
            if not len(free):
                break
            result[free[generator.integers(len(free))]] += step
        return result
