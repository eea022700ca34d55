"""The contract of terms: equal states cost nothing, padding is not read, gradients arrive, texts make up the batch."""

import math
from dataclasses import replace
from itertools import chain

import pytest
import torch
from autodistil_helpers import objective_of, random_teacher, small_space, states_of
from torch.nn.functional import cross_entropy, normalize

from autodistil.data.batch import PADDING, TokenInputs, real_tokens
from autodistil.models.superlm import SuperLM
from autodistil.objectives import TERMS, cooperative_mask, mi_alpha, relation_kl

PLAIN = [name for name, term in TERMS.items() if not term.output_teacher]
"""Terms that two models are enough for; of an output teacher: test_output_cosine.py."""
MASK = torch.tensor([[True] * 9, [True] * 5 + [False] * 4, [True] * 9])


def random_parts(size=6, batch=3, seq=9, seed=0):
    """Queries, keys and values of one layer with four heads."""
    return list(torch.randn(3, batch, 4, seq, size, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("name", sorted(set(PLAIN) - {"next-token", "exits", "mi-alpha"}))  # of other text or layers
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
def test_a_term_vanishes_on_identical_states_and_not_on_others(name, mask):
    parts, noise = random_parts(), random_parts(seed=1)
    others = [part + more for part, more in zip(parts, noise, strict=True)]
    objective = objective_of(name, 8)
    assert objective(states_of(parts), states_of(parts), mask).abs() < 1e-6
    assert objective(states_of(others), states_of(parts), mask) > 1e-3


@pytest.mark.parametrize("name", PLAIN)
def test_padding_does_not_change_a_term(name):
    """A padded batch of one sequence costs what the sequence alone does."""
    student, teacher = random_parts(6, 1, 5), random_parts(8, 1, 5, seed=1)
    generator = torch.Generator().manual_seed(0)
    pad = [torch.cat([x, 9 * torch.randn(1, 4, 4, x.shape[-1], generator=generator)], 2) for x in (*student, *teacher)]
    mask = torch.tensor([[True] * 5 + [False] * 4])
    objective = objective_of(name, 4)
    alone = objective(states_of(student), states_of(teacher))
    assert torch.isfinite(alone)
    padded = objective(states_of(pad[:3]), states_of(pad[3:]), mask)
    torch.testing.assert_close(alone, padded, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(PLAIN) - {"embedding-similarity", "matryoshka", "mi-alpha"}))  # of a batch
def test_a_batch_costs_the_mean_of_its_sequences(name):
    student, teacher = random_parts(), random_parts(seed=1)
    objective = objective_of(name, 8)
    single = [
        objective(states_of([x[i : i + 1] for x in student]), states_of([x[i : i + 1] for x in teacher]))
        for i in range(3)
    ]
    torch.testing.assert_close(objective(states_of(student), states_of(teacher)), torch.stack(single).mean())


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
def test_gradients_reach_the_student_at_real_tokens(name, mask):
    parts = [part.requires_grad_() for part in random_parts()]
    objective_of(name)(states_of(parts), states_of(random_parts(8, seed=1)), mask).backward()
    gradients = [part.grad for part in parts if part.grad is not None]
    read = (
        1 if name == "upper-hidden" else {"attention": 3, "output": 1, "hidden": 2}[TERMS[name].needs]
    )  # `states_of` makes layers of values and queries
    assert len(gradients) == read
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert gradient.abs().sum((1, 3))[MASK].count_nonzero() >= MASK.sum() - len(
            MASK
        )  # nothing follows a last token
        assert mask is None or not gradient.abs().sum((1, 3))[~mask].any()


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", [*PLAIN, "relation-kl+embedding-similarity+10*last-hidden"])
@torch.no_grad()
def test_texts_average_to_the_batch(name, padded, kept, monkeypatch):
    if not kept:
        monkeypatch.setattr(relation_kl, "_WHOLE_ENTRIES", 0)
    objective = objective_of(name)
    teacher = random_teacher("llama" if objective.needs_head else "bert")
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    ids = torch.randint(3, 97, (5, 12), generator=torch.Generator().manual_seed(0)).numpy()
    if padded:
        for row, size in enumerate((12, 7, 3, 9, 12)):
            ids[row, size:] = PADDING
    batch = TokenInputs(0).batch(ids)
    theirs, mask = teacher.states(batch, None, True, True).for_many(), real_tokens(batch)
    for student in (superlm.sub_space.smallest, superlm.sub_space.students[3]):
        ours = superlm.forward(student, batch, output=True, hidden=True)
        single = objective.text_losses([(ours, theirs, mask)])
        assert single.shape == (5,)
        torch.testing.assert_close(single.mean(), objective(ours, theirs, mask), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["embedding-similarity", "mi-alpha"])
def test_a_text_alone_resembles_no_other(name):
    student, teacher = (
        states_of([x.requires_grad_() for x in random_parts(batch=1)]),
        states_of(random_parts(8, batch=1)),
    )
    objective = objective_of(name)
    assert objective(student, teacher) == objective.text_losses([(student, teacher, None)]) == 0
    objective(student, teacher).backward()


def test_minilm_is_version_one_where_heads_agree():
    """With as many relation heads as heads, the attention term is the KL of the attention distributions themselves."""
    generator = torch.Generator().manual_seed(0)
    student = [torch.randn(1, 2, 3, 4, generator=generator) for _ in range(3)]
    teacher = [torch.randn(1, 2, 3, 4, generator=generator) for _ in range(3)]

    def attention(q, k):
        return torch.softmax(q @ k.transpose(-1, -2) / 2.0, -1)

    p, q = attention(*teacher[:2]), attention(*student[:2])
    expected = (p * (p / q).log()).sum(-1).mean() + relation_kl.relation_kl(student[2], teacher[2])
    torch.testing.assert_close(objective_of("minilm", 2)(states_of(student), states_of(teacher)), expected)


def similarity_by_hand(ours, theirs):
    """The KL of softmaxed cosines, texts one by one."""
    total = 0.0
    for i in range(len(ours)):
        p, q = (
            torch.softmax(
                torch.stack([torch.cosine_similarity(e[i], e[j], 0) for j in range(len(e)) if j != i]) / 0.05, -1
            )
            for e in (theirs.double(), ours.double())
        )
        total += float((p * (p / q).log()).sum()) / len(ours)
    return total


def pair_of(seed=0):
    """A student's states, 10 wide, and a teacher's, 16 wide, of four texts; and their embeddings."""
    generator = torch.Generator().manual_seed(seed)
    states = [states_of([torch.randn(4, 2, 3, size, generator=generator)] * 3) for size in (5, 8)]
    return *states, *(one.output.mean(1) for one in states)


def test_embedding_similarity_by_hand():
    student, teacher, ours, theirs = pair_of()
    assert float(objective_of("embedding-similarity")(student, teacher)) == pytest.approx(
        similarity_by_hand(ours, theirs), rel=1e-4
    )


def bound_by_hand(ours, theirs, alpha):
    """I_alpha of Poole et al., expectation by expectation, the critic a cosine over 0.05."""
    n, width = ours.shape
    critic = [[float(torch.cosine_similarity(x, y[:width], 0)) / 0.05 for x in ours.double()] for y in theirs.double()]
    joint, marginal = 0.0, 0.0
    for i, row in enumerate(critic):
        mean = sum(math.exp(f) for f in row) / n
        joint += math.log(math.exp(row[i]) / (alpha * mean + 1 - alpha)) / n
        others = [math.exp(f) for k, f in enumerate(row) if k != i]
        mean = sum(others) / len(others)
        marginal += sum(one / (alpha * mean + 1 - alpha) for one in others) / len(others) / n
    return 1 + joint - marginal


def test_mi_alpha_by_hand(monkeypatch):
    student, teacher, ours, theirs = pair_of()
    expected = bound_by_hand(ours, theirs, 0.9)
    assert float(objective_of("mi-alpha")(student, teacher)) == pytest.approx(-expected, rel=1e-4)
    assert bound_by_hand(ours, ours, 0.9) > expected
    monkeypatch.setattr(mi_alpha, "ALPHA", 1 - 1e-12)  # InfoNCE: log n less the cross-entropy of who is who
    critic = normalize(theirs[:, :10], dim=-1) @ normalize(ours, dim=-1).T / 0.05
    infonce = math.log(4) - cross_entropy(critic, torch.arange(4))
    assert float(objective_of("mi-alpha")(student, teacher)) == pytest.approx(-float(infonce), rel=1e-4)


def test_matryoshka_by_hand():
    """The teacher's whole embeddings beside the student's leading dimensions; of a narrower student all it has."""
    student, teacher, ours, theirs = pair_of()
    objective = objective_of("matryoshka", cuts=(64, 7, 2))
    expected = [similarity_by_hand(ours[:, :cut], theirs) for cut in (10, 7, 2)]
    assert float(objective(student, teacher)) == pytest.approx(sum(expected) / 3, rel=1e-4)


def test_exits_by_hand():
    """Weights 1/3 and 2/3 of two layers; of an output teacher the head maps every layer."""
    student, teacher, _, theirs = pair_of()
    means = [layer.mean(1) for layer in student.hidden]
    expected = [float(1 - torch.cosine_similarity(mean, theirs[:, :10], dim=-1).mean()) for mean in means]
    found = objective_of("exits")(student, teacher)
    assert float(found) == pytest.approx((expected[0] + 2 * expected[1]) / 3, rel=1e-4)
    generator = torch.Generator().manual_seed(3)
    head, targets = torch.randn(6, 10, generator=generator), torch.randn(4, 6, generator=generator)
    student, teacher = replace(student, output_head=head), replace(teacher, targets=targets)
    expected = [float(1 - torch.cosine_similarity(mean @ head.T, targets, dim=-1).mean()) for mean in means]
    found = objective_of("exits")(student, teacher)
    assert float(found) == pytest.approx((expected[0] + 2 * expected[1]) / 3, rel=1e-4)


def test_terms_of_outputs_are_in_the_space_of_the_output_teacher():
    student, teacher, ours, _ = pair_of()
    generator = torch.Generator().manual_seed(3)
    head, targets = torch.randn(6, 10, generator=generator), torch.randn(4, 6, generator=generator)
    student, teacher = replace(student, output_head=head), replace(teacher, targets=targets)
    mapped = ours @ head.T
    found = objective_of("output-similarity")(student, teacher)
    assert float(found) == pytest.approx(similarity_by_hand(mapped, targets), rel=1e-4)
    found = objective_of("matryoshka", cuts=(5, 3))(student, teacher)
    expected = [similarity_by_hand(mapped[:, :cut], targets) for cut in (5, 3)]
    assert float(found) == pytest.approx(sum(expected) / 2, rel=1e-4)


def cosines_by_hand(tokens):
    return [[float(torch.cosine_similarity(a, b, 0)) for b in tokens.double()] for a in tokens.double()]


def test_token_gram_by_hand():
    student, teacher, _, _ = pair_of()
    expected = 0.0
    for ours, theirs in zip(student.output, teacher.output, strict=True):
        pairs = zip(*(chain.from_iterable(cosines_by_hand(one)) for one in (ours, theirs)), strict=True)
        expected += sum((a - b) ** 2 for a, b in pairs) / len(ours) ** 2 / 4
    assert float(objective_of("token-gram")(student, teacher)) == pytest.approx(expected, rel=1e-4)


def test_token_ranking_by_hand():
    """Three tokens: strides 1 and 2, so of each token its three pairs of neighbours."""
    student, teacher, _, _ = pair_of()
    expected = 0.0
    for ours, theirs in zip(student.output, teacher.output, strict=True):
        for mine, its in zip(cosines_by_hand(ours), cosines_by_hand(theirs), strict=True):
            order = sorted(range(3), key=lambda k: -its[k])
            wrong = [max(0.0, mine[order[j]] - mine[order[i]]) for i, j in ((0, 1), (1, 2), (0, 2))]
            expected += sum(wrong) / 3 / 3 / 4
    assert float(objective_of("token-ranking")(student, teacher)) == pytest.approx(expected, rel=1e-4)
    same_order = replace(teacher, output=torch.cat([teacher.output, teacher.output], -1))
    assert objective_of("token-ranking")(same_order, teacher) < 1e-6


def test_channel_kl_by_hand():
    student, teacher, _, _ = pair_of()
    expected = 0.0
    for text in range(4):
        places = []
        for one in (student, teacher):
            states = one.output[text, :, :10].double()
            states = states / states.square().mean(-1, keepdim=True).sqrt()
            places.append([states[:, channel].exp() / states[:, channel].exp().sum() for channel in range(10)])
        expected += sum(float((p * (p / q).log()).sum()) for q, p in zip(*places, strict=True)) / 10 / 4
    assert float(objective_of("channel-kl")(student, teacher)) == pytest.approx(expected, rel=1e-4)


def test_cooperative_mask_by_hand():
    student, teacher, _, _ = pair_of()
    expected = 0.0
    for text in range(4):
        ours, theirs = (normalize(one.output[text, :, :10].double(), dim=-1) for one in (student, teacher))
        fused = []
        for token in theirs:
            attention = torch.softmax(torch.stack([token @ other for other in ours]) * 10**0.5, 0)
            fused.append(sum(share * other for share, other in zip(attention, ours, strict=True)) * 10**0.5)
        size = torch.stack(fused).abs()
        tokens, channels = torch.softmax(size.mean(1) / 0.5, 0), torch.softmax(size.mean(0) / 0.5, 0)
        for i in range(3):
            for k in range(10):
                expected += float(tokens[i] * channels[k] * (theirs[i, k] - ours[i, k]) ** 2) * 10 / 2 / 4
    assert float(objective_of("cooperative-mask")(student, teacher)) == pytest.approx(expected, rel=1e-4)


def test_cooperative_weights_learn_nothing():
    """They look at the student without a gradient: all of it goes through the differences."""
    student, teacher, _, _ = pair_of()
    states = student.output.clone().requires_grad_()
    objective_of("cooperative-mask")(replace(student, output=states), teacher).backward()
    ours, theirs = (normalize(one.output[..., :10], dim=-1) for one in (student, teacher))
    tokens, channels = cooperative_mask.weights(ours, theirs, None)
    fixed = student.output.clone().requires_grad_()
    squares = (theirs - normalize(fixed, dim=-1)).square()
    ((squares * tokens[..., None] * channels[:, None]).sum((1, 2)).mean() * 5).backward()
    torch.testing.assert_close(states.grad, fixed.grad)
