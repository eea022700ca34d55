"""Factorised embeddings: the fit, the ELECTRA that is exported, exact costs, a search with both embedding axes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from autodistil_helpers import RECIPE, objective_of, own_inputs, random_teacher, small_space
from tokenizers_helpers import TEXTS, packaged
from torch.nn.functional import layer_norm, linear
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, ElectraModel

from autodistil import cli
from autodistil.costs.closed_form import cost_table, flops, parameters, size_mb
from autodistil.costs.fvcore_check import count_flops
from autodistil.errors import SpaceError, TeacherError
from autodistil.evaluation.heldout import HeldOut
from autodistil.models.factorised import check_factorisable, factorise
from autodistil.models.superlm import SuperLM
from autodistil.models.vocabulary import Vocabulary
from autodistil.space.files import space_from_dict, space_to_dict
from autodistil.space.space import OneStudent
from autodistil.space.student import Candidate, StudentConfig
from autodistil.training.sampling import draw_students

KINDS = ("bert", "electra")
EPS = 1e-12
VOCABULARY = Vocabulary(np.concatenate([[2, 0, 1], np.random.default_rng(0).permutation(np.arange(3, 97))]), 3)


def factorised_superlm(kind):
    teacher = random_teacher(kind)
    sub_space = small_space(teacher).with_axes(embedding_size=(8, 16), vocab_size=(50, None))
    return SuperLM.from_teacher(teacher, sub_space, vocabulary=VOCABULARY)


# ---- the fit


def unexplained(ours, theirs):
    """Share of the variance of embeddings (..., hidden) that another model's do not have, 0 where they are equal."""
    ours, theirs = ours.flatten(0, -2), theirs.flatten(0, -2)
    return float((ours - theirs).square().sum() / (theirs - theirs.mean(0)).square().sum())


def embeddings(rank, hidden=48, words=200, positions=20):
    """Parameters whose tables have rows in a space of some dimensions, with a fast decay."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(hidden, hidden, generator=generator))[0][:rank]
    scales = 0.9 ** torch.arange(rank)

    def table(rows):
        return (torch.randn(rows, rank, generator=generator) * scales) @ basis

    tables = {"word": table(words), "position": 0.3 * table(positions), "token_type": 0.1 * table(2)}
    named = {f"embeddings.{name}_embeddings.weight": value for name, value in tables.items()}
    norm = {"weight": 1 + 0.1 * torch.randn(hidden, generator=generator), "bias": 0.1 * torch.ones(hidden)}
    return {**named, **{f"embeddings.LayerNorm.{name}": value for name, value in norm.items()}}


def output(named, tokens, size=None):
    """What the embeddings make of tokens (sequences, seq), factorised ones with their leading `size` columns."""
    tables = [named[f"embeddings.{name}_embeddings.weight"][:, :size] for name in ("word", "position", "token_type")]
    norm = [named[f"embeddings.LayerNorm.{kind}"][:size] for kind in ("weight", "bias")]
    rows = tables[0][tokens] + tables[1][: tokens.shape[1]] + tables[2][0]
    normalised = layer_norm(rows, (rows.shape[-1],), *norm, eps=EPS)
    if "embeddings_project.weight" not in named:
        return normalised
    return linear(normalised, named["embeddings_project.weight"][:, :size], named["embeddings_project.bias"])


@pytest.fixture
def tokens():
    return torch.randint(0, 200, (40, 20), generator=torch.Generator().manual_seed(1))


def test_what_is_low_rank_is_kept(tokens):
    plain = embeddings(rank=6)
    fitted = factorise(plain, EPS, (16,), tokens)
    assert unexplained(output(fitted, tokens), output(plain, tokens)) < 0.02


def test_wider_slices_keep_more_and_joint_fits_cost_little(tokens):
    plain = embeddings(rank=48)
    joint = factorise(plain, EPS, (8, 16, 32), tokens)
    errors = [unexplained(output(joint, tokens, size), output(plain, tokens)) for size in (8, 16, 32)]
    alone = [
        unexplained(output(factorise(plain, EPS, (size,), tokens), tokens), output(plain, tokens))
        for size in (8, 16, 32)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.15
    assert all(best <= error <= best + 0.1 for best, error in zip(alone, errors, strict=True))


def test_the_projection_is_the_least_squares_fit(tokens):
    """The gradient of the summed error by the projection vanishes."""
    plain = embeddings(rank=48)
    fitted = factorise(plain, EPS, (8, 16), tokens)
    names = ("embeddings_project.weight", "embeddings_project.bias")

    def gradients(scale):
        named = {**fitted, **{name: (scale * fitted[name]).requires_grad_() for name in names}}
        errors = [(output(named, tokens, size) - output(plain, tokens)).square().sum() for size in (8, 16)]
        return torch.autograd.grad(sum(errors), [named[name] for name in names])

    for fit, none in zip(gradients(1), gradients(0), strict=True):
        assert fit.abs().max() < 1e-4 * none.abs().max()


def test_without_a_text_every_word_is_fitted():
    plain = embeddings(rank=48, words=210)
    fitted = factorise(plain, EPS, (32,))
    every = torch.arange(200).reshape(10, 20)
    assert unexplained(output(fitted, every), output(plain, every)) < 0.2


def test_the_rest_of_the_model_is_untouched_and_the_pooler_left_out():
    plain = {**embeddings(rank=8), "encoder.layer.0.x": torch.ones(3), "pooler.dense.weight": torch.ones(3)}
    fitted = factorise(plain, EPS, (4,))
    assert torch.equal(fitted["encoder.layer.0.x"], torch.ones(3))
    assert not any(name.startswith("pooler") for name in fitted)


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "electra-factorised"])
def test_teachers_with_other_embeddings_are_refused(kind):
    teacher = random_teacher(kind)
    with pytest.raises(TeacherError, match=r"embedding_size is not for a .* teacher .*; allowed: BERT, and ELECTRA"):
        check_factorisable(teacher.family, teacher.model.config)


@pytest.mark.parametrize("kind", KINDS)
def test_the_others_are_not(kind):
    check_factorisable(random_teacher(kind).family, random_teacher(kind).model.config)


# ---- the model


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_sliced_is_extracted_is_reloaded(kind, tmp_path):
    superlm = factorised_superlm(kind)
    generator = torch.Generator().manual_seed(0)
    for student in superlm.sub_space.students[::5]:
        model = superlm.extract(student)
        ids, mask, batch = own_inputs(superlm, student, generator)
        theirs = model(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.equal(theirs, superlm.forward(student, batch, output=True).output)
        assert model.config.embedding_size == student.embedding_size
    model.save_pretrained(tmp_path)
    reloaded = AutoModel.from_pretrained(tmp_path).eval()
    assert type(reloaded) is ElectraModel
    assert torch.equal(reloaded(input_ids=ids, attention_mask=mask).last_hidden_state, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_costs_are_those_of_the_exported_file(kind, tmp_path):
    superlm, shape = factorised_superlm(kind), random_teacher(kind).encoder_shape
    for student in superlm.sub_space.students[::9]:
        model = superlm.extract(student)
        named = dict(model.named_parameters())
        assert parameters([student], shape)[0] == sum(p.numel() for p in named.values())
        without = sum(p.numel() for name, p in named.items() if not name.startswith("embeddings"))
        assert parameters([student], shape, embeddings=False)[0] == without
        assert flops([student], shape, 24)[0] == count_flops(superlm.meta_model(student), 24)
        model.save_pretrained(tmp_path)
        size = (tmp_path / "model.safetensors").stat().st_size / 1e6
        assert size <= size_mb([student], shape)[0] <= size + 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_leaf_gradients_equal_autograd_through_views(kind):
    superlm = factorised_superlm(kind)
    teacher = random_teacher(kind)
    batch = {"input_ids": torch.randint(3, 97, (3, 10), generator=torch.Generator().manual_seed(1))}
    states, objective = teacher.states(batch), objective_of("relation-kl")
    student = superlm.sub_space.smallest
    gradients = []
    for leaves in (False, True):
        rows = superlm.token_rows(batch) if leaves else None
        weights = superlm.leaf_weights(student, rows) if leaves else superlm.weights(student)
        objective(superlm.forward(student, rows.batch if rows else batch, weights), states).backward()
        if leaves:
            superlm.accumulate(student, weights, rows)
        gradients.append({name: p.grad for name, p in superlm.parameters.items() if p.grad is not None})
        superlm = factorised_superlm(kind)
    assert gradients[0].keys() == gradients[1].keys() >= {"embeddings_project.weight"}
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-7, msg=name)
    assert not gradients[0]["embeddings.word_embeddings.weight"][:, student.embedding_size :].any()


@torch.no_grad()
def test_a_student_alone_and_its_held_out_loss():
    superlm = factorised_superlm("bert")
    heldout = HeldOut.build(random_teacher("bert"), np.arange(3, 51).reshape(4, 12), objective_of("relation-kl"))
    for student in superlm.sub_space.architectures[:3]:
        alone = superlm.alone(student)
        assert alone.sub_space.students == (student,)
        assert heldout.loss(alone, student) == heldout.loss(superlm, student)


# ---- the axis

GRID = {"num_layers": [2, 3], "hidden_size": [32, 64], "head_size": 16, "mlp_ratio": [2.0]}


def space_of(**axes):
    return space_from_dict({"name": "x", "description": "", "sub_spaces": {"base": {**GRID, **axes}}}, "x.yaml")


def test_embedding_sizes_are_drawn_in_training_and_are_below_the_hidden_size():
    (sub,) = space_of(embedding_size=[16, 32], vocab_size=[8000, "whole"]).sub_spaces
    assert space_from_dict(space_to_dict(space_of(embedding_size=[16])), "copy") == space_of(embedding_size=[16])
    assert {(s.hidden_size, s.embedding_size) for s in sub.architectures} == {(32, 16), (64, 16), (64, 32)}
    assert len(sub.students) + sub.excluded == sub.num_combinations == 2 * 2 * 2 * 2
    assert sub.students[0].label == "L2-H32-A2-F64-E16-V8000"
    assert (sub.smallest.embedding_size, sub.largest.embedding_size) == (16, 32)
    drawn = {s for step in range(20) for s in draw_students(sub, RECIPE, step)}
    assert {replace(student, vocab_size=None) for student in drawn} == set(sub.architectures)
    assert sub.student(num_layers=2, hidden_size=32, head_size=16, mlp_ratio=2.0, embedding_size=32) is None


@pytest.mark.parametrize(("raw", "expected"), [(64, "below the hidden size"), ("whole", "whole numbers"), (0, "1 to")])
def test_sizes_that_no_student_can_have_are_refused(raw, expected):
    with pytest.raises(SpaceError, match=f"embedding_size.*{expected}"):
        space_of(embedding_size=raw)


def test_the_cost_table_names_the_embedding_size_only_where_it_is_searched():
    shape = random_teacher("bert").encoder_shape
    plain, factorised = StudentConfig(2, 32, 2, 16, 64), StudentConfig(2, 32, 2, 16, 64, embedding_size=8)
    assert "embedding_size" not in cost_table([Candidate("tiny", plain)], shape, 16)
    table = cost_table([Candidate("tiny", s) for s in (plain, factorised)], shape, 16)
    assert list(table["embedding_size"]) == [32, 8]
    assert OneStudent("x", factorised).students == (factorised,)


# ---- search


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


@pytest.mark.slow
def test_a_search_with_both_axes_exports_an_electra(tmp_path, quickstart_teacher_dir, capsys):
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128, max_position_embeddings=128
    )
    BertModel(config).save_pretrained(tmp_path / "teacher")
    packaged(quickstart_teacher_dir).save_pretrained(tmp_path / "teacher")
    (tmp_path / "text.txt").write_text("\n\n".join(TEXTS))
    subs = {
        "plain": {**GRID, "num_layers": 2},
        "slim": {**GRID, "num_layers": 2, "embedding_size": [8, 16], "vocab_size": [2100, 4000]},
    }
    (tmp_path / "space.yaml").write_text(json.dumps({"name": "both", "sub_spaces": subs}))
    inputs = ["--teacher", tmp_path / "teacher", "--corpus", tmp_path / "text.txt", "--space", tmp_path / "space.yaml"]
    steps = ["--train-steps", "2", "--batch-size", "4", "--seq-len", "32", "--threads", "1"]
    assert run("search", "--run", tmp_path / "run", "--budget", "0.5MB", *inputs, *steps) == 0
    assert "no student of plain meets the budgets: not trained" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "run" / "candidates.csv")
    assert set(table["embedding_size"]) == {8, 16, 32, 64}
    assert table["loss"].notna().sum() == table["feasible"].sum() > 0
    (student,) = (tmp_path / "run" / "students").iterdir()
    model = AutoModel.from_pretrained(student)
    assert type(model) is ElectraModel
    assert model.config.vocab_size == len(AutoTokenizer.from_pretrained(student))
    assert (student / "model.safetensors").stat().st_size <= 0.5e6
    card = (student / "README.md").read_text()
    assert "| embedding size |" in card
    assert "- electra" in card
    assert run("search", "--run", tmp_path / "run", "--budget", "0.45MB", "--json") == 0
    row = json.loads(capsys.readouterr().out)["best"]
    assert row["config"]["embedding_size"] in (8, 16)
    assert row["loss"] == table.set_index("id").loc[row["id"], "loss"]
