"""What newer families bring: rotary pairs, layer lists, fused projections, something by head that layers share."""

import pytest
import torch
from autodistil_helpers import random_teacher, small_space
from transformers import BertConfig, ModernBertConfig

from autodistil.errors import SpaceError, TeacherError
from autodistil.models.families.bert import BERT
from autodistil.models.families.family import ROTARY_HEADS, leading, split_dimensions
from autodistil.models.families.modernbert import MODERNBERT
from autodistil.models.ordering import ORDERS
from autodistil.models.superlm import SuperLM
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.space.student import StudentConfig


def batch_of(length=12):
    return {"input_ids": torch.randint(3, 97, (3, length), generator=torch.Generator().manual_seed(0))}


def test_a_students_layers_attend_as_far_as_the_teachers_that_they_come_from():
    teacher = random_teacher("modernbert")
    assert teacher.model.config.layer_types == ["full_attention", *["sliding_attention"] * 2, "full_attention"]
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    types = {student.num_layers: superlm.student_config(student).layer_types for student in superlm.sub_space.students}
    assert types[2] == ["full_attention", "full_attention"]
    assert types[3] == ["full_attention", "sliding_attention", "full_attention"]
    assert types[4] == teacher.model.config.layer_types


def test_slices_keep_rotary_pairs_together():
    """Of two heads of 8, a student of one head of 4 takes the pairs (0, 4) and (1, 5) of the first."""
    teacher, student = StudentConfig(1, 16, 2, 8, 32), StudentConfig(1, 4, 1, 4, 8)
    rows = torch.arange(16)
    kept = split_dimensions(rows, ROTARY_HEADS, teacher)[leading(ROTARY_HEADS, student)]
    assert kept.flatten().tolist() == [0, 1, 4, 5]


def test_odd_head_sizes_are_refused_under_rotary_positions():
    axes = {"num_layers": (1,), "hidden_size": (15,), "num_heads": (3,), "head_size": (5,), "mlp_ratio": (1.0,)}
    space = SearchSpace("odd", "", (SubSpace("odd", axes),))
    BERT.check_space(space)
    with pytest.raises(SpaceError, match="head_size: got 5; allowed: even numbers"):
        MODERNBERT.check_space(space)


@pytest.mark.parametrize(
    ("family", "config"),
    [(BERT, BertConfig), (MODERNBERT, ModernBertConfig)],
)
def test_heads_that_do_not_divide_are_refused(family, config):
    with pytest.raises(TeacherError, match=r"num_attention_heads = 5 .* does not divide hidden_size = 64"):
        family.dimensions(config(hidden_size=64, num_attention_heads=5))


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_heads_have_one_order_where_layers_share_something_by_head(name):
    order = ORDERS[name](random_teacher("mpnet"), [batch_of()]).order()
    assert (order.num_heads == order.num_heads[0]).all()
    own = ORDERS[name](random_teacher("roberta"), [batch_of()]).order()
    assert not (own.num_heads == own.num_heads[0]).all()


def test_relative_positions_are_sliced_by_head():
    teacher = random_teacher("mpnet")
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    student = superlm.sub_space.smallest
    name = "encoder.relative_attention_bias.weight"
    theirs = teacher.model.get_parameter(name)
    assert torch.equal(superlm.weights(student)[name], theirs[:, : student.num_heads])


def test_hooks_see_nothing_outside_of_a_tap():
    teacher = random_teacher("mpnet")
    with torch.no_grad():
        plain = teacher.model(**batch_of()).last_hidden_state
    assert torch.equal(teacher.states(batch_of(), output=True).output, plain)
    assert teacher.states(batch_of(), layer=1).output is None
