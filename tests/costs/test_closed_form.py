"""The closed forms against independent counts: fvcore's trace, real parameters, the formula one student at a time."""

import logging
import warnings

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from transformers import AutoModel, BertConfig, DistilBertConfig, ElectraConfig, RobertaConfig
from variants import slow_but

from autodistil.costs.budget import read_budget
from autodistil.costs.closed_form import budget_cost, cost_table, flops, parameters, size_mb
from autodistil.costs.fvcore_check import count_flops
from autodistil.errors import BudgetError
from autodistil.formats.setting import MAX_SEQ_LEN
from autodistil.space.axes import AXES
from autodistil.space.shape import EncoderShape
from autodistil.space.space import SubSpace
from autodistil.space.student import Candidate, StudentConfig

VOCAB, POSITIONS, TYPES, EMBEDDING = 101, 70, 2, 24
BERT = StudentConfig(12, 768, 12, 64, 3072)
BERT_SHAPE = EncoderShape(30522, 514, None, pooler=True)


def bert_fields(student):
    return {
        "vocab_size": VOCAB,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": TYPES,
        "num_hidden_layers": student.num_layers,
        "hidden_size": student.hidden_size,
        "num_attention_heads": student.num_heads,
        "intermediate_size": student.intermediate_size,
    }


def distilbert(student):
    return DistilBertConfig(
        vocab_size=VOCAB,
        max_position_embeddings=POSITIONS,
        n_layers=student.num_layers,
        dim=student.hidden_size,
        n_heads=student.num_heads,
        hidden_dim=student.intermediate_size,
    )


# Family -> (config of a student, constants of the closed forms).
FAMILIES = {
    "bert": (lambda s: BertConfig(**bert_fields(s)), EncoderShape(VOCAB, POSITIONS + TYPES, None, pooler=True)),
    "roberta": (lambda s: RobertaConfig(**bert_fields(s)), EncoderShape(VOCAB, POSITIONS + TYPES, None, pooler=True)),
    "electra": (
        lambda s: ElectraConfig(**bert_fields(s), embedding_size=s.hidden_size),
        EncoderShape(VOCAB, POSITIONS + TYPES, None, pooler=False),
    ),
    "electra-factorised": (
        lambda s: ElectraConfig(**bert_fields(s), embedding_size=EMBEDDING),
        EncoderShape(VOCAB, POSITIONS + TYPES, EMBEDDING, pooler=False),
    ),
    "distilbert": (distilbert, EncoderShape(VOCAB, POSITIONS, None, pooler=False)),
}


@st.composite
def students(draw):
    """Small students that obey the shape rule; width 24 included, where ELECTRA's projection vanishes."""
    heads, head_size = draw(st.integers(1, 4)), draw(st.sampled_from([4, 8, 24]))
    return StudentConfig(draw(st.integers(1, 3)), heads * head_size, heads, head_size, draw(st.integers(1, 90)))


def on_meta(config, **options):
    with torch.device("meta"):
        return AutoModel.from_config(config, **options)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_costs_of_random_students_equal_independent_counts(family):
    config_of, shape = FAMILIES[family]

    @settings(max_examples=6, phases=(Phase.reuse, Phase.generate))  # the students are small: no minutes of shrinking
    @given(students(), st.integers(1, 64))
    def check(student, seq_len):
        config = config_of(student)
        named = dict(on_meta(config).named_parameters())
        assert flops([student], shape, seq_len) == [count_flops(config, seq_len)]
        assert parameters([student], shape) == [sum(p.numel() for p in named.values())]
        without = sum(p.numel() for name, p in named.items() if not name.startswith("embeddings"))
        assert parameters([student], shape, embeddings=False) == [without]

    check()


def test_factorised_embeddings_as_wide_as_the_student_have_no_projection():
    config_of, shape = FAMILIES["electra-factorised"]
    student = StudentConfig(2, EMBEDDING, 3, EMBEDDING // 3, 32)
    model = on_meta(config_of(student))
    assert not hasattr(model, "embeddings_project")
    assert parameters([student], shape) == [model.num_parameters()]
    assert flops([student], shape, 16) == [count_flops(model, 16)]


def test_bert_base_is_11_1865_giga_multiply_adds():
    assert flops([BERT], BERT_SHAPE, 128) == [11_186_503_680]
    assert count_flops(BertConfig(), 128) == 11_186_503_680


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_tracing_sees_attention_whatever_computes_it(implementation):
    student = StudentConfig(2, 32, 2, 16, 64)
    model = on_meta(BertConfig(**bert_fields(student)), attn_implementation=implementation)
    assert flops([student], FAMILIES["bert"][1], 48) == [count_flops(model, 48)]


def test_tracing_leaves_a_loaded_model_as_it_was():
    model = AutoModel.from_config(BertConfig(**bert_fields(StudentConfig(1, 16, 2, 8, 32)))).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_flops(model, 8)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_tracing_is_silent(capfd, caplog):
    level, filters = logging.getLogger("fvcore").level, list(warnings.filters)
    count_flops(BertConfig(**bert_fields(StudentConfig(1, 16, 2, 8, 32))), 8)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert (logging.getLogger("fvcore").level, list(warnings.filters)) == (level, filters)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("layers", [1, 5, 12])
def test_size_bounds_the_saved_file_closely(family, layers, tmp_path):
    config_of, shape = FAMILIES[family]
    student = StudentConfig(layers, 16, 2, 8, 32)
    AutoModel.from_config(config_of(student)).save_pretrained(tmp_path)
    saved = (tmp_path / "model.safetensors").stat().st_size
    bound = size_mb([student], shape)[0] * 1e6
    assert saved <= bound <= saved + 3000 + 1500 * layers


def scalar_costs(s, shape, seq_len):
    """(multiply-adds, parameters) of one student in plain integers, written anew as in the module docstring."""
    width, embedding = s.num_heads * s.head_size, shape.embedding_size or s.hidden_size
    matrices = 4 * s.hidden_size * width + 2 * s.hidden_size * s.intermediate_size
    adds = s.num_layers * (seq_len * (matrices + 10 * s.hidden_size) + 2 * seq_len**2 * width) + 5 * seq_len * embedding
    count = s.num_layers * (matrices + 3 * width + s.intermediate_size + 6 * s.hidden_size)
    count += (shape.vocab_size + shape.other_embedding_rows + 2) * embedding
    if embedding != s.hidden_size:
        adds, count = adds + seq_len * embedding * s.hidden_size, count + (embedding + 1) * s.hidden_size
    if shape.pooler:
        adds, count = adds + s.hidden_size**2, count + (s.hidden_size + 1) * s.hidden_size
    return adds, count


@pytest.mark.parametrize("embedding_size", slow_but([128], [None, 128]))
def test_a_hundred_thousand_students_cost_what_each_does_alone(embedding_size):
    ratios = [1 + i / 16 for i in range(50)]
    axes = {"num_layers": range(1, 41), "hidden_size": range(32, 32 * 51, 32), "head_size": (32,), "mlp_ratio": ratios}
    grid = SubSpace("x", axes)
    shape = EncoderShape(30522, 514, embedding_size, pooler=True)
    assert len(grid.students) == 100_000
    expected = np.array([scalar_costs(student, shape, 128) for student in grid.students])
    np.testing.assert_array_equal(flops(grid.students, shape, 128), expected[:, 0])
    np.testing.assert_array_equal(parameters(grid.students, shape), expected[:, 1])


def test_the_largest_student_that_a_space_allows_does_not_overflow():
    layers, hidden = int(AXES["num_layers"].bounds[1]), int(AXES["hidden_size"].bounds[1])
    giant = StudentConfig(layers, hidden, hidden // 64, 64, int(AXES["mlp_ratio"].bounds[1]) * hidden)
    expected = scalar_costs(giant, BERT_SHAPE, MAX_SEQ_LEN)
    assert (flops([giant], BERT_SHAPE, MAX_SEQ_LEN)[0], parameters([giant], BERT_SHAPE)[0]) == expected


def test_an_attention_width_of_its_own_is_counted():
    """A SuperLM's envelope and the paper's students keep 64 per head; costs are those of the dense model."""
    wide = StudentConfig(4, 160, 10, 64, 480)
    assert flops([wide], BERT_SHAPE, 128) == [scalar_costs(wide, BERT_SHAPE, 128)[0]]


@given(st.lists(students(), max_size=5))
def test_the_table_lists_candidates_in_order(configs):
    table = cost_table([Candidate("tiny", config) for config in configs], BERT_SHAPE, 128)
    assert list(table["id"]) == [f"tiny-{config.label}" for config in configs]
    np.testing.assert_array_equal(table["flops"], flops(configs, BERT_SHAPE, 128))
    np.testing.assert_array_equal(table["params_no_embeddings"], parameters(configs, BERT_SHAPE, embeddings=False))
    assert list(table.columns) == [
        "id", "sub_space", "num_layers", "hidden_size", "num_heads", "head_size", "intermediate_size",
        "params", "params_no_embeddings", "flops", "size_mb",
    ]  # fmt: skip


def test_a_budget_is_held_against_costs_at_its_own_length():
    at = {text: budget_cost(read_budget(text), [BERT], BERT_SHAPE, 128)[0] for text in ("1GFLOPs", "1GFLOPs@512")}
    assert at == {"1GFLOPs": flops([BERT], BERT_SHAPE, 128)[0], "1GFLOPs@512": flops([BERT], BERT_SHAPE, 512)[0]}
    assert budget_cost(read_budget("1Mparams"), [BERT], BERT_SHAPE, 128) == parameters([BERT], BERT_SHAPE)
    assert budget_cost(read_budget("1MB"), [BERT], BERT_SHAPE, 128) == size_mb([BERT], BERT_SHAPE)


@pytest.mark.parametrize("seq_len", [0, -1, MAX_SEQ_LEN + 1])
def test_lengths_out_of_range_are_refused(seq_len):
    with pytest.raises(BudgetError, match="allowed: 1 to 100,000"):
        flops([BERT], BERT_SHAPE, seq_len)
