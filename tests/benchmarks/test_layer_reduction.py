"""Layer reduction by sentence-transformers, of a tiny teacher."""

import shutil

import numpy as np
import pytest
import torch
from quality_table.layer_reduction import best_layers, layer_choices, reduced, train
from transformers import AutoTokenizer, BertConfig, BertModel

TEXTS = [f"The river {i} runs along the old wall of town {7 * i % 5}." for i in range(32)]
IDLE = 1
"""A layer of the teacher that changes nothing."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, quickstart_teacher_dir):
    from sentence_transformers import SentenceTransformer

    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertModel(BertConfig(**size, initializer_range=0.2, max_position_embeddings=64))
    for part in (model.encoder.layer[IDLE].attention.output.dense, model.encoder.layer[IDLE].output.dense):
        torch.nn.init.zeros_(part.weight)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(quickstart_teacher_dir).save_pretrained(folder)
    shutil.copyfile(quickstart_teacher_dir / "modules.json", folder / "modules.json")
    shutil.copytree(quickstart_teacher_dir / "1_Pooling", folder / "1_Pooling")
    return SentenceTransformer(str(folder), device="cpu")


def encode(model):
    return model.encode(TEXTS, show_progress_bar=False)


def test_all_layers_are_the_teacher_itself_and_others_are_those_chosen(teacher):
    assert np.array_equal(encode(reduced(teacher, range(4))), encode(teacher))
    student = reduced(teacher, (0, 3)).transformers_model
    assert student.config.num_hidden_layers == len(student.encoder.layer) == 2
    for kept, own in zip((0, 3), student.encoder.layer, strict=True):
        theirs = teacher.transformers_model.encoder.layer[kept].state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in own.state_dict().items())
    assert len(teacher.transformers_model.encoder.layer) == 4, "the teacher is left as it is"


def test_the_layer_that_does_nothing_is_left_out(teacher):
    layers, error = best_layers(teacher, TEXTS, layer_choices(4, 3))
    assert layers == (0, 2, 3)
    assert error == pytest.approx(0, abs=1e-12)


def test_choices_are_all_where_they_are_few_and_those_of_the_example_where_they_are_many():
    assert len(layer_choices(6, 3)) == 20
    assert set(layer_choices(12, 4)) == {(0, 3, 6, 9), (1, 4, 7, 10), (2, 5, 8, 11), (0, 4, 7, 11)}
    assert (0, 3, 6, 9, 12, 15, 18, 21) in layer_choices(24, 8), "every third of 24"


def test_training_brings_the_embeddings_nearer_and_keeps_the_layers(teacher, tmp_path, capsys):
    student, steps = reduced(teacher, (0, 2)), []
    before = np.mean((encode(student) - encode(teacher)) ** 2)
    train(student, 8 * TEXTS, np.tile(encode(teacher), (8, 1)), 16, 1e-3, 0, lambda: steps.append(1))
    assert np.mean((encode(student) - encode(teacher)) ** 2) < before / 2
    assert len(steps) == 16, "one epoch of 16 texts a step"
    assert capsys.readouterr().out == ""


def test_texts_are_seen_in_their_order(teacher):
    student, seen = reduced(teacher, (0, 2)), []
    tokenize = student.preprocess
    student.preprocess = lambda texts, *rest, **options: seen.extend(texts) or tokenize(texts, *rest, **options)
    train(student, TEXTS, encode(teacher), 8, 1e-4, 0, lambda: None)
    assert seen[-len(TEXTS) :] == TEXTS, "before, some for a card"
