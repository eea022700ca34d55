"""The closed-form gradient equals float64 autograd; padding changes nothing; equal states cost nothing."""

import pytest
import torch
from autodistil_helpers import objective_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from autodistil.errors import ConfigError
from autodistil.models.attention import AttentionStates, ModelStates
from autodistil.objectives import relations
from autodistil.objectives.objective import OBJECTIVES, choose_relation_heads, resolve_objective
from autodistil.objectives.relations import KeptRelations, relation_kl, relation_kl_autograd, split_relation_heads


def random_case(seed, batch, heads, seq, d_student, d_teacher, padded):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(batch, heads, seq, d_student, generator=generator)
    teacher = torch.randn(batch, heads, seq, d_teacher, generator=generator)
    mask = None
    if padded:
        lengths = torch.randint(1, seq + 1, (batch, 1), generator=generator)
        mask = torch.arange(seq)[None, :] < lengths
    return student, teacher, mask


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 1000),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 17),
    st.integers(1, 9),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 50, 1 << 20]),
)
def test_closed_form_equals_float64_autograd(seed, batch, heads, seq, d_student, d_teacher, padded, causal, chunk):
    student, teacher, mask = random_case(seed, batch, heads, seq, d_student, d_teacher, padded)
    exact = student.double().requires_grad_()
    expected = relation_kl_autograd(exact, teacher.double(), mask, causal)
    expected.backward()
    ours = student.clone().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relations, "_CHUNK_ENTRIES", {"cpu": chunk})
        loss = relation_kl(ours, teacher, mask, causal=causal)
    loss.backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=1e-3, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(
    st.integers(0, 1000),
    st.integers(1, 4),
    st.integers(1, 17),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 100, 1 << 20]),
)
def test_what_students_share_changes_no_number_and_has_a_bound(seed, batch, seq, padded, causal, room):
    kept = KeptRelations(room)
    _, teacher, mask = random_case(seed, batch, 2, seq, 4, 4, padded)
    for width in (3, 5, 7):
        student = random_case(seed, batch, 2, seq, width, 4, padded)[0].requires_grad_()
        apart, shared = (relation_kl(student, teacher, mask, store, causal) for store in (None, kept))
        assert torch.equal(apart, shared)
        gradients = [torch.autograd.grad(loss, student)[0] for loss in (apart, shared)]
        assert torch.equal(*gradients)
    entries = sum(relation.numel() for relation, _ in kept.chunks.values())
    assert entries == room - kept.room <= room


@pytest.mark.parametrize("padded", [False, True])
def test_no_matrix_of_seq_by_seq_is_kept_or_made(padded):
    """What is saved for backward, and every tensor made on the way, is linear in the length."""
    most = {}
    for seq in (512, 1024):
        student, teacher, mask = random_case(0, 1, 2, seq, 4, 4, padded)
        seen, saved = Sizes(), []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda x, to=saved: to.append(x.numel()) or x, lambda x: x)
        with hooks, seen, pytest.MonkeyPatch.context() as patch:
            patch.setattr(relations, "_CHUNK_ENTRIES", {"cpu": 1 << 12})
            relation_kl(student.requires_grad_(), teacher, mask).backward()
        most[seq] = max(seen.made)
        assert sum(saved) <= student.numel()
        assert most[seq] < seq * seq / 16
    assert most[1024] <= 2 * most[512]


class Sizes(TorchDispatchMode):
    """Entries of every tensor that is made."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.made += [x.untyped_storage().nbytes() // 4 for x in (result,) if isinstance(x, torch.Tensor)]
        return result


def test_padded_tokens_are_never_read():
    student, teacher, mask = random_case(3, 3, 2, 9, 4, 4, True)
    holes = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) < 0.7)
    holes[:, 0] = True
    holes[1] = False
    ours = student.masked_fill(~holes[:, None, :, None], torch.nan).requires_grad_()
    relation_kl(ours, teacher, holes).backward()
    exact = student.double().requires_grad_()
    relation_kl_autograd(exact, teacher.double(), holes).backward()
    torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=1e-3, atol=1e-6)


def states_of(tensors):
    """States whose hidden states are the joined values and queries, with a head for 11 tokens."""
    hidden = tuple(x.transpose(1, 2).flatten(2) for x in (tensors[2], tensors[0]))
    batch, seq, width = hidden[-1].shape
    head = torch.randn(11, width, generator=torch.Generator().manual_seed(width)) / 5
    tokens = (torch.arange(seq) * 5 % 11).expand(batch, seq)
    return ModelStates(AttentionStates(*tensors), hidden[-1], hidden, head, tokens)


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"next-token"}))  # which is about the text
@pytest.mark.parametrize("padded", [False, True])
def test_objectives_vanish_on_identical_states_and_not_on_others(name, padded):
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(3, 4, 9, 6, generator=generator) for _ in range(3)]
    others = [part + torch.randn(part.shape, generator=generator) for part in parts]
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 5:] = False
    objective = objective_of(name, 8)
    chosen = mask if padded else None
    assert objective(states_of(parts), states_of(parts), chosen).abs() < 1e-6
    assert objective(states_of(others), states_of(parts), chosen) > 1e-3


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_padding_does_not_change_an_objective(name):
    """A padded batch of one sequence costs what the sequence alone does."""
    generator = torch.Generator().manual_seed(0)
    student = [torch.randn(1, 4, 5, 6, generator=generator) for _ in range(3)]
    teacher = [torch.randn(1, 4, 5, 8, generator=generator) for _ in range(3)]
    pad = [torch.cat([x, 9 * torch.randn(1, 4, 4, x.shape[-1], generator=generator)], 2) for x in (*student, *teacher)]
    mask = torch.tensor([[True] * 5 + [False] * 4])
    objective = objective_of(name, 4)
    alone = objective(states_of(student), states_of(teacher))
    assert torch.isfinite(alone)
    padded = objective(states_of(pad[:3]), states_of(pad[3:]), mask)
    torch.testing.assert_close(alone, padded, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"embedding-similarity"}))  # which compares texts of a batch
def test_a_batch_costs_the_mean_of_its_sequences(name):
    generator = torch.Generator().manual_seed(0)
    student = [torch.randn(3, 4, 7, 6, generator=generator) for _ in range(3)]
    teacher = [torch.randn(3, 4, 7, 6, generator=generator) for _ in range(3)]
    objective = objective_of(name, 8)
    single = [
        objective(states_of([x[i : i + 1] for x in student]), states_of([x[i : i + 1] for x in teacher]))
        for i in range(3)
    ]
    torch.testing.assert_close(objective(states_of(student), states_of(teacher)), torch.stack(single).mean())


def test_relation_kl_of_minilmv2_by_hand():
    """Equation 4 of MiniLMv2 written out with loops."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(1, 2, 3, 4, generator=generator)
    teacher = torch.randn(1, 2, 3, 4, generator=generator)
    total = 0.0
    for head in range(2):
        for row in range(3):
            p = torch.softmax(teacher[0, head, row] @ teacher[0, head].T / 2.0, -1)
            q = torch.softmax(student[0, head, row] @ student[0, head].T / 2.0, -1)
            total += float((p * (p / q).log()).sum()) / (2 * 3)
    assert float(relation_kl(student, teacher)) == pytest.approx(total, rel=1e-5)


def test_minilm_is_version_one_where_heads_agree():
    """With as many relation heads as heads, the attention term is the KL of the attention distributions themselves."""
    generator = torch.Generator().manual_seed(0)
    student = [torch.randn(1, 2, 3, 4, generator=generator) for _ in range(3)]
    teacher = [torch.randn(1, 2, 3, 4, generator=generator) for _ in range(3)]

    def attention(q, k):
        return torch.softmax(q @ k.transpose(-1, -2) / 2.0, -1)

    p, q = attention(*teacher[:2]), attention(*student[:2])
    expected = (p * (p / q).log()).sum(-1).mean() + relation_kl(student[2], teacher[2])
    torch.testing.assert_close(objective_of("minilm", 2)(states_of(student), states_of(teacher)), expected)


def test_relation_heads_keep_every_dimension():
    states = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    split = split_relation_heads(states, 5)
    assert split.shape == (2, 5, 4, 3)
    assert torch.equal(split.transpose(1, 2).flatten(2), states.transpose(1, 2).flatten(2))


@given(st.integers(1, 12), st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(1, 64))
def test_chosen_relation_heads_divide_every_width(teacher_heads, student_heads, head_size):
    teacher_width, widths = teacher_heads * head_size, [heads * head_size for heads in student_heads]
    heads = resolve_objective("relation-kl", None, teacher_width, widths).options.relation_heads
    assert all(width % heads == 0 for width in (teacher_width, *widths))
    assert heads == 1 or teacher_width // heads >= 16


def test_relation_heads_of_base_models():
    assert choose_relation_heads(768, 768) == 48  # MiniLMv2
    assert resolve_objective("relation-kl", None, 384, [96, 128, 384]).options.relation_heads == 16


@pytest.mark.parametrize(
    ("name", "heads", "expected"), [("relation-kl", 7, "allowed here: 1, 2"), ("relation", None, "relation-")]
)
def test_wrong_objectives_are_refused(name, heads, expected):
    with pytest.raises(ConfigError, match=expected):
        resolve_objective(name, heads, 64, [32, 64])


def test_a_weighted_sum_is_the_sum_of_its_terms():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (states_of(torch.randn(3, 3, 4, 7, 6, generator=generator).unbind()) for _ in range(2))
    whole = objective_of("relation-kl + 2*embedding-similarity+.5 * last-hidden", 4)
    assert whole.name == "relation-kl+2*embedding-similarity+0.5*last-hidden"
    parts = [w * objective_of(name, 4)(student, teacher) for w, name in whole.terms]
    torch.testing.assert_close(whole(student, teacher), sum(parts))


def test_embedding_similarity_by_hand():
    """Equal to the KL of softmaxed cosines, texts one by one; the student's width does not matter."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(4, 2, 3, 5, generator=generator)
    teacher = torch.randn(4, 2, 3, 8, generator=generator)
    ours, theirs = (states_of([x, x, x]).output.mean(1) for x in (student, teacher))
    total = 0.0
    for i in range(4):
        p, q = (
            torch.softmax(torch.stack([torch.cosine_similarity(e[i], e[j], 0) for j in range(4) if j != i]) / 0.05, -1)
            for e in (theirs, ours)
        )
        total += float((p * (p / q).log()).sum()) / 4
    loss = objective_of("embedding-similarity")(states_of([student] * 3), states_of([teacher] * 3))
    assert float(loss) == pytest.approx(total, rel=1e-4)


def test_objectives_say_what_they_need():
    assert not objective_of("relation-kl").needs_output
    assert objective_of("embedding-cosine").needs_output
    assert not objective_of("last-hidden").needs_hidden
    assert objective_of("relation-kl+hidden").needs_hidden


def test_auto_adds_the_output_for_sentence_encoders():
    assert not resolve_objective("auto", None, 64, [32]).needs_output
    embedding = resolve_objective("auto", None, 64, [32], "cls")
    assert embedding.needs_output
    assert embedding.options.pooling == "cls"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2*hiden", "did you mean 'hidden'"),
        ("0*hidden", "above 0"),
        ("hidden+2*hidden", "twice"),
        ("x*hidden", "no number"),
        ("", "unknown"),
    ],
)
def test_wrong_sums_are_refused(text, expected):
    with pytest.raises(ConfigError, match=expected):
        resolve_objective(text, None, 64, [32])
