"""A run on a part of its sentences: chosen once, kept, the same on workers; wrong input."""

import numpy as np
import pytest
from run_helpers import run_options

from autodistil import pipeline
from autodistil.data.selection import SELECTIONS
from autodistil.errors import ConfigError, RunError
from autodistil.run.run import Run
from autodistil.stages.training import _files

SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [16, 32], head_size: 16, mlp_ratio: [2.0]}
"""


@pytest.fixture
def options(tmp_path, sentence_folder):
    more = {"teacher": str(sentence_folder), "train_steps": 2, "select": "hard", "tokens": 300}
    return run_options(tmp_path, sentence_folder, SPACE, **more)


def test_a_run_is_trained_on_what_was_chosen(options, tmp_path):
    whole = Run.open(tmp_path / "whole", {**options, "select": None, "tokens": None}).inputs.text
    for name in SELECTIONS:
        said = []
        run = Run.open(tmp_path / name, {**options, "select": name})
        run.inputs.progress.say = said.append
        text = run.inputs.text
        assert 250 < np.diff(text.train.spans, axis=1).sum() <= 300 < np.diff(whole.train.spans, axis=1).sum()
        assert {tuple(span) for span in text.train.spans} < {tuple(span) for span in whole.train.spans}
        assert any(f"{name} text: {len(text.train)} sentences" in line for line in said)
        assert np.array_equal(text.heldout.spans, whole.heldout.spans)


def test_it_is_chosen_once_and_travels_to_workers(options, tmp_path, monkeypatch):
    run = Run.open(tmp_path / "run", options)
    pipeline.train(run)
    pipeline.search(run, ["1GFLOPs"])
    spans = run.inputs.text.train.spans
    path = run.folder.selection_path
    assert _files(run.inputs)[path.name] == path.read_bytes()
    monkeypatch.setattr("autodistil.run.selected_text.select", lambda *_: pytest.fail("chosen again"))
    again = Run.open(tmp_path / "run", options)
    assert np.array_equal(again.inputs.text.train.spans, spans)
    with pytest.raises((RunError, ConfigError), match="tokens"):
        Run.open(tmp_path / "run", {**options, "tokens": 200})
    assert again.inputs.text.choice is not None
    with again.only_read() as looked_at:
        assert np.array_equal(looked_at.inputs.text.train.spans, spans)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RunError, match="says which text was trained on"):
        _ = Run.open(tmp_path / "run", options).inputs.text.train


def test_looking_at_a_run_that_is_not_begun_leaves_no_record(options, tmp_path):
    with Run.open(tmp_path / "run", options).only_read() as looked_at:
        assert len(looked_at.inputs.text.train)
    assert not (tmp_path / "run" / "run.yaml").exists()


def test_embeddings_of_an_output_teacher_are_of_the_sentences_that_were_chosen(options, sentence_folder, tmp_path):
    """Two choices of as many tokens share no cache: their rows are other sentences."""
    options |= {"output_teacher": str(sentence_folder)}
    for name in ("random", "hard"):
        inputs = Run.open(tmp_path / name, {**options, "select": name}).inputs
        numbers = np.arange(len(inputs.text.train))
        found = inputs.output_targets(numbers).numpy()
        np.testing.assert_allclose(found, inputs.output_teacher.embed(inputs.text.train.take(numbers)), atol=2e-3)


def test_wrong_input_is_one_line(options, tmp_path):
    for changed, said in (
        ({"tokens": None}, "go together"),
        ({"select": None}, "go together"),
        ({"tokens": 0}, "at least 1"),
        ({"select": "hrad"}, "did you mean 'hard'"),
        ({"text_unit": "sequences"}, "is of sentences"),
    ):
        with pytest.raises(ConfigError, match=said) as error:
            _ = Run.open(tmp_path / "run", {**options, **changed}).inputs.text
        assert "\n" not in str(error.value)
