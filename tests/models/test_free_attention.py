"""Students whose attention is wider than their hidden size: the paper's, of an architecture whose code travels."""

import json
import re
import subprocess
import sys

import pytest
import torch
from autodistil_helpers import random_teacher
from card_helpers import COSTS, card_teacher
from transformers import AutoModel, AutoModelForSequenceClassification

from autodistil.costs.closed_form import flops, parameters
from autodistil.costs.fvcore_check import count_flops
from autodistil.errors import SpaceError
from autodistil.export.card import model_card
from autodistil.models.architectures import WideBertConfig, WideBertForSequenceClassification, WideBertModel
from autodistil.models.families.bert import BERT, ROBERTA
from autodistil.models.superlm import SuperLM
from autodistil.space.files import load_space
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.space.student import Candidate, StudentConfig

ATTENTION = {"hidden_size": (32, 64), "num_heads": (2, 4), "head_size": (16,)}
SPACE = SubSpace("wide", {"num_layers": (2, 4), **ATTENTION, "mlp_ratio": (1.0, 2.0)}, free_attention=True)
"""Attention of 32 and 64 at hidden sizes of 32 and 64."""
PRINTED = {  # layers, hidden, heads, ratio: parameters and FLOPs as the paper prints them, and those of the dense model
    "AutoDis_Agnostic": ((11, 352, 10, 4.0), (26.8e6, 2.13e9), (31.9e6, 2.91e9)),
    "AutoDis_Proxy_T": ((7, 160, 10, 3.5), (6.88e6, 0.27e9), (9.14e6, 0.68e9)),
}


@pytest.fixture(scope="module")
def superlm():
    return SuperLM.from_teacher(random_teacher("bert"), SPACE)


def batch():
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
    assert isinstance(model, WideBertModel) == student.free_attention
    with torch.no_grad():
        theirs = model(**batch()).last_hidden_state
    assert torch.equal(superlm.forward(student, batch(), output=True).output, theirs)
    shape = random_teacher("bert").family.encoder_shape(superlm.base_config, superlm.pooler)
    assert sum(p.numel() for p in model.parameters()) == parameters([student], shape)[0]
    assert count_flops(superlm.meta_model(student), 24) == flops([student], shape, 24)[0]


def test_loads_here_without_remote_code_and_its_code_is_in_the_folder(superlm, tmp_path):
    student = StudentConfig(2, 32, 4, 16, 32)
    model = superlm.extract(student)
    model.save_pretrained(tmp_path)
    reloaded = AutoModel.from_pretrained(tmp_path, trust_remote_code=False).eval()
    assert type(reloaded) is WideBertModel
    with torch.no_grad():
        assert torch.equal(reloaded(**batch()).last_hidden_state, model(**batch()).last_hidden_state)
    assert {"modeling_wide_bert.py", "configuration_wide_bert.py"} <= {path.name for path in tmp_path.iterdir()}
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"]["AutoModel"].endswith("WideBertModel")
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3).eval()
    assert type(classifier) is WideBertForSequenceClassification
    with torch.no_grad():
        assert classifier(**batch()).logits.shape == (2, 3)
        assert torch.equal(classifier.bert(**batch()).last_hidden_state, model(**batch()).last_hidden_state)


def test_its_code_asks_for_nothing_of_ours(superlm, tmp_path):
    superlm.extract(StudentConfig(2, 32, 4, 16, 32)).save_pretrained(tmp_path)
    code = "".join(path.read_text() for path in tmp_path.glob("*.py"))
    assert "class WideBertModel" in code
    assert "class WideBertConfig" in code
    assert not re.findall(r"^\s*(?:import|from) autodistil", code, re.MULTILINE)


@pytest.mark.slow
def test_loads_in_a_process_that_does_not_know_us(superlm, tmp_path):
    model = superlm.extract(StudentConfig(2, 32, 4, 16, 32))
    model.save_pretrained(tmp_path / "student")
    with torch.no_grad():
        expected = float(model(**batch()).last_hidden_state.sum())
    code = (
        "import sys, torch; from transformers import AutoModel; "
        f"model = AutoModel.from_pretrained({str(tmp_path / 'student')!r}, trust_remote_code=True).eval(); "
        "ids = torch.randint(1, 97, (2, 9), generator=torch.Generator().manual_seed(0)); "
        "mask = torch.ones_like(ids); mask[1, 5:] = 0; "
        "print(float(model(input_ids=ids, attention_mask=mask).last_hidden_state.sum()), 'autodistil' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    value, known = run.stdout.split()
    assert float(value) == pytest.approx(expected, abs=1e-4)
    assert known == "False"


def test_only_bert_teachers_and_whole_embeddings():
    space = SearchSpace("mine", "", (SPACE,))
    BERT.check_space(space)
    with pytest.raises(SpaceError, match="free_attention: got it for roberta"):
        ROBERTA.check_space(space)
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
    shape = BERT.encoder_shape(WideBertConfig(), pooler=True)
    counted = parameters([student], shape)[0], flops([student], shape, 128)[0]
    assert counted == pytest.approx(honest, rel=0.01)
    assert all(ours > theirs for ours, theirs in zip(counted, printed, strict=True))


def test_the_card_says_how_to_load_it():
    wide, plain = (
        model_card(Candidate("x", StudentConfig(4, 32, heads, 16, 64)), card_teacher(None), COSTS, {}, True)
        for heads in (4, 2)
    )
    assert 'SentenceTransformer("my-student", trust_remote_code=True)' in wide
    assert "modeling_wide_bert.py" in wide
    assert "trust_remote_code" not in plain


def test_a_student_alone_keeps_its_width(superlm):
    student = StudentConfig(4, 32, 4, 16, 64)
    alone = superlm.alone(student)
    assert alone.sub_space == SubSpace.of_student("wide", student)
    with torch.no_grad():
        ours, theirs = (lm.forward(student, batch(), output=True).output for lm in (superlm, alone))
    assert torch.equal(ours, theirs)
