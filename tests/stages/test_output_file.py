"""Students of embeddings that were made elsewhere: which texts are looked up, a whole run, mixtures, wrong input."""

import json

import numpy as np
import pytest
from run_helpers import SENTENCE, run_options, train_in_two

from autodistil import pipeline
from autodistil.data.batch import PADDING, TARGETS
from autodistil.errors import AutodistilError, RunError
from autodistil.evaluation.embedding import folder_encoder
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.run.run import Run

SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [16, 32], head_size: 16, mlp_ratio: [2.0]}
"""
DOCUMENTS = [f"{SENTENCE.format(i, 7 * i)} It was there in {1000 + i}." for i in range(600)]
DIM = 24


def write_outputs(path, texts):
    """Random embeddings of texts, whose lengths differ, and the texts as records; returns the path."""
    rows = np.random.default_rng(0).normal(size=(len(texts), DIM)) * np.arange(1, 1 + len(texts))[:, None]
    np.save(path, rows.astype(np.float32))
    path.with_suffix(".jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture
def given(tmp_path):
    """Embeddings of most documents, in another order than the corpus has them, and of a text that is not there."""
    order = np.random.default_rng(1).permutation(len(DOCUMENTS))[:500]
    return write_outputs(tmp_path / "given.npy", [*(DOCUMENTS[i] for i in order), "a text of no corpus at all"])


@pytest.fixture
def options(tmp_path, quickstart_teacher_dir, given):
    more = {"output_teacher": str(given), "train_steps": 4, "checkpoint_seconds": 0.0, "learning_rate": 3e-3}
    found = run_options(tmp_path, quickstart_teacher_dir, SPACE, **more)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    return {**found, "corpus": [str(corpus)]}


def texts_of(run, samples):
    """Samples as text, in lower case and without spaces, so that tokenising does not matter."""
    read = run.inputs.teacher.tokenizer.batch_decode(samples.clip(0), skip_special_tokens=True)
    return ["".join(text.split()) for text in read]


def unit(rows):
    return rows / np.linalg.norm(rows.astype(np.float32), axis=1, keepdims=True)


@pytest.mark.parametrize("suffix", [".jsonl", ".txt"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_each_text_gets_its_row_and_others_are_left_out(options, tmp_path, given, suffix, dtype):
    texts = [json.loads(line)["text"] for line in given.with_suffix(".jsonl").read_text().splitlines()]
    np.save(given, np.load(given).astype(dtype))
    if suffix == ".txt":
        given.with_suffix(".jsonl").unlink()
        given.with_suffix(".txt").write_text("\n\n".join(texts))
    said = []
    run = Run.open(tmp_path / "run", options)
    run.inputs.progress.say = said.append
    text = run.inputs.text
    assert text.unit == "documents"
    assert len(text.train) + len(text.heldout) == 500
    assert any(f"of {len(text.train)} of " in line and "others are left out" in line for line in said)
    by_start = {"".join(one.lower().split())[:35]: row for one, row in zip(texts, unit(np.load(given)), strict=True)}
    for samples in (text.train.take(np.arange(50)), run.inputs.heldout_texts):
        assert (samples != PADDING).sum(1).max() == 16
        expected = [by_start[one[:35]] for one in texts_of(run, samples)]
        np.testing.assert_allclose(run.inputs.output_teacher.embed(samples).numpy(), expected, atol=1e-6)
    numbers = np.array([7, 3])
    expected = run.inputs.output_teacher.embed(text.train.take(numbers))
    np.testing.assert_allclose(run.inputs.output_targets(numbers), expected)
    assert next(text.micro_batches(0))[TARGETS].shape == (8, DIM)


def test_a_file_of_an_encoders_embeddings_is_that_encoder(options, sentence_folder, tmp_path):
    """Of whole texts: the same samples and, but for the half precision that the encoder's are kept in, targets."""
    path = write_outputs(tmp_path / "whole.npy", DOCUMENTS)
    np.save(path, folder_encoder(EvaluatedModel.open(str(sentence_folder)))(DOCUMENTS))
    found = []
    for teacher in (path, sentence_folder):
        more = {"output_teacher": str(teacher), "text_unit": "documents", "seq_len": 64}
        inputs = Run.open(tmp_path / f"run-{teacher.name}", {**options, **more}).inputs
        numbers = np.arange(len(inputs.text.train))
        found.append((inputs.text.train.take(numbers), inputs.output_targets(numbers).numpy()))
    (samples, targets), (same, expected) = found
    assert np.array_equal(samples, same)
    np.testing.assert_allclose(targets, expected, atol=2e-3)


def test_sentences_are_looked_up_too(options, tmp_path):
    alone = [SENTENCE.format(i, 7 * i).strip() for i in range(400)]
    path = write_outputs(tmp_path / "sentences.npy", alone)
    run = Run.open(tmp_path / "run", {**options, "output_teacher": str(path), "text_unit": "sentences", "seq_len": 32})
    text = run.inputs.text
    assert text.unit == "sentences"
    assert len(text.train) + len(text.heldout) == 400
    assert all(one.startswith("theriver") for one in texts_of(run, text.train.take(np.arange(len(text.train)))))


def test_a_run_ends_in_the_space_of_the_file(options, tmp_path, given, monkeypatch):
    run = train_in_two(tmp_path / "run", options, monkeypatch)
    assert run.inputs.output_head.shape == (DIM, 64)
    pipeline.search(run, ["1GFLOPs"])
    student = pipeline.export(run, "best", tmp_path / "student")[1].path
    found = folder_encoder(EvaluatedModel.open(str(student)))(["a text"])
    assert found.shape == (1, DIM)
    assert f"given.npy: embeddings of {DIM} dimensions in its space" in (student / "README.md").read_text()
    assert run.folder.resolved()["output_teacher_fingerprint"] == run.inputs.output_teacher.fingerprint
    texts = given.with_suffix(".jsonl")
    texts.write_text(texts.read_text().replace("no corpus", "no other corpus"))
    with pytest.raises(RunError, match="another output teacher"):
        pipeline.train(Run.open(tmp_path / "run", options))


def test_a_file_is_mixed_with_an_encoder_by_weights(options, sentence_folder, given, tmp_path):
    both = {"output_teacher": [f"3*{given}", str(sentence_folder)], "output_role": "query"}
    inputs = Run.open(tmp_path / "run", {**options, **both}).inputs
    numbers = np.arange(5)
    one, other = (teacher.embed(inputs.text.train.take(numbers)) for teacher in inputs.output_teacher.teachers)
    joined = inputs.output_targets(numbers).numpy()
    assert joined.shape == (5, DIM + 32)
    np.testing.assert_allclose(joined @ joined.T, 0.75 * one @ one.T + 0.25 * other @ other.T, atol=5e-3)


def test_a_part_may_be_chosen_among_what_it_knows(options, tmp_path):
    inputs = Run.open(tmp_path / "run", {**options, "select": "random", "tokens": 300}).inputs
    inputs.write_record()
    text = inputs.text
    assert 250 < np.diff(text.train.spans, axis=1).sum() <= 300
    assert inputs.output_targets(np.arange(len(text.train))).shape == (len(text.train), DIM)


def no_texts(path):
    path.with_suffix(".jsonl").unlink()


def objects(path):
    np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)


def no_array(path):
    path.write_bytes(b"embeddings")


def one_row_less(path):
    np.save(path, np.load(path)[1:])


def whole_numbers(path):
    np.save(path, np.load(path).astype(np.int8))


def flat(path):
    np.save(path, np.load(path)[0])


def not_finite(path):
    rows = np.load(path)
    rows[17, 3] = np.nan
    np.save(path, rows)


def of_no_length(path):
    rows = np.load(path)
    rows[500] = 0
    np.save(path, rows)


def other_texts(path):
    write_outputs(path, [f"something else altogether, number {i}" for i in range(501)])


@pytest.mark.parametrize(
    ("spoil", "changed", "said"),
    [
        (lambda path: path.unlink(), {}, "cannot be read (No such file or directory); check the path"),
        (no_texts, {}, "has no texts beside it; write 'given.jsonl' or 'given.txt' there, a text a row"),
        (objects, {}, "is no plain array"),
        (no_array, {}, "is no plain array"),
        (one_row_less, {}, "has 500 rows, 'given.jsonl' 501 texts; give each text its row"),
        (whole_numbers, {}, "holds int8 of shape (501, 24); allowed: float16 or float32 of shape (texts, dim)"),
        (flat, {}, "holds float32 of shape (24,)"),
        (not_finite, {}, "has a row that is not finite, or all zeros: 17 (from 0)"),
        (of_no_length, {}, "not finite, or all zeros: 500 (from 0)"),
        (other_texts, {}, "none has an embedding in given.npy; give the texts there to --corpus too"),
        (lambda path: None, {"text_unit": "sequences"}, "cuts texts that 'given.npy' has whole"),
        (lambda path: None, {"output_role": "query"}, "is of encoders, not of files"),
        (lambda path: None, {"heldout_sequences": 400}, "held-out documents"),
    ],
)
def test_wrong_input_is_one_line(options, given, tmp_path, spoil, changed, said):
    spoil(given)
    with pytest.raises(AutodistilError) as error:
        pipeline.train(Run.open(tmp_path / "run", {**options, **changed}))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
