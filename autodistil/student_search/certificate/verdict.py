"""The certificate in words: how far to trust the pick, and why. Every threshold is named here."""

from __future__ import annotations

from autodistil.student_search.certificate.assess import (
    Certificate,
    Interference,
    Monotonicity,
    OneSuperLM,
    RankAgreement,
    SubSpaceFindings,
)

GOOD_TAU = 0.8
"""Kendall's tau from which ranks are said to agree."""
FAIR_TAU = 0.5
"""Kendall's tau from which ranks mostly agree: three of four pairs are in the same order."""
CHANCE = 0.05
"""A p-value above this is said to be possible by chance."""
SMALL_SAMPLE = 10
"""Fewer students are called few: one swapped pair then moves tau by 0.04 or more."""
SPOILED = 0.05
"""The largest student is spoiled if its loss exceeds the lowest by more than this share of the spread of losses."""
ORDERED = 0.9
"""Share of nested pairs in order below which a SuperLM is said to order its students badly."""
COSTLY = 0.1
"""Mean interference over mean loss alone from which a pick gains much by training on."""
NOT_CERTIFIED = "not certified"


def level(certificate: Certificate) -> str:
    """`good`, `fair`, `poor` or `not certified`: of the ranks in the pick's sub-space."""
    found = certificate.of(certificate.best_sub_space)
    return grade(found.agreement) if found else NOT_CERTIFIED


def grade(agreement: RankAgreement) -> str:
    """The same for one agreement. A tau that may be chance is fair at best."""
    if agreement.tau is None:
        return NOT_CERTIFIED
    if agreement.tau < FAIR_TAU:
        return "poor"
    return "good" if agreement.tau >= GOOD_TAU and not by_chance(agreement) else "fair"


def by_chance(agreement: RankAgreement) -> bool:
    """Whether unrelated orders could easily agree (or disagree) as much."""
    return agreement.p_value is None or agreement.p_value > CHANCE


def verdict(certificate: Certificate) -> str:
    """The certificate in one sentence or two."""
    if certificate.best_sub_space is None:
        return "There is no pick to trust."
    found, words = certificate.of(certificate.best_sub_space), level(certificate)
    if found is None or found.agreement.n == 0:
        text = (
            "Not certified: no student of the pick’s sub-space was trained alone, so nothing shows that the SuperLM "
            "ranks students as their own training would; run autodistil certify."
        )
    elif words == NOT_CERTIFIED:
        text = (
            f"Not certified: a sample of {found.agreement.n} trained alone gives no ranks to compare; "
            "run autodistil certify with a larger --sample."
        )
    else:
        text = _certified(certificate, found, words)
    if certificate.by_task:  # ranks by loss then say only how the pick came among those that were scored
        text += (
            f" The pick itself was chosen by its score on {certificate.task_name or 'a task'} among those of low loss; "
            f"loss and score: {tau_words(certificate.task)}."
        )
    return text


def _certified(certificate: Certificate, found: SubSpaceFindings, words: str) -> str:
    pick, tau = f"the pick within {found.name}", tau_words(found.agreement)
    if words == "poor":
        weak = f" {_spoiled_alone(found.spoiled_alone)}" if found.spoiled_alone else ""
        return (
            f"Do not trust {pick}: ranks in the SuperLM do not agree with those of students trained alone ({tau}); "
            f"train longer, use narrower sub-spaces, or train the finalists alone and choose among them.{weak}"
        )
    care, ranks = "", "the SuperLM ranks students as training them alone does"
    if words == "fair":
        care, ranks = " with care", "ranks in the SuperLM mostly agree with those of students trained alone"
    return (
        f"Trust {pick}{care}: {ranks} ({tau}). As far as so small a sample tells, it is the best of its sub-space or "
        f"within {certificate.margin:.2g} of loss of it; others in budget that close: {certificate.rivals:,}."
        f"{_beside_baselines(found)}"
    )


def _beside_baselines(found: SubSpaceFindings) -> str:
    """Students spread over size are easily ranked: by size. Says so where the SuperLM does no better."""
    reached = (found.agreement.tau or 0.0) - 1e-9
    baselines = {"FLOPs": found.by_flops.tau, "loss before any training": found.untrained.tau}
    equal = [f"{name} (tau {tau:.2f})" for name, tau in baselines.items() if tau is not None and tau >= reached]
    if not equal:
        return ""
    return (
        f" Ranking this sample by nothing but {' or by '.join(equal)} agrees as well: it does not show that the "
        "SuperLM tells students of equal cost apart."
    )


def tau_words(agreement: RankAgreement) -> str:
    """`Kendall tau 0.80, n = 5, p = 0.08: may be chance`."""
    if agreement.tau is None:
        return f"Kendall tau undefined, n = {agreement.n}"
    p_value = "" if agreement.p_value is None else f", p = {agreement.p_value:.2g}"
    doubt = ": may be chance" if by_chance(agreement) else ": few students" if agreement.n < SMALL_SAMPLE else ""
    return f"Kendall tau {agreement.tau:.2f}, n = {agreement.n}{p_value}{doubt}"


def sentences(certificate: Certificate) -> tuple[str, ...]:
    """What else the certificate says, one thought each."""
    said = list(map(sub_space_words, certificate.sub_spaces))
    if sum(found.agreement.n > 0 for found in certificate.sub_spaces) > 1:
        said.append(
            f"Across sub-spaces: {tau_words(certificate.pooled)}; their students differ much in size, which makes this "
            "agreement easy."
        )
    if certificate.trials:
        said.append(_effort(certificate))
    if certificate.one is not None:
        said.append(_one(certificate.one))
    return (*said, _task(certificate))


def sub_space_words(found: SubSpaceFindings) -> str:
    """Order, agreement and interference of one sub-space."""
    parts = [
        _monotonicity(found.monotonicity),
        _swaps(found.agreement) if found.agreement.tau is not None else "",
        _interference(found.interference) if found.interference else "",
        _spoiled_alone(found.spoiled_alone) if found.spoiled_alone else "",
    ]
    return f"{found.name}: {' '.join(filter(None, parts))}"


def _monotonicity(found: Monotonicity) -> str:
    if found.share is None:
        return f"{_count(found.scored, 'student')} scored and none contains another, so there is no order to check."
    order = (
        f"in {_percent(found.share)} of {found.pairs:,} pairs where one student contains the other, the larger is at "
        f"least as good{'' if found.share >= ORDERED else ': a SuperLM that orders its students badly'}"
    )
    worst = found.worst
    most = f" ({worst.larger} is worst: {worst.excess:.2g} above {worst.smaller})" if worst else ""
    return f"{order}{most}; {_largest(found)}"


def _largest(found: Monotonicity) -> str:
    if found.largest_excess is None:
        return "its largest student was not scored."
    if found.largest_excess == 0:
        return "no student is better than its largest."
    excess = f"its largest student is {found.largest_excess:.2g} worse in loss than its best, {found.best}"
    if found.largest_excess > SPOILED * found.spread:
        return f"{excess}: spoiled by sharing, so train a large pick on alone before use."
    return f"{excess}, which is little of the spread of {found.spread:.2g}."


def _swaps(agreement: RankAgreement) -> str:
    pairs = agreement.n * (agreement.n - 1) // 2
    if not agreement.swapped:
        return (
            f"No pair of {agreement.n} students is swapped by training alone ({tau_words(agreement)}); differences "
            f"below {agreement.finest:.2g} of loss were not tested."
        )
    return (
        f"Training alone swaps {agreement.swapped} of {pairs} pairs ({tau_words(agreement)}); they differ by up to "
        f"{agreement.margin:.2g} of loss in the SuperLM, so trust no smaller difference."
    )


def _interference(found: Interference) -> str:
    share = "" if found.relative is None else f" ({_percent(abs(found.relative))} of the loss alone)"
    if found.mean <= 0:
        return f"Sharing helps: the mean loss in the SuperLM is {-found.mean:.2g} below that alone{share}."
    advice = "; training the pick on alone should gain much" if (found.relative or 0) >= COSTLY else ""
    return (
        f"Sharing costs {found.mean:.2g} of loss on average{share}, {found.worst:.2g} at worst "
        f"({found.worst_id}){advice}."
    )


def _spoiled_alone(students: tuple[str, ...]) -> str:
    return (
        f"Training alone left {' and '.join(students)} worse than before it began: the learning rate is too high for "
        f"{'it' if len(students) == 1 else 'them'} alone, so the comparison is weak there."
    )


def _effort(certificate: Certificate) -> str:
    shared = [f"{sub.name} {sub.students_a_step:g} students" for sub in certificate.sub_spaces if sub.students_a_step]
    told = f", as many as a SuperLM gives to each student that it draws a step ({', '.join(shared)})" if shared else ""
    drawn = [trial.draws for trial in certificate.trials if trial.draws is not None]
    if shared and drawn:
        told += f"; it drew those of the sample in {_percent(min(drawn))} to {_percent(max(drawn))} of its steps"
    return f"Each student trained alone took {certificate.tokens:,.0f} tokens{told}."


def _one(one: OneSuperLM) -> str:
    better = "lower" if one.mean_difference >= 0 else "higher"
    compute = "" if one.compute is None else f" The one took {_percent(one.compute)} of the student-tokens of all."
    return (
        f"A SuperLM each against one for all sub-spaces, equal steps: {_count(one.n, 'student')} "
        f"{'has' if one.n == 1 else 'have'} a {abs(one.mean_difference):.2g} {better} mean loss in their own. Ranks "
        f"against training alone: {tau_words(one.in_k)} in their own, {tau_words(one.in_one)} in the one.{compute}"
    )


def _task(certificate: Certificate) -> str:
    if not certificate.task.n:
        return "Held-out loss against task score: no task scores, so whether a low loss means a good task is open."
    name = f" on {certificate.task_name}" if certificate.task_name else ""
    return f"Held-out loss against task score{name}: {tau_words(certificate.task)}."


def _percent(share: float) -> str:
    """A share such as `27 %`; never rounded to nothing or to all."""
    digits = 0 if share in (0, 1) or 0.0995 <= share < 0.995 else 1
    return f"{100 * share:.{digits}f} %"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
