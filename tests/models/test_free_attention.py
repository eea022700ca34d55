"""Students whose attention is wider than their hidden size: the paper's, of an architecture whose code travels."""

import pytest
import torch
from autodistil_helpers import random_teacher
from card_helpers import COSTS, card_teacher
from transformers import BertConfig
from variants import slow_but

from autodistil.costs.closed_form import flops, parameters
from autodistil.costs.fvcore_check import count_flops
from autodistil.errors import SpaceError
from autodistil.export.card import model_card
from autodistil.models.architectures import PerLayerModel
from autodistil.models.families.bert import BERT, DISTILBERT
from autodistil.models.superlm import SuperLM
from autodistil.space.files import load_space
from autodistil.space.space import OneStudent, SearchSpace, SubSpace
from autodistil.space.student import Candidate, StudentConfig

ATTENTION = {"hidden_size": (32, 64), "num_heads": (2, 4), "head_size": (16,)}
SPACE = SubSpace("wide", {"num_layers": (2, 4), **ATTENTION, "mlp_ratio": (1.0, 2.0)}, free_attention=True)
"""Attention of 32 and 64 at hidden sizes of 32 and 64."""
PRINTED = {  # layers, hidden, heads, ratio: parameters and FLOPs as the paper prints them, and those of the dense model
    "AutoDis_Agnostic": ((11, 352, 10, 4.0), (26.8e6, 2.13e9), (31.9e6, 2.91e9)),
    "AutoDis_Proxy_T": ((7, 160, 10, 3.5), (6.88e6, 0.27e9), (9.14e6, 0.68e9)),
}


@pytest.fixture(
    scope="module", params=slow_but(["mpnet", "vit"], ["bert", "roberta", "electra", "mpnet", "vit", "deit"])
)
def superlm(request):
    return SuperLM.from_teacher(random_teacher(request.param), SPACE)


def batch(superlm):
    if superlm.family.modality == "image":
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))}
    ids = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def test_the_space_has_wide_and_plain_students():
    widths = {(student.hidden_size, student.attention_width) for student in SPACE.students}
    assert widths == {(32, 32), (32, 64), (64, 32), (64, 64)}


@pytest.mark.parametrize("student", SPACE.students, ids=lambda student: student.label)
def test_sliced_equals_extracted_and_costs_are_the_closed_forms(superlm, student):
    model = superlm.extract(student)
    assert isinstance(model, PerLayerModel) == student.free_attention
    with torch.no_grad():
        theirs = model(**batch(superlm)).last_hidden_state
    assert torch.equal(superlm.forward(student, batch(superlm), output=True).output, theirs)
    shape = superlm.family.encoder_shape(superlm.base_config, superlm.pooler)
    assert sum(p.numel() for p in model.parameters()) == parameters([student], shape)[0]
    length = shape.fixed_length or 24
    assert count_flops(superlm.meta_model(student), length) == flops([student], shape, length)[0]


def test_only_families_with_classes_of_ours_and_whole_embeddings():
    space = SearchSpace("mine", "", (SPACE,))
    BERT.check_space(space)
    with pytest.raises(SpaceError, match="free_attention: got it for distilbert"):
        DISTILBERT.check_space(space)
    with pytest.raises(SpaceError, match="students with an embedding_size"):
        BERT.check_space(SearchSpace("mine", "", (SPACE.with_axes(embedding_size=(16,)),)))


def test_heads_that_divide_the_hidden_size_stay_plain_in_the_paper_grid():
    base = load_space("autodistil-paper").sub_space("base")
    plain = [student for student in base.students if not student.free_attention]
    assert {(student.hidden_size, student.num_heads) for student in plain} == {(576, 9), (640, 10)}


@pytest.mark.parametrize("name", PRINTED)
def test_costs_of_published_students_are_those_of_the_dense_model(name):
    (layers, hidden, heads, ratio), printed, honest = PRINTED[name]
    student = StudentConfig(layers, hidden, heads, 64, round(ratio * hidden))
    shape = BERT.encoder_shape(BertConfig(), pooler=True)
    counted = parameters([student], shape)[0], flops([student], shape, 128)[0]
    assert counted == pytest.approx(honest, rel=0.01)
    assert all(ours > theirs for ours, theirs in zip(counted, printed, strict=True))


def test_the_card_says_how_to_load_it():
    wide, plain = (
        model_card(Candidate("x", StudentConfig(4, 32, heads, 16, 64)), card_teacher(None), COSTS, {}, True)
        for heads in (4, 2)
    )
    assert 'SentenceTransformer("my-student", trust_remote_code=True)' in wide
    assert "modeling_per_layer.py" in wide
    assert "trust_remote_code" not in plain


def test_a_student_alone_keeps_its_width(superlm):
    student = StudentConfig(4, 32, 4, 16, 64)
    alone = superlm.alone(student)
    assert alone.sub_space == OneStudent("wide", student)
    with torch.no_grad():
        ours, theirs = (lm.forward(student, batch(superlm), output=True).output for lm in (superlm, alone))
    assert torch.equal(ours, theirs)
