"""The closed-form gradient of relations equals float64 autograd, in memory that is linear in the length."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from autodistil.models.attention import AttentionStates, ModelStates
from autodistil.objectives import relation_kl as module
from autodistil.objectives.relation_kl import KeptRelations, relation_kl, relation_kl_autograd, texts
from autodistil.objectives.relations import relation_head_pair, relation_scores, split_relation_heads
from autodistil.objectives.term import TermOptions


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
        patch.setattr(module, "_CHUNK_ENTRIES", {"cpu": chunk})
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
            patch.setattr(module, "_CHUNK_ENTRIES", {"cpu": 1 << 12})
            relation_kl(student.requires_grad_(), teacher, mask).backward()
        most[seq] = max(seen.made)
        assert sum(saved) <= student.numel()
        assert most[seq] < seq * seq / 16
    assert most[1024] <= 2 * most[512]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_losses_of_long_texts_are_those_of_whole_relations(padded, causal, monkeypatch):
    """Some rows at a time, and no matrix of seq x seq."""
    parts = [random_case(7, 3, 2, 256, 4, 8, padded)] * 3
    mask = parts[0][2]
    mask = None if mask is None else mask.sort(dim=1, descending=True).values  # padding is behind a text
    ours, theirs = (ModelStates(AttentionStates(*(part[i] for part in parts))) for i in range(2))
    options = TermOptions(2, causal=causal)
    whole = texts([(ours, theirs, mask)], options)
    monkeypatch.setattr(module, "_WHOLE_ENTRIES", 0)
    monkeypatch.setattr(module, "_CHUNK_ENTRIES", {"cpu": 1 << 12})
    seen = Sizes()
    with seen:
        by_rows = texts([(ours, theirs, mask)], options)
    torch.testing.assert_close(by_rows, whole, rtol=1e-5, atol=1e-6)
    assert max(seen.made) < 256 * 256


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


def test_relation_heads_keep_every_dimension():
    states = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    split = split_relation_heads(states, 5)
    assert split.shape == (2, 5, 4, 3)
    assert torch.equal(split.flatten(1).sort().values, states.flatten(1).sort().values)


@settings(max_examples=30, deadline=None)
@given(
    relation_heads=st.sampled_from([1, 2, 4, 8]),
    student_heads=st.integers(1, 4),
    more=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_a_relation_head_of_a_slice_is_a_share_of_the_teachers(relation_heads, student_heads, more, seed):
    """So that students of all widths are taught the same relations by the rows that they share."""
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(2, student_heads + more, 3, 8, generator=generator)
    student = teacher[:, :student_heads]
    ours, theirs = relation_head_pair(student, teacher, relation_heads)
    scale = ((student_heads + more) / student_heads) ** 0.25
    torch.testing.assert_close(ours, scale * theirs[..., : ours.shape[-1]])


def test_scores_of_a_share_of_the_dimensions_are_those_of_all_where_the_others_repeat_them():
    student = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    scores = map(relation_scores, relation_head_pair(student, student.repeat(1, 4, 1, 1), 8))
    torch.testing.assert_close(*scores)
