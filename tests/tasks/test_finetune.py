"""Fine-tuning learns what can be learnt, repeats itself, and reports the best epoch and the last as such."""

import numpy as np
import pytest
import torch
from autodistil_helpers import FAMILY_CONFIGS
from transformers import AutoModel, AutoTokenizer

from autodistil.errors import DivergedError, TaskError
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.tasks.calibration import calibration_error, probabilities
from autodistil.tasks.catalogue import load_task
from autodistil.tasks.finetune import EvaluationSettings, FineTuned, default_epochs, fine_tune, scored
from autodistil.utils import Progress

WORDS = ("river", "stone", "tree", "cloud", "road", "house")


def sentences(count, seed):
    draw = np.random.default_rng(seed)
    for _ in range(count):
        good = bool(draw.integers(2))
        words = [*draw.choice(WORDS, 3), "good" if good else "bad"]
        yield " ".join(draw.permutation(words)), good


def settings(**options):
    return EvaluationSettings(**{"epochs": 3, "batch_size": 16, "learning_rates": (1e-2,), "max_length": 16, **options})


def task_data(write_task, rows=160):
    splits = {"train": sentences(rows, 0), "dev": sentences(60, 1)}
    return load_task("mine", write_task("mine", **{s: [(t, str(int(g))) for t, g in r] for s, r in splits.items()}))


def test_it_learns_a_trivial_task(tiny_bert, write_task):
    state = torch.random.get_rng_state()
    model, data = EvaluatedModel.open(str(tiny_bert)), task_data(write_task)
    tuned = fine_tune(model, data, settings(epochs=5), [0, 1], Progress())
    assert all(scores["accuracy"] > 0.95 for scores in tuned.best)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_classes_have_a_calibration_error_and_scores_none(write_task):
    data, logits = task_data(write_task), np.random.default_rng(0).normal(size=(60, 2))
    found = scored(data, data.evaluated, logits)
    assert list(found) == ["accuracy", "ece"]
    assert found["ece"] == calibration_error(data.evaluated.labels, probabilities(logits))
    data = scored_data(write_task)
    assert list(scored(data, data.evaluated, logits[:, :1])) == ["spearman", "pearson"]


def scored_data(write_task, rows=160):
    splits = {"train": sentences(rows, 0), "dev": sentences(60, 1)}
    scored = {split: [(text, "a word", str(4.5 if good else 0.5)) for text, good in r] for split, r in splits.items()}
    return load_task("scored", write_task("scored", **scored))


def test_it_learns_scores_of_pairs(tiny_bert, write_task):
    data = scored_data(write_task)
    tuned = fine_tune(EvaluatedModel.open(str(tiny_bert)), data, settings(epochs=4), [0], Progress())
    assert tuned.best[0]["spearman"] > 0.8


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(tiny_bert, write_task):
    model, data = EvaluatedModel.open(str(tiny_bert)), scored_data(write_task, 60)
    options = settings(epochs=2, learning_rates=(1e-3,))
    first, again, other = (fine_tune(model, data, options, [seed], Progress()).epochs for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_learning_rate_is_chosen_by_the_mean_over_seeds(tiny_bert, write_task):
    options = settings(learning_rates=(1e-7, 1e-2), epochs=2, max_train=100)
    tuned = fine_tune(EvaluatedModel.open(str(tiny_bert)), task_data(write_task), options, [0, 1], Progress())
    assert tuned.learning_rate == 1e-2
    assert tuned.grid.keys() == {1e-7, 1e-2}
    assert tuned.grid[1e-2] == pytest.approx(np.mean([scores["accuracy"] for scores in tuned.best]))
    assert tuned.grid[1e-7] < tuned.grid[1e-2]
    assert tuned.train_rows == 100


@pytest.fixture
def diverging(monkeypatch):
    """Fine-tuning whose gradients are NaN at the rate 0.5."""
    original = torch.optim.AdamW.__init__

    def spoil(self, groups, lr, **options):
        original(self, groups, lr=lr, **options)
        if lr == 0.5:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.register_hook(lambda gradient: gradient * float("nan"))

    monkeypatch.setattr(torch.optim.AdamW, "__init__", spoil)


def test_a_learning_rate_that_diverges_is_out_and_none_left_is_an_error(tiny_bert, write_task, diverging):
    model, data = EvaluatedModel.open(str(tiny_bert)), task_data(write_task, 60)
    tuned = fine_tune(model, data, settings(epochs=1, learning_rates=(0.5, 1e-2)), [0, 1], Progress())
    assert tuned.learning_rate == 1e-2
    assert tuned.grid.keys() == {1e-2}
    assert len(tuned.epochs) == 2
    options = settings(epochs=1, learning_rates=(0.5,))
    with pytest.raises(DivergedError, match=r"fine-tuning on mine diverged at every learning rate \(0\.5\)"):
        fine_tune(model, data, options, [0], Progress())


def test_best_and_last_epoch_are_told_apart():
    runs = tuple(tuple({"f1": value} for value in run) for run in ([0.1, 0.9, 0.5], [0.7, 0.7, 0.6]))
    tuned = FineTuned(1e-4, runs, {1e-4: 0.8}, 10, "f1")
    assert tuned.best_epochs == (2, 1)
    assert [scores["f1"] for scores in tuned.best] == [0.9, 0.7]
    assert [scores["f1"] for scores in tuned.last] == [0.5, 0.6]


@pytest.mark.parametrize("family", ["roberta", "electra", "distilbert"])
def test_every_family_gets_a_head(family, write_task, tmp_path, quickstart_teacher_dir):
    config = FAMILY_CONFIGS[family]()
    config.vocab_size = 30522
    AutoModel.from_config(config).save_pretrained(tmp_path / family)
    AutoTokenizer.from_pretrained(quickstart_teacher_dir).save_pretrained(tmp_path / family)
    rows = [(text, text, str(int(good))) for text, good in sentences(20, 0)]
    data = load_task("pairs", write_task("pairs", train=rows, dev=rows))
    tuned = fine_tune(EvaluatedModel.open(str(tmp_path / family)), data, settings(epochs=1), [0], Progress())
    assert 0 <= tuned.best[0]["accuracy"] <= 1


def test_it_needs_a_training_split(tiny_bert, write_task):
    data = load_task("cola", write_task("cola", dev=[("x", "1"), ("y", "0")]))
    with pytest.raises(TaskError, match="no train split"):
        fine_tune(EvaluatedModel.open(str(tiny_bert)), data, settings(), [0], Progress())


@pytest.mark.parametrize(("rows", "epochs"), [(100, 5), (9_999, 5), (10_000, 4), (67_000, 3)])
def test_small_sets_get_more_epochs(rows, epochs):
    assert default_epochs(rows) == epochs
