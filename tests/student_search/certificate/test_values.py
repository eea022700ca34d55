"""The certificate's numbers by hand and by their properties: tau, nested pairs, samples, words, what is read back."""

import json
import math
from dataclasses import replace
from itertools import combinations

import pandas as pd
import pytest
from autodistil_helpers import random_teacher, small_space
from hypothesis import given
from hypothesis import strategies as st

from autodistil.errors import RunError
from autodistil.space.space import SubSpace
from autodistil.space.student import DIMENSIONS, Candidate, StudentConfig
from autodistil.stages.certifying import sample_students
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.certificate import assess as certificate
from autodistil.student_search.certificate.assess import Violation, kendall, monotonicity, rank_agreement
from autodistil.student_search.certificate.measured import CertificateLosses, read_measured, write_measured
from autodistil.student_search.certificate.verdict import grade, level, sentences, verdict

TINY = SubSpace("tiny", {"num_layers": (2, 4), "hidden_size": (16, 32), "head_size": (16,), "mlp_ratio": (2.0, 4.0)})
BASE = SubSpace("base", {"num_layers": (2, 4), "hidden_size": (48, 64), "head_size": (16,), "mlp_ratio": (2.0, 4.0)})
CANDIDATES = tuple(Candidate(sub.name, student) for sub in (TINY, BASE) for student in sub.students)


def table(losses, candidates=CANDIDATES, feasible=True, **columns):
    """A cost table; FLOPs stand for size."""
    rows = [
        {"id": c.id, "sub_space": c.sub_space, "flops": c.config.encoder_weights, "loss": loss, "feasible": feasible}
        | {dim: getattr(c.config, dim) for dim in DIMENSIONS}
        for c, loss in zip(candidates, losses, strict=True)
    ]
    return pd.DataFrame(rows).assign(**columns)


def assess(candidates, measured, best=None):
    """The certificate of students in such a table."""
    return certificate.assess(CandidateTable(candidates.set_index("id", drop=False)), measured, best)


def ordered_losses(candidates=CANDIDATES):
    """Losses in which larger is always better."""
    return [1 / c.config.encoder_weights for c in candidates]


def ids(sub):
    return [c.id for c in CANDIDATES if c.sub_space == sub.name]


def numbered(values):
    return {f"s{i}": float(value) for i, value in enumerate(values)}


# ---- agreement


def test_tau_by_hand():
    found = kendall(numbered([1, 2, 3, 4, 5]), numbered([1, 2, 3, 5, 4]))
    assert (found.n, found.swapped) == (5, 1)
    assert found.tau == pytest.approx(0.8)  # 9 concordant, 1 discordant of 10
    assert found.p_value == pytest.approx(2 * 5 / 120)  # 5 of 120 orders have at most one discordant pair
    assert found.margin == 1
    assert found.finest == 1


def test_tau_b_corrects_for_ties():
    found = kendall(numbered([1, 1, 2, 3]), numbered([1, 2, 3, 3]))
    assert found.tau == pytest.approx(4 / 5)  # 4 concordant of 5 pairs untied in each
    assert found.swapped == 0


def test_the_margin_is_the_largest_difference_that_is_swapped():
    found = kendall(numbered([0.1, 0.2, 0.25, 0.9]), numbered([3, 1, 2, 4]))
    assert found.margin == pytest.approx(0.15)
    assert found.finest == pytest.approx(0.05)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0], [1.0, math.nan], [1.0, math.inf]])
def test_without_two_ranks_there_is_no_tau(values):
    found = kendall(numbered(values), numbered(range(len(values))))
    assert found.tau is None
    assert grade(found) == "not certified"


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12, unique=True), st.randoms())
def test_tau_is_symmetric_and_blind_to_order(values, random):
    ours, theirs = numbered(values), numbered(random.sample(values, len(values)))
    keys = random.sample(sorted(ours), len(ours))
    found = kendall(ours, theirs)
    assert kendall({key: ours[key] for key in keys}, {key: theirs[key] for key in reversed(keys)}) == found
    assert kendall(theirs, ours).tau == pytest.approx(found.tau)
    assert kendall(ours, {key: -value for key, value in theirs.items()}).tau == pytest.approx(-found.tau)
    assert kendall(ours, ours).tau == pytest.approx(1)
    assert kendall(ours, ours).margin == 0


def test_a_proxy_that_orders_the_task_has_tau_one():
    losses, scores = {"a": 0.1, "b": 0.2, "c": 0.3}, {"c": 50.0, "b": 60.0, "a": 70.0, "other": 1.0}
    assert rank_agreement(losses, scores).tau == pytest.approx(1)
    assert rank_agreement(losses, scores).n == 3


def test_samples_have_the_windows_of_the_space():
    axes = {"num_layers": (2, 3), "hidden_size": (32,), "head_size": (16,), "mlp_ratio": (2.0,)}
    windowed = SubSpace("only", {**axes, "window": (8, 16)})
    assert sample_students(windowed, 9, 0) == windowed.students
    assert {student.window for student in sample_students(windowed, 3, 0)} == {8, 16}
    plain = SubSpace("only", {**axes, "vocab_size": (8000, None)})
    assert sample_students(plain, 9, 0) == plain.architectures


# ---- monotonicity


def test_students_of_other_windows_are_no_part_of_each_other():
    small, large = StudentConfig(2, 32, 2, 16, 64), StudentConfig(3, 32, 2, 16, 64)
    windows = [replace(small, window=64), replace(small, window=8), replace(large, window=8)]
    rows = [{**{d: getattr(s, d) for d in DIMENSIONS}, "window": s.window, "global_every": 0} for s in windows]
    frame = pd.DataFrame(rows).assign(id=["small-64", "small-8", "large-8"], loss=[0.1, 0.5, 0.4])
    found = monotonicity(frame)
    assert (found.pairs, found.ordered, found.largest) == (1, 1, "large-8")


def test_nested_pairs_by_hand():
    students = [StudentConfig(2, 32, 2, 16, 64), StudentConfig(4, 32, 2, 16, 64), StudentConfig(4, 64, 4, 16, 64)]
    other = StudentConfig(8, 16, 1, 16, 64)  # deeper and narrower: contains nobody
    candidates = [Candidate("s", config) for config in [*students, other]]
    found = monotonicity(table([0.5, 0.3, 0.4, 0.1], candidates))
    assert (found.scored, found.pairs, found.ordered) == (4, 3, 2)
    assert found.share == pytest.approx(2 / 3)
    assert found.worst == Violation(candidates[2].id, candidates[1].id, pytest.approx(0.1))
    assert found.best == candidates[3].id
    assert found.largest == candidates[2].id
    assert found.largest_excess == pytest.approx(0.3)
    assert found.spread == pytest.approx(0.4)


def test_students_without_a_finite_loss_are_left_out():
    found = monotonicity(table([1.0, math.nan, math.inf, *[math.nan] * 5], [c for c in CANDIDATES[:8]]))
    assert (found.scored, found.pairs, found.share, found.worst) == (1, 0, None, None)
    assert found.largest_excess is None


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, math.nan]), min_size=8, max_size=8), st.randoms())
def test_monotonicity_is_blind_to_the_order_of_rows(losses, random):
    rows = table(losses, CANDIDATES[:8])
    shuffled = rows.iloc[random.sample(range(8), 8)]
    assert monotonicity(shuffled) == monotonicity(rows)


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, math.nan]), min_size=8, max_size=8))
def test_nested_pairs_are_those_of_the_definition(losses):
    known = [(c.config, loss) for c, loss in zip(CANDIDATES[:8], losses, strict=True) if not math.isnan(loss)]
    dims = [[getattr(config, dim) for dim in DIMENSIONS] for config, _ in known]
    pairs = [
        (i, j)
        for a, b in combinations(range(len(known)), 2)
        for i, j in ((a, b), (b, a))
        if all(x >= y for x, y in zip(dims[i], dims[j], strict=True))
    ]
    found = monotonicity(table(losses, CANDIDATES[:8]))
    assert found.pairs == len(pairs)
    assert found.ordered == sum(known[i][1] <= known[j][1] for i, j in pairs)


def test_perfect_order_is_one_and_its_largest_is_best():
    found = monotonicity(table(ordered_losses(CANDIDATES[:8]), CANDIDATES[:8]))
    assert found.share == 1
    assert found.worst is None
    assert found.largest_excess == 0
    assert found.best == found.largest


# ---- sample


@given(st.integers(2, 12), st.integers(0, 50), st.integers(0, 30))
def test_a_sample_is_spread_over_size_and_holds_the_pick(size, seed, pick_at):
    sub = small_space(random_teacher("bert"))
    pick = sub.students[pick_at % len(sub.students)]
    sample = sample_students(sub, size, seed, pick)
    assert sample == sample_students(sub, size, seed, pick)
    assert len(sample) == len(set(sample)) == min(size, len(sub.students))
    assert (sample[0], sample[-1]) == (sub.smallest, sub.largest)
    weights = [student.encoder_weights for student in sample]
    assert weights == sorted(weights)
    assert size == 2 or pick in sample
    drawn = sample_students(sub, size, seed)
    assert len(set(sample) - set(drawn)) <= 1, "the pick changes its own stratum only"


# ---- certificate


def measured_like(losses, shift=0.0, **more):
    """Alone as in the SuperLM, but for a shift."""
    alone = {c.id: loss - shift for c, loss in zip(CANDIDATES, losses, strict=True)}
    return CertificateLosses(alone=alone, tokens=1024.0, **more)


def test_without_students_alone_nothing_is_certified():
    losses = ordered_losses()
    found = assess(table(losses), CertificateLosses(), CANDIDATES[-1].id)
    assert level(found) == "not certified"
    assert "run autodistil certify" in verdict(found)
    assert any(line.startswith("tiny: in 100 % of") for line in sentences(found))


def test_interference_by_hand():
    losses = [float(i + 2) for i in range(16)]
    alone = {CANDIDATES[0].id: 1.5, CANDIDATES[7].id: 6.5, CANDIDATES[8].id: 10.0}
    tiny, base = assess(table(losses), CertificateLosses(alone=alone)).sub_spaces
    assert tiny.interference.mean == pytest.approx((0.5 + 2.5) / 2)
    assert tiny.interference.relative == pytest.approx(1.5 / 4)
    assert (tiny.interference.worst, tiny.interference.worst_id) == (2.5, CANDIDATES[7].id)
    assert base.interference.mean == 0


def test_agreeing_ranks_are_trusted_and_reversed_ones_are_not():
    losses = ordered_losses()
    best = CANDIDATES[-1].id
    same = assess(table(losses), measured_like(losses), best)
    assert level(same) == "good"
    assert same.pooled.tau == pytest.approx(1)
    assert verdict(same).startswith("Trust the pick within base")
    assert "by nothing but FLOPs (tau 1.00) agrees as well" in verdict(same)
    reverse = CertificateLosses(alone={key: -value for key, value in measured_like(losses).alone.items()})
    assert level(assess(table(losses), reverse, best)) == "poor"


def test_a_perfect_tau_of_three_students_may_be_chance():
    losses = ordered_losses()
    alone = {student: losses[8 + i] for i, student in enumerate(ids(BASE)[:3])}
    found = assess(table(losses), CertificateLosses(alone=alone), CANDIDATES[-1].id)
    assert found.of("base").agreement.tau == pytest.approx(1)
    assert level(found) == "fair"
    assert "n = 3, p = 0.33: may be chance" in verdict(found)


def test_students_that_training_alone_spoils_are_named():
    losses = ordered_losses()
    measured = measured_like(losses, start={c.id: 9.0 for c in CANDIDATES[:-1]} | {CANDIDATES[-1].id: 0.0})
    tiny, base = (found := assess(table(losses), measured, CANDIDATES[-1].id)).sub_spaces
    assert tiny.spoiled_alone == ()
    assert base.spoiled_alone == (CANDIDATES[-1].id,)
    assert f"Training alone left {CANDIDATES[-1].id} worse than before it began" in " ".join(sentences(found))


def test_ranks_before_training_are_a_baseline():
    losses = ordered_losses()
    backwards = {c.id: -loss for c, loss in zip(CANDIDATES, losses, strict=True)}
    found = assess(table(losses), measured_like(losses, start=backwards), CANDIDATES[-1].id)
    assert found.of("base").untrained.tau == pytest.approx(-1)
    assert "loss before any training" not in verdict(found)
    same = assess(table(losses), measured_like(losses, start={k: -v for k, v in backwards.items()}), CANDIDATES[-1].id)
    assert "loss before any training (tau 1.00)" in verdict(same)


def test_rivals_are_feasible_students_of_the_sub_space_within_the_margin():
    losses = [9.0] * 8 + [1.0, 1.1, 1.2, 1.25, 2.0, 3.0, 4.0, 5.0]
    alone = dict(zip(ids(BASE), [2.0, 1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], strict=True))  # the first two are swapped
    found = assess(table(losses), CertificateLosses(alone=alone), ids(BASE)[0])
    assert found.margin == pytest.approx(0.1)
    assert found.rivals == 1
    over_budget = table(losses).assign(feasible=[c.id != ids(BASE)[1] for c in CANDIDATES])
    assert assess(over_budget, CertificateLosses(alone=alone), ids(BASE)[0]).rivals == 0


def test_a_spoiled_largest_student_is_said():
    losses = ordered_losses()
    losses[-1] = losses[0]
    words = " ".join(sentences(assess(table(losses), CertificateLosses())))
    assert "spoiled by sharing" in words
    assert f"{CANDIDATES[-1].id} is worst: " in words
    assert "no student is better than its largest" in words


def test_losses_measured_beside_the_search_count():
    losses = ordered_losses()
    largest = CANDIDATES[-1].id
    unscored = table([*losses[:-1], math.nan])
    assert assess(unscored, CertificateLosses()).of("base").monotonicity.largest_excess is None
    found = assess(unscored, CertificateLosses(in_superlm={largest: losses[-1]})).of("base")
    assert found.monotonicity.largest_excess == 0
    assert found.monotonicity.scored == 8


def test_k_against_one_by_hand():
    losses = ordered_losses()
    in_one = {c.id: loss + 0.5 for c, loss in zip(CANDIDATES, losses, strict=True)}
    a_step = {"tiny": 4.0, "base": 4.0, "": 4.0}
    one = assess(table(losses), measured_like(losses, in_one=in_one, students_a_step=a_step)).one
    assert one.n == 16
    assert one.mean_difference == pytest.approx(0.5)
    assert one.in_k.tau == pytest.approx(1)
    assert one.in_one.tau == pytest.approx(1)
    assert one.compute == pytest.approx(0.5)
    assert assess(table(losses), measured_like(losses)).one is None


def test_task_scores_come_from_the_candidates_or_from_outside():
    losses = ordered_losses()
    scored = table(losses, score=[-loss for loss in losses])
    assert assess(scored, CertificateLosses()).task.tau == pytest.approx(1)
    given_scores = CertificateLosses(task_scores={CANDIDATES[0].id: 0.9, CANDIDATES[-1].id: 0.1})
    found = assess(table(losses), given_scores)
    assert (found.task.tau, found.task.n) == (pytest.approx(-1), 2)
    assert "Held-out loss against task score: Kendall tau -1.00, n = 2" in " ".join(sentences(found))


def test_a_diverged_student_is_left_out():
    losses = ordered_losses()
    alone = {**measured_like(losses).alone, CANDIDATES[0].id: math.nan}
    found = assess(table([*losses[:1], math.inf, *losses[2:]]), CertificateLosses(alone=alone))
    assert found.of("tiny").agreement.n == 6
    assert all(math.isfinite(trial.interference) for trial in found.trials)


def test_no_students_no_pick():
    found = assess(table(ordered_losses()).iloc[:0], CertificateLosses(), "nobody")
    assert found.sub_spaces == ()
    assert verdict(found) == "There is no pick to trust."


# ---- certificate.json


finite = st.floats(allow_nan=False, allow_infinity=False)
losses_by_id = st.dictionaries(st.text(max_size=8), finite, max_size=4)


@given(losses_by_id, losses_by_id, losses_by_id, st.floats(0, 1e12))
def test_what_was_measured_survives_json(alone, in_one, scores, tokens):
    measured = CertificateLosses(alone=alone, in_one=in_one, task_scores=scores, tokens=tokens)
    assert CertificateLosses.from_dict(json.loads(json.dumps(measured.to_dict(), allow_nan=False))) == measured


def test_a_diverged_loss_survives_json(tmp_path):
    path = write_measured(tmp_path / "certificate.json", CertificateLosses(alone={"a": math.inf}), {"p": math.nan})
    assert json.loads(path.read_text())["findings"] == {"p": None}
    assert math.isnan(read_measured(path).alone["a"])


def test_findings_stand_in_the_file_as_plain_values(tmp_path):
    losses = ordered_losses()
    measured = measured_like(losses)
    found = assess(table(losses), measured, CANDIDATES[-1].id)
    path = write_measured(tmp_path / "certificate.json", measured, found.to_dict())
    content = json.loads(path.read_text())
    assert content["findings"]["pooled"]["tau"] == pytest.approx(1)
    assert read_measured(path) == measured


def test_nothing_is_known_where_there_is_no_file(tmp_path):
    assert read_measured(tmp_path / "certificate.json") == CertificateLosses()


def test_merging_adds_to_tables_and_keeps_the_rest():
    measured = CertificateLosses(alone={"a": 1.0}, tokens=5.0).merged(alone={"b": 2.0})
    assert measured == CertificateLosses(alone={"a": 1.0, "b": 2.0}, tokens=5.0)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"measured": 3}',
        '{"measured": {"alone": [1]}}',
        '{"measured": {"alone": {"a": "1"}}}',
        '{"measured": {"alone": {"a": NaN}}}',
        '{"measured": {"tokens": true}}',
        '{"measured": {"unknown": {}}}',
        "[" * 100_000,
        "\ud800",
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path, content):
    path = tmp_path / "certificate.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(RunError, match=r"certificate\.json' is damaged .*remove it.*autodistil certify") as caught:
        read_measured(path)
    assert "\n" not in str(caught.value)


def test_a_pick_by_a_task_says_so():
    losses = ordered_losses()
    best = CANDIDATES[-1].id
    scored = table(losses).assign(score=[-loss for loss in losses])
    found = assess(scored, CertificateLosses(task="stsb"), best)
    assert found.by_task
    assert "chosen by its score on stsb" in verdict(found)
    assert "chosen by its score" not in verdict(assess(table(losses), CertificateLosses(task="stsb"), best))
