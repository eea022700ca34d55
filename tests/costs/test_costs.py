"""Closed forms equal fvcore and real parameter counts for every family; budgets are read strictly."""

from contextlib import suppress

import pytest
from autodistil_helpers import FAMILY_CONFIGS, random_teacher, small_space
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig

from autodistil.costs import Budget, EncoderShape, cost_table, flops, parameters, parse_budget, size_mb
from autodistil.costs.fvcore_check import count_flops
from autodistil.errors import BudgetError
from autodistil.spaces import Candidate, StudentConfig
from autodistil.superlm import SuperLM


@pytest.mark.parametrize("kind", sorted(FAMILY_CONFIGS))
def test_closed_forms_equal_fvcore_and_the_model(kind, tmp_path):
    teacher = random_teacher(kind)
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    for student in superlm.sub_space.students[::5]:
        model = superlm.extract(student)
        assert flops([student], teacher.encoder_shape, 24)[0] == count_flops(superlm.meta_model(student), 24)
        assert parameters([student], teacher.encoder_shape)[0] == sum(p.numel() for p in model.parameters())
        without = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("embeddings"))
        assert parameters([student], teacher.encoder_shape, embeddings=False)[0] == without
    model.save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size / 1e6
    bound = size_mb([student], teacher.encoder_shape)[0]
    assert size <= bound <= size + 0.02


def test_bert_base_at_128_is_the_published_number():
    bert = StudentConfig(12, 768, 12, 64, 3072)
    shape = EncoderShape(30522, 514, None, pooler=True)
    assert flops([bert], shape, 128)[0] == count_flops(BertConfig(), 128)
    assert flops([bert], shape, 128)[0] / 1e9 == pytest.approx(11.1865, abs=1e-4)
    assert parameters([bert], shape)[0] == 109_482_240


def test_many_students_cost_what_each_does_alone():
    shape = EncoderShape(1000, 66, None, pooler=True)
    students = [StudentConfig(n % 12 + 1, 16 * (n % 30 + 1), n % 30 + 1, 16, 64 * (n % 7 + 1)) for n in range(300)]
    table = cost_table([Candidate("x", s) for s in students], shape, 128)
    for i, student in enumerate(students):
        assert table["flops"][i] == flops([student], shape, 128)[0]
        assert table["params"][i] == parameters([student], shape)[0]


@pytest.mark.parametrize(
    ("text", "cost", "limit", "seq_len"),
    [
        ("5GFLOPs", "flops", 5e9, None),
        ("300MFLOPs@256", "flops", 3e8, 256),
        ("1.5 gflops", "flops", 1.5e9, None),
        ("12Mparams", "params", 12e6, None),
        ("25MB", "size_mb", 25.0, None),
        ("0.5GB", "size_mb", 500.0, None),
    ],
)
def test_budgets(text, cost, limit, seq_len):
    budget = parse_budget(text)
    assert (budget.cost, budget.seq_len) == (cost, seq_len)
    assert budget.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "-1GFLOPs",
        "5 parsecs",
        "0MB",
        "nanGFLOPs",
        "infMB",
        "5GFLOPs@0",
        "5GFLOPs@x",
        "5Mparams@128",
        "7B",
        "GFLOPs",
    ],
)
def test_bad_budgets_are_one_clear_line(text):
    with pytest.raises(BudgetError, match="allowed") as caught:
        parse_budget(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_a_budget_or_a_budget_error(text):
    with suppress(BudgetError):  # nothing else is ever raised
        assert parse_budget(text).limit > 0


@given(st.floats(1, 1e12), st.floats(0, 1e12))
def test_a_budget_is_met_exactly_up_to_its_limit(limit, value):
    assert (Budget("flops", limit, None, "").excess(value) <= 0) == (value <= limit)
