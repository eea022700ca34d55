"""A proxy task reads the train split and nothing else; each method scores rows that it was not fitted on."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autodistil.errors import RunError, TaskError
from autodistil.evaluation import proxy_task as proxy
from autodistil.evaluation.embedding import every_nth
from autodistil.evaluation.evaluate import METHODS
from autodistil.evaluation.proxy_task import ProxyScores, load_proxy
from autodistil.models.hf_folder import EvaluatedModel

SINGLE = [(f"a {'good' if i % 2 else 'bad'} day number {i}", str(i % 2)) for i in range(24)]
PAIRS = [(f"text {i}", f"text {i * i % 7}", f"{i * 0.3:.1f}") for i in range(12)]
UNSEEN = "\x00 no columns at all"
"""What stands in the files that must not be read."""


class LetterModel:
    """Embeddings that count letters; no folder."""

    device = torch.device("cpu")

    def encoder(self):
        return lambda texts: np.array([[text.count("g"), text.count("b"), len(text)] for text in texts], dtype=float)

    def exported(self):
        raise AssertionError("only finetune needs a folder")


class FolderModel(LetterModel):
    """A folder; no embeddings."""

    def __init__(self, folder):
        self.folder = folder

    @contextmanager
    def exported(self):
        yield EvaluatedModel.open(str(self.folder))


@pytest.fixture
def data(write_task):
    write_task("cr", train=SINGLE)
    write_task("test-only", test=SINGLE)
    write_task("tiny", train=[("a", "0"), ("b", "1"), ("c", "0"), ("d", "0")])
    write_task("one-label", train=[("a", "0"), ("b", "0")])
    folder = write_task("stsb", train=PAIRS)
    for split in ("dev", "test"):
        for task in ("cr", "stsb"):
            (folder / task / f"{split}.tsv").write_text(UNSEEN)
    return folder


@pytest.mark.parametrize(("task", "method"), [("stsb", "similarity"), ("cr", "probe")])
def test_default_methods_score_from_the_train_split_alone(data, task, method):
    loaded = load_proxy(task, data)
    assert loaded.method == method
    value = loaded.score(LetterModel())
    assert -1 <= value <= 1
    for split in ("dev", "test"):
        (data / task / f"{split}.tsv").unlink()
    again = load_proxy(task, data)
    assert (again.protocol, again.score(LetterModel())) == (loaded.protocol, value)


def test_a_probe_learns_what_the_embeddings_hold(data):
    assert load_proxy("cr", data).score(LetterModel()) == 1.0


def test_a_probe_of_scores_is_a_regression(data):
    loaded = load_proxy("stsb", data, "probe")
    assert (len(loaded.data.splits["train"]), len(loaded.data.evaluated)) == (8, 4)
    assert -1 <= loaded.score(LetterModel()) <= 1


@pytest.mark.parametrize("task", ["cr", "stsb"])
def test_fine_tuning_scores_a_folder_and_is_the_same_each_time(data, tiny_bert, task):
    loaded = load_proxy(task, data, "finetune")
    values = [loaded.score(FolderModel(tiny_bert)) for _ in range(2)]
    assert values[0] == values[1]
    assert loaded.protocol["settings"] == {"learning_rates": [3e-4], "epochs": 3}


def test_a_large_task_is_cut_to_the_same_rows_each_time(data, monkeypatch):
    monkeypatch.setattr(proxy, "PROXY_ROWS", 9)
    first, second = (load_proxy("cr", data) for _ in range(2))
    assert first.protocol["scored_rows"] + first.protocol["fitted_rows"] == 9
    assert first.data.evaluated.text_a == second.data.evaluated.text_a


def test_scored_rows_are_never_fitted(data):
    splits = load_proxy("cr", data).data.splits
    assert not set(splits["train"].text_a) & set(splits["dev"].text_a)
    assert len(splits["train"]) + len(splits["dev"]) == len(SINGLE)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(2, 5))
def test_every_nth_row_of_each_class_is_held_out(labels, n):
    labels = np.array(labels)
    held = every_nth(n, labels, regression=False)
    for label in np.unique(labels):
        assert held[labels == label].sum() == (labels == label).sum() // n


@pytest.mark.parametrize(
    ("task", "method", "expected"),
    [
        ("stbs", None, "did you mean 'stsb'"),
        ("test-only", None, "has no train split"),
        ("one-label", None, "one label"),
        ("tiny", None, "too few to train on some and score others"),
        ("cr", "similarity", "use --proxy-method probe or finetune"),
        ("../cr", None, "not a plain name"),
        ("ag_news_small", None, "no folder of --data"),
    ],
)
def test_tasks_that_cannot_rank_are_one_line(data, task, method, expected):
    with pytest.raises(TaskError, match=expected) as caught:
        load_proxy(task, data, method)
    assert "\n" not in str(caught.value)


def test_there_is_a_method_for_every_allowed_name():
    from autodistil.config import OPTIONS

    assert set(OPTIONS["proxy_method"].choices) < set(METHODS)  # not those of test sets, which no student is picked by


# ---- kept scores


def test_scores_are_kept_by_protocol(tmp_path):
    path = tmp_path / "proxy.json"
    first = ProxyScores.open(path, {"task": "a", "rates": [1e-4]})
    first.add("x", 0.1)
    first.add("y", 0.25)
    ProxyScores.open(path, {"task": "b"}).add("x", 0.5)
    assert ProxyScores.open(path, {"task": "a", "rates": [1e-4]}).known == {"x": 0.1, "y": 0.25}
    assert ProxyScores.open(path, {"task": "b"}).known == {"x": 0.5}
    assert ProxyScores.open(path, {"task": "c"}).known == {}


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"proxies": 3}', '{"proxies": [{"protocol": {}, "scores": {"x": NaN}}]}']
)
def test_damaged_scores_are_one_line(tmp_path, text):
    path = tmp_path / "proxy.json"
    path.write_text(text)
    with pytest.raises(RunError, match="is damaged"):
        ProxyScores.open(path, {})
    assert path.read_text() == text


def test_a_failed_write_keeps_the_scores_that_were_there(tmp_path, monkeypatch):
    path = tmp_path / "proxy.json"
    scores = ProxyScores.open(path, {"task": "a"})
    scores.add("x", 0.1)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(RunError, match="disk is full"):
        scores.add("y", 0.2)
    assert json.loads(path.read_text())["proxies"][0]["scores"] == {"x": 0.1}
