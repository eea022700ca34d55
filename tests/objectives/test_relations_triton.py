"""The Triton kernels equal float64 autograd, padding included: under Triton's interpreter here, and on a GPU."""

import importlib
import os
import sys

import pytest
import torch

from autodistil.objectives.relation_kl import relation_kl, relation_kl_autograd
from autodistil.objectives.relations import split_relation_heads

pytest.importorskip(
    "triton", reason="Triton is not installed; it comes with torch's CUDA builds, or: pip install triton"
)


@pytest.fixture
def interpreted():
    """The kernels, run on the CPU; conftest.py asks for that where there is no GPU."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("there is a GPU: the kernels run on it")
    return importlib.import_module("autodistil.objectives.relations_triton").relation_kl_triton


def case(batch, heads, seq, d_student, d_teacher, padded, device="cpu", dtype=torch.float32):
    generator = torch.Generator().manual_seed(seq)
    student = torch.randn(batch, heads, seq, d_student, generator=generator)
    teacher = torch.randn(batch, heads, seq, d_teacher, generator=generator)
    mask = torch.arange(seq)[None] < torch.randint(1, seq + 1, (batch, 1), generator=generator) if padded else None
    return student.to(device, dtype), teacher.to(device, dtype), None if mask is None else mask.to(device)


def check(kernel, student, teacher, mask, tolerance):
    exact = student.double().requires_grad_()
    expected = relation_kl_autograd(exact, teacher.double(), mask)
    expected.backward()
    ours = student.clone().requires_grad_()
    loss = kernel(ours, teacher, mask)
    (3 * loss).backward()
    assert abs(loss.item() - expected.item()) <= tolerance * expected.item()
    difference = (ours.grad.double() / 3 - exact.grad).abs().max()
    assert difference <= tolerance * exact.grad.abs().max()


SHAPES = [
    (2, 3, 70, 16, 16, True),
    (2, 3, 70, 16, 16, False),
    (1, 2, 64, 24, 32, False),
    (3, 1, 129, 8, 40, True),
    (2, 2, 5, 3, 3, True),
    (1, 1, 1, 4, 4, False),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_interpreted_kernels_equal_float64_autograd(interpreted, shape):
    check(interpreted, *case(*shape), tolerance=5e-6)


def test_relation_heads_are_taken_as_views(interpreted):
    """Split heads are not contiguous; the kernel reads them where they are, and their gradient comes back whole."""
    student, teacher, mask = case(2, 4, 20, 6, 6, True)
    heads = split_relation_heads(student, 8)
    assert not heads.is_contiguous()
    check(interpreted, heads, split_relation_heads(teacher, 8), mask, tolerance=5e-6)


def test_large_scores_do_not_overflow(interpreted):
    student, teacher, mask = case(1, 2, 40, 16, 16, True)
    check(interpreted, 30 * student, 30 * teacher, mask, tolerance=5e-5)


def test_holes_in_a_mask(interpreted):
    """A mask need not be a prefix, and whole blocks of columns may be padding."""
    student, teacher, _ = case(1, 2, 150, 8, 8, False)
    mask = torch.zeros(1, 150, dtype=torch.bool)
    mask[0, 70:148:3] = True
    check(interpreted, student, teacher, mask, tolerance=5e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [*SHAPES, (4, 12, 512, 32, 32, True), (2, 48, 300, 16, 16, True)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_on_a_gpu_the_loss_is_the_kernel(shape, dtype, tolerance):
    check(relation_kl, *case(*shape, device="cuda", dtype=dtype), tolerance=tolerance)
    assert "autodistil.objectives.relations_triton" in sys.modules


@pytest.mark.gpu
def test_on_a_gpu_memory_is_linear_in_the_length():
    peaks = []
    for seq in (1024, 2048):
        student, teacher, _ = case(1, 12, seq, 32, 32, False, device="cuda")
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        relation_kl(student.requires_grad_(), teacher).backward()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < 2.5 * peaks[0]
