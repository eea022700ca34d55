"""Encoders agree with sentence-transformers and with exports; similarity and probe see what is there and no more."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from autodistil.costs.closed_form import COST_COLUMNS, cost_table
from autodistil.errors import TaskError, TeacherError
from autodistil.evaluation.embedding import (
    PooledEncoder,
    embedding_similarity,
    folder_encoder,
    linear_probe,
    remembering,
    student_encoder,
)
from autodistil.evaluation.evaluate import evaluate
from autodistil.export.student_folder import export_student
from autodistil.models.hf_folder import EvaluatedModel, usable_length
from autodistil.models.pooling import POOLINGS
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import load_teacher
from autodistil.space.space import SubSpace
from autodistil.space.student import Candidate, StudentConfig
from autodistil.tasks.batching import TextBatcher, TokenizedRows, shuffled_batches, sorted_batches
from autodistil.tasks.catalogue import load_task

SENTENCES = (
    "A man is playing a flute.",
    "A man is playing an instrument.",
    "The stock market fell sharply on Tuesday after the report.",
    "Shares dropped on Tuesday.",
    "A cat sleeps.",
    "Cats are sleeping on the sofa in the living room, as they do every afternoon.",
    "How do I reset my password?",
    "I forgot my password",
    "Paris is the capital of France",
    "",
    "1234 %$ !?",
    "A man is playing a flute.",
)


@pytest.fixture(scope="module")
def teacher():
    return load_teacher()


@pytest.fixture(scope="module")
def packaged():
    return EvaluatedModel.open("all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def library_model(packaged):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.SentenceTransformer(str(packaged.folder), device="cpu")


def batcher(tokenizer, max_length, batch_size=64):
    return TextBatcher(tokenizer, max_length, torch.device("cpu"), batch_size)


def scored_pairs(write_task):
    rows = [(a, b, f"{i / 2:.1f}") for i, (a, b) in enumerate(zip(SENTENCES, reversed(SENTENCES), strict=True))]
    return load_task("mine", write_task("mine", dev=rows[:6]))


def test_embeddings_equal_those_of_sentence_transformers(packaged, library_model):
    ours, theirs = folder_encoder(packaged)(SENTENCES), library_model.encode(list(SENTENCES))
    assert ours.shape == (12, 384)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_array_equal(ours[0], ours[-1])


def test_similarity_equals_that_of_sentence_transformers(packaged, library_model, write_task):
    from scipy.stats import pearsonr, spearmanr

    data = scored_pairs(write_task)
    first, second = (library_model.encode(list(texts)) for texts in (data.evaluated.text_a, data.evaluated.text_b))
    cosine = library_model.similarity_pairwise(first, second).numpy()
    ours = embedding_similarity(data, folder_encoder(packaged))
    assert ours["pearson"] == pytest.approx(pearsonr(cosine, data.evaluated.labels).statistic, abs=1e-5)
    assert ours["spearman"] == pytest.approx(spearmanr(cosine, data.evaluated.labels).statistic, abs=1e-5)


def test_a_students_encoder_is_that_of_its_export(teacher, tmp_path, write_task):
    student = StudentConfig(2, 192, 6, 32, 384)
    axes = {"num_layers": (2, 3), "hidden_size": (192, 288), "head_size": (32,), "mlp_ratio": (2.0,)}
    superlm = SuperLM.from_teacher(teacher, SubSpace("s", axes))
    candidate = Candidate("s", student)

    def costs(config):
        row = cost_table([Candidate("s", config)], teacher.encoder_shape, 128).iloc[0]
        return {name: row[name] for name in COST_COLUMNS}

    facts = {**costs(student), "teacher": costs(teacher.dims), "seq_len": 128}
    export_student(superlm, candidate, teacher, facts, {}, tmp_path / "student")
    model = EvaluatedModel.open(str(tmp_path / "student"))
    assert model.exported
    exported = folder_encoder(model)(SENTENCES)
    sliced = student_encoder(superlm, student, batcher(teacher.tokenizer, 128), "mean", normalize=True)(SENTENCES)
    assert exported.shape == (12, 192)
    np.testing.assert_allclose(sliced, exported, atol=1e-6)

    results, kept, _ = evaluate(
        str(model.folder), ["mine"], write_task("mine", dev=[("a", "b", "0.5"), ("c", "c", "5")])
    )
    assert results[0].method == "similarity"
    assert kept == model.folder / "evaluation.json"
    card = ModelCard.load(model.folder / "README.md")
    assert card.text.index("## Task results") < card.text.index("## Limits")
    assert card.data.eval_results[0].dataset_type == "mine"
    assert card.data.library_name == "sentence-transformers"


def test_other_modules_are_run_by_sentence_transformers(tiny_bert, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from sentence_transformers import models

    torch.manual_seed(0)
    modules = [models.Transformer(str(tiny_bert)), models.Pooling(32, "mean"), models.Dense(32, 8)]
    sentence_transformers.SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "dense"))
    model = EvaluatedModel.open(str(tmp_path / "dense"))
    embeddings = folder_encoder(model)(SENTENCES[:3])
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "dense"), device="cpu").encode(
        list(SENTENCES[:3])
    )
    assert embeddings.shape == (3, 8)
    np.testing.assert_allclose(embeddings, theirs, atol=1e-6)

    weights = next((tmp_path / "dense").glob("*_Dense")) / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(TeacherError, match="which is a pickle"):
        folder_encoder(model)


def test_code_of_other_origin_is_never_run(tiny_bert, tmp_path):
    (tmp_path / "config.json").write_text((tiny_bert / "config.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "", "type": "evil.Module"}]))
    with pytest.raises(TeacherError, match="no code of other origin is run"):
        folder_encoder(EvaluatedModel.open(str(tmp_path)))


def test_a_pickle_is_never_read(tiny_bert, tmp_path):
    for path in tiny_bert.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(TeacherError, match=r"^[^\n]*cannot be read[^\n]*$"):
        folder_encoder(EvaluatedModel.open(str(tmp_path)))


def test_incomplete_weights_are_refused(tiny_bert, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in tiny_bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = EvaluatedModel.open(str(tmp_path))
    for load in (lambda: folder_encoder(model), lambda: model.classifier(2, torch.device("cpu"))):
        with pytest.raises(TeacherError, match="lack 1 parameters"):
            load()


def test_long_texts_are_cut_to_the_positions_there_are(tiny_bert):
    encode = folder_encoder(EvaluatedModel.open(str(tiny_bert)))
    assert encode.batches.max_length == 32
    embeddings = encode(["word " * 500, "word " * 30])  # with the two special tokens, 32
    np.testing.assert_allclose(embeddings[0], embeddings[1], atol=1e-6)


def test_roberta_has_fewer_positions_than_it_says():
    from autodistil_helpers import random_teacher

    model = random_teacher("roberta").model
    assert model.config.max_position_embeddings == 40

    class Tokenizer:
        model_max_length = 10**30

    length = usable_length(model, Tokenizer(), 128)
    assert length == 38
    model(torch.full((1, length), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, length + 1), 5))


@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_padding_and_order_do_not_matter(tiny_bert, pooling):
    model = EvaluatedModel.open(str(tiny_bert))
    network, tokenizer = model.encoder(torch.device("cpu")), model.tokenizer()
    options = {"forward": lambda batch: network(**batch).last_hidden_state, "pooling": pooling}
    together = PooledEncoder(**options, batches=batcher(tokenizer, 32, 12))(SENTENCES)
    alone = np.concatenate([PooledEncoder(**options, batches=batcher(tokenizer, 32))([text]) for text in SENTENCES])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 5))
def test_batches_hold_every_row_once(lengths, batch_size, seed):
    lengths = np.array(lengths)
    batches = list(sorted_batches(lengths, batch_size))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(lengths[a].min() >= lengths[b].max() for a, b in pairwise(batches))
    shuffled = shuffled_batches(lengths, batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(shuffled).tolist()) == list(range(len(lengths)))
    assert all(len(batch) <= batch_size for batch in shuffled)


def test_pairs_tell_the_model_which_text_is_which(tiny_bert):
    tokenizer = EvaluatedModel.open(str(tiny_bert)).tokenizer()
    rows = TokenizedRows.of(tokenizer, ["a cat", "one"], ["a dog", "two three four"], 32)
    batch = rows.batch(np.array([0, 1]), torch.device("cpu"))
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1]]
    assert batch["attention_mask"].all()
    assert "token_type_ids" not in TokenizedRows.of(tokenizer, ["a"], None, 32).batch(
        np.array([0]), torch.device("cpu")
    )


# ---- probe, on embeddings made by hand


def hashed(dim=16):
    """An encoder that gives every text its own random embedding."""

    def encode(texts):
        seeds = [int.from_bytes(text.encode()[-6:], "big") for text in texts]
        return np.stack([np.random.default_rng(seed).standard_normal(dim) for seed in seeds]).astype(np.float32)

    return encode


def labelled(write_task, label, rows=400):
    texts = [f"t{i:05d}" for i in range(2 * rows)]
    split = {"train": texts[:rows], "dev": texts[rows:]}
    return load_task("mine", write_task("mine", **{k: [(t, label(t)) for t in v] for k, v in split.items()}))


def test_a_probe_finds_a_separable_label(write_task):
    encode = hashed()
    data = labelled(write_task, lambda text: str(int(encode([text])[0, 3] > 0)))
    assert linear_probe(data, encode)["accuracy"] > 0.95


def test_a_probe_is_at_chance_on_random_labels(write_task):
    draw = np.random.default_rng(0)
    data = labelled(write_task, lambda text: str(draw.integers(2)))
    assert linear_probe(data, hashed())["accuracy"] == pytest.approx(0.5, abs=0.08)  # 3 standard deviations


def test_a_probe_finds_a_score(write_task):
    encode = hashed()
    data = labelled(write_task, lambda text: f"{encode([text])[0] @ np.arange(16):.3f}")
    assert linear_probe(data, encode)["pearson"] > 0.999


def test_a_probe_sees_what_only_a_pair_shows(write_task):
    encode = hashed(8)
    names = [f"p{i:05d}" for i in range(1200)]

    def row(i):
        second = names[i] if i % 2 else names[-1 - i]
        return names[i], second, str(i % 2)

    data = load_task(
        "same", write_task("same", train=[row(i) for i in range(400)], dev=[row(i) for i in range(400, 500)])
    )
    assert linear_probe(data, encode)["accuracy"] > 0.95


def test_a_probe_does_not_learn_from_the_evaluated_split(write_task):
    """Labels of dev that contradict train are all missed."""
    encode = hashed()
    data = labelled(write_task, lambda text: str(int((encode([text])[0, 3] > 0) == (int(text[1:]) < 400))))
    assert linear_probe(data, encode)["accuracy"] < 0.1


@pytest.mark.parametrize("sizes", [(1, 1), (4, 4), (5, 1), (30, 1)])
def test_a_probe_works_on_few_rows(write_task, sizes):
    rows = [(f"{label}{i}", str(label)) for label, size in enumerate(sizes) for i in range(size)]
    data = load_task("few", write_task("few", train=rows, dev=rows))
    assert 0 <= linear_probe(data, hashed())["accuracy"] <= 1


def test_similarity_needs_scored_pairs(write_task):
    data = labelled(write_task, lambda text: text[-1])
    with pytest.raises(TaskError, match="no scored pairs"):
        embedding_similarity(data, hashed())


def test_similarity_of_embeddings_of_zero_is_worth_nothing(write_task):
    assert embedding_similarity(scored_pairs(write_task), lambda texts: np.zeros((len(texts), 4))) == {
        "spearman": 0.0,
        "pearson": 0.0,
    }


def test_each_text_is_encoded_once_and_stands_in_its_place():
    asked = []

    def encode(texts):
        asked.extend(texts)
        return np.array([[len(text)] for text in texts])

    encoder = remembering(encode)
    assert encoder(["a", "bb", "a"]).tolist() == [[1], [2], [1]]
    assert encoder(["ccc", "bb"]).tolist() == [[3], [2]]
    assert asked == ["a", "bb", "ccc"]
