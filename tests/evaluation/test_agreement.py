"""Representational similarity: what it may depend on, counted independently, and what is said of a spoiled student."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from autodistil_helpers import objective_of, random_teacher, small_space

from autodistil.data.batch import PADDING
from autodistil.evaluation.agreement import Agreement, rsa, rsa_between, rsa_of
from autodistil.evaluation.heldout import HeldOut, HeldOutScorer
from autodistil.models.pooling import mean_pooling
from autodistil.models.superlm import SuperLM
from autodistil.objectives import TERMS
from autodistil.objectives.next_token import NAME as NEXT_TOKEN
from autodistil.space.space import OneStudent


@pytest.fixture
def embeddings():
    return np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)


def test_it_is_the_rank_correlation_of_the_cosines_of_all_pairs(embeddings):
    other = embeddings[:, :5] + 0.5

    def cosines(rows):
        pairs = combinations(rows.astype(float), 2)
        return pd.Series([a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in pairs]).rank()

    assert rsa(embeddings, other) == pytest.approx(cosines(embeddings).corr(cosines(other)))


def test_it_does_not_depend_on_width_rotation_or_length(embeddings):
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    wider = np.concatenate([3 * embeddings @ turned, np.zeros((12, 100))], axis=1)
    assert rsa(wider, embeddings) == pytest.approx(1)
    assert rsa(embeddings, embeddings) == 1


def test_embeddings_that_tell_no_texts_apart_agree_with_nothing(embeddings):
    assert rsa(np.ones((12, 3)), embeddings) == 0


def test_its_standard_error_is_about_the_spread_over_other_texts():
    """Of 40 samples of 64 texts the spread, beside the jackknife's from each alone."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(40):
        theirs = random.normal(size=(64, 8))
        found.append(rsa_between(theirs + 0.7 * random.normal(size=theirs.shape), theirs))
    spread = np.std([one.value for one in found], ddof=1)
    assert np.mean([one.error for one in found]) == pytest.approx(spread, rel=0.4)


@pytest.mark.parametrize(("texts", "known"), [(3, False), (5, False), (6, True), (40, True)])
def test_so_few_texts_have_no_standard_error(texts, known):
    random = np.random.default_rng(0)
    found = rsa_between(random.normal(size=(texts, 4)), random.normal(size=(texts, 4)))
    assert np.isfinite(found.value)
    assert np.isfinite(found.error) == known


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Agreement(1.0, 2.0, 0.9, 0.8), None),
        (Agreement(1.0, 2.0), None),
        (Agreement(1.0, 1.000001, 0.9, 0.900001), None),  # the same to the digits that are shown
        (Agreement(1.0, 2.0, 0.8, 0.9), "RSA 0.8000 instead of 0.9000"),
        (Agreement(2.0, 1.0, 0.9, 0.8), "loss 2.0000 instead of 1.0000"),
        (Agreement(2.0, 1.0), "loss 2.0000 instead of 1.0000"),
    ],
)
def test_a_student_worse_than_its_slice_is_called_that(found, words):
    if words is None:
        assert found.warning is None
    else:
        assert "worse than the untrained slice of the teacher" in found.warning
        assert words in found.warning


def test_what_was_not_compared_is_not_told():
    assert Agreement(1.0, 2.0).words == "loss 1.0000 (untrained slice 2.0000)"
    assert Agreement(1.0, 2.0, 0.9, 0.8).words.startswith("RSA 0.9000 (untrained slice 0.8000), loss")
    known = Agreement(1.0, 2.0, 0.9, 0.8, 64, 0.012, 3, 0.7)
    assert known.words.startswith("RSA 0.9000 ± 0.0120 (untrained slice 0.8000, teacher cut to 3 layers 0.7000), loss")


def test_a_student_of_a_superlm_is_compared_by_its_pooled_outputs_whatever_its_width():
    teacher, texts = random_teacher(), np.random.default_rng(0).integers(3, 97, (7, 12))
    texts[1, 5:] = PADDING
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    heldout = HeldOut.build(teacher, texts, objective_of("last-hidden"))
    whole = SuperLM.from_teacher(teacher, OneStudent("whole", teacher.dims))
    smallest = superlm.sub_space.smallest
    same = rsa_of(heldout, heldout.forward_of(whole, teacher.dims))
    narrow = rsa_of(heldout, heldout.forward_of(superlm, smallest))
    assert same == (pytest.approx(1), pytest.approx(0, abs=1e-6))
    batch = teacher.inputs.batch(texts)
    with torch.no_grad():
        states = superlm.forward(smallest, batch, output=True), teacher.states(batch, output=True)
    ours, theirs = (mean_pooling(one.output, batch["attention_mask"]).numpy() for one in states)
    order = np.concatenate(heldout.rows)
    assert narrow.value == pytest.approx(rsa(ours[order], theirs[order]), abs=1e-6)
    assert ours.shape[1] < theirs.shape[1]


@pytest.mark.parametrize("name", [name for name, term in TERMS.items() if not term.output_teacher])
def test_the_teachers_loss_against_itself_is_0_but_for_what_comes_next(name):
    objective = objective_of(name)
    teacher = random_teacher("llama" if objective.needs_head else "bert")
    texts = np.random.default_rng(0).integers(3, 97, (4, 12))
    scorer = HeldOutScorer(lambda size: HeldOut.build(teacher, texts, objective), None)
    if name == NEXT_TOKEN or TERMS[name].exits:  # its early layers are no embeddings of the last one's
        assert scorer.teacher_loss > (1 if name == NEXT_TOKEN else 1e-4)
    elif TERMS[name].contrastive:
        assert scorer.teacher_loss < 0  # the bound that it has on itself
    else:
        assert scorer.teacher_loss == pytest.approx(0, abs=1e-6)
