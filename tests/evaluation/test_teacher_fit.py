"""Encoders ranked by how well they fit a task: the one that the labels are of comes first, wrong input is one line."""

import itertools
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModel

from autodistil.cli import main
from autodistil.errors import TaskError, TeacherError
from autodistil.evaluation.embedding import folder_encoder
from autodistil.evaluation.teacher_fit import rank_teachers
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.tasks.finetune import EvaluationSettings
from autodistil.utils import Progress

WORDS = (("red", "old", "new", "far"), ("house", "town", "river", "dog"), ("runs", "is"))
TEXTS = [" ".join(words) for words in itertools.product(*WORDS)]


@pytest.fixture
def two(sentence_folder, tmp_path):
    """Two random encoders."""
    other = tmp_path / "other"
    shutil.copytree(sentence_folder, other)
    torch.manual_seed(5)
    model = AutoModel.from_pretrained(sentence_folder)
    AutoModel.from_config(model.config).save_pretrained(other)
    return [str(sentence_folder), str(other)]


def embedded(folder):
    found = folder_encoder(EvaluatedModel.open(folder))(TEXTS)
    return found - found.mean(0)


def rank(sources, task, data):
    return rank_teachers(sources, task, data, EvaluationSettings(), Progress())


def test_the_encoder_that_the_classes_are_of_fits_best(two, write_task):
    for place, folder in enumerate(two):
        first = np.linalg.svd(embedded(folder))[0][:, 0]
        rows = [(text, str(int(side > 0))) for text, side in zip(TEXTS, first, strict=True)]
        found = rank(two, f"sides{place}", write_task(f"sides{place}", train=rows))
        assert found[0].source == folder
        assert found[0].fit > found[1].fit + 0.05
        assert found[0].dim == 32
        assert found[0].millions == pytest.approx(
            sum(p.numel() for p in AutoModel.from_pretrained(folder).parameters()) / 1e6
        )


def test_pairs_by_their_scores_and_by_their_classes(two, write_task):
    for place, folder in enumerate(two):
        unit = embedded(folder) + folder_encoder(EvaluatedModel.open(folder))(TEXTS).mean(0)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        cosine = (unit * unit[::-1]).sum(1)
        pairs = list(zip(TEXTS, TEXTS[::-1], cosine, strict=True))
        data = write_task(f"scored{place}", train=[(a, b, f"{5 * value:.9f}") for a, b, value in pairs])
        found = rank(two, f"scored{place}", data)
        assert found[0].source == folder
        assert found[0].fit == pytest.approx(1, abs=1e-3)
        classes = [(a, b, "near" if value > np.median(cosine) else "far") for a, b, value in pairs]
        assert all(
            -1 <= one.fit <= 1 for one in rank(two, f"classes{place}", write_task(f"classes{place}", train=classes))
        )


def test_wrong_input(two, write_task, tmp_path, capsys):
    data = write_task("words", header="tokens\ttags", train=[("a town", "O B-LOC"), ("the town", "O B-LOC")])
    with pytest.raises(TaskError, match="classes of words"):
        rank(two, "words", data)
    write_task("dev-only", dev=[("a", "x"), ("b", "y")])
    with pytest.raises(TaskError, match="train"):
        rank(two, "dev-only", data)
    write_task("good", train=[("a", "x"), ("b", "y")])
    with pytest.raises(TeacherError, match="none"):
        rank([two[0], str(tmp_path / "none")], "good", data)
    with pytest.raises(SystemExit):
        main(["teachers", "--rank", two[0]])
    assert "go together" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["teachers", "--rank", two[0], "--rank", two[1], "--task", "good", "--data", str(data)])
    assert "dimensions" in capsys.readouterr().out
