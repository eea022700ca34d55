"""SQuAD's files, good and hostile, and its metrics: values worked out by hand, and what holds of any answers."""

import json
import logging
import string
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.errors import TaskError
from autodistil.tasks import catalogue
from autodistil.tasks.catalogue import TASKS, load_task
from autodistil.tasks.squad import Answer, exact_match, normalised, question_scores, scores_by_kind, token_f1

TEXT = st.text(st.sampled_from("ab AtThe an,.!\t-é"), max_size=20)


def article(*qas, context="The train goes to Paris, and on to Lyon."):
    return {"title": "Trains", "paragraphs": [{"context": context, "qas": list(qas)}]}


def question(text, *answers, **more):
    return {"id": text, "question": text, "answers": [{"text": a, "answer_start": s} for a, s in answers], **more}


WHERE = question("Where does it go?", ("Paris", 18), ("to Paris", 15))
NOWHERE = question("When?", is_impossible=True)


@pytest.fixture
def write(tmp_path):
    def to(name, content):
        path = tmp_path / "trains" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps({"data": content}), encoding="utf-8")
        return tmp_path

    return to


@pytest.mark.parametrize(
    ("right", "answer", "f1", "exact"),
    [
        ("the Eiffel Tower!", "eiffel  tower", 1, 1),
        ("A cat, an owl", "cat owl", 1, 1),
        ("in 1912", "1912", 2 / 3, 0),
        ("Paris Paris Lyon", "Paris", 1 / 2, 0),
        ("Paris", "Lyon", 0, 0),
        ("", "", 1, 1),
        ("", "Paris", 0, 0),
        ("Paris", "", 0, 0),
        ("the", "", 1, 1),
        ("U.S.", "us", 1, 1),
        ("theatre", "atre", 0, 0),
    ],
)
def test_metrics_by_hand(right, answer, f1, exact):
    assert token_f1(right, answer) == pytest.approx(f1)
    assert exact_match(right, answer) == exact


def test_of_several_answers_the_best_counts_and_no_answer_is_the_empty_one():
    right = [[Answer(0, "to Paris"), Answer(0, "Paris")], [], [], [Answer(0, "a"), Answer(0, "Lyon")]]
    found = ["the Paris", "", "Lyon", ""]
    assert question_scores(right, found) == {"token_f1": [1, 1, 0, 0], "exact_match": [1, 1, 0, 0]}
    assert scores_by_kind(right, found) == {
        "answerable": {"questions": 2, "token_f1": 0.5, "exact_match": 0.5},
        "unanswerable": {"questions": 2, "token_f1": 0.5, "exact_match": 0.5},
    }
    assert scores_by_kind(right[:1], found[:1]).keys() == {"answerable"}


def plainly(text):
    """The official normalisation, character by character and word by word."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    words, word = [], ""
    for c in f"{kept} ":
        if c.isalnum():
            word += c
            continue
        words.append("" if word in ("a", "an", "the") else word)
        words.append(c)
        word = ""
    return "".join(words).split()


@given(TEXT, TEXT)
def test_metrics_are_those_of_an_independent_count(right, answer):
    theirs, ours = plainly(right), plainly(answer)
    assert normalised(right) == " ".join(theirs)
    assert exact_match(right, answer) == (theirs == ours)
    common = sum(min(count, ours.count(word)) for word, count in Counter(theirs).items())
    precision, recall = common / max(len(ours), 1), common / max(len(theirs), 1)
    harmonic = 2 * precision * recall / (precision + recall) if common else float(theirs == ours == [])
    assert token_f1(right, answer) == token_f1(answer, right) == pytest.approx(harmonic)
    assert exact_match(right, answer) <= token_f1(right, answer) <= 1


def test_a_folder_of_squad_becomes_a_task_of_spans(write):
    write("train-v2.0.json", [article(WHERE, NOWHERE)])
    data = load_task("trains", write("dev.json", [article(WHERE)]))
    assert (data.task.spans, data.task.pairs, data.task.metrics) == (True, True, ("token_f1", "exact_match"))
    assert data.evaluated.unanswerable, "the task has such questions, if in another split"
    train = data.train()
    assert (train.text_a, train.labels.tolist()) == (("Where does it go?", "When?"), [1, 0])
    assert train.answers == ((Answer(18, "Paris"), Answer(15, "to Paris")), ())
    assert train.take([1]).answers == ((),)
    assert data.scores(data.evaluated, np.array(["Paris"], dtype=object)) == {"token_f1": 1, "exact_match": 1}
    assert not load_task("trains", write("train-v2.0.json", [article(WHERE)])).evaluated.unanswerable
    other = load_task("trains", write("train-v2.0.json", [article(question("Where?", ("Lyon", 35)))]))
    assert other.fingerprint != data.fingerprint


def test_an_answer_is_found_where_it_stands_nearest(write, caplog):
    context = "Lyon, then Paris, then Lyon."
    near = question("Where?", ("Lyon", 20), (" Paris ", 10), ("Lyon", -1))
    there = question("Where to?", ("Paris", 11), id=3)
    with caplog.at_level(logging.WARNING):
        data = load_task("trains", write("dev.json", [article(there, near, context=context)]))
    assert data.evaluated.answers[1] == (Answer(23, "Lyon"), Answer(11, "Paris"), Answer(0, "Lyon"))
    (said,) = caplog.messages
    assert "dev.json': 2 of 4 answers do not start at their answer_start, the first to question 2 (id Where?)" in said
    caplog.clear()
    load_task("trains", write("dev.json", [article(there, context=context)]))
    assert not caplog.messages


def test_questions_may_have_no_id(write):
    asked = [question("Where?", ("Paris", 18), id=known) for known in (None, None, "", "")]
    del asked[0]["id"]
    assert len(load_task("trains", write("dev.json", [article(*asked)])).evaluated) == 4


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "is no SQuAD JSON"),
        ("[]", "is no SQuAD JSON"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "is no SQuAD JSON .*context"),
        ([article(WHERE, context=3)], r"the context of question 1 \(id Where does it go\?\) of .* is '3' and no text"),
        ([article({"question": "Where?"})], "question 1 of paragraph 1 of article 1: no 'answers'"),
        (
            [article(), article(WHERE, {"id": 7})],
            r"question 2 \(id 7\) of paragraph 1 of article 2: no 'answers'",
        ),
        ([article(WHERE, question(" ", id="w\n2"))], r"the question of question 2 \(id w 2\) of .* is empty"),
        ([article(WHERE, context="\n")], r"the context of question 1 \(id Where does it go\?\) of .* is empty"),
        ([], "holds no question"),
        ([article()], "holds no question"),
        ([article(question("Where?", ("Rome", 18)))], r"the answer 'Rome' to question 1 \(id Where\?\) .* not stand"),
        ([article(question("Where?", ("", 18)))], "an answer to question 1 .* is empty; allowed: some text"),
        ([article(question("Where?", (7, 18)))], "an answer to question 1 .* is '7' and no text"),
        ([article(question("Where?", ("Paris", "x")))], r"question 1 \(id Where\?\) of paragraph 1 .*: ValueError"),
        ([article(WHERE, "When?")], "question 2 of paragraph 1 of article 1: AttributeError"),
        ([article(WHERE), {"title": ""}], "article 2: no 'paragraphs'"),
        (
            [article(question("Where?", id=5)), article(NOWHERE, question("When?", id="5"))],
            r"^question 1 \(id 5\) of paragraph 1 of article 1 has the id of question 2 \(id 5\) of paragraph 1 of "
            r"article 2 in task file '.*dev.json'; allowed: each once; leave",
        ),
    ],
)
def test_a_bad_file_is_one_line(content, expected, write):
    with pytest.raises(TaskError, match=expected) as caught:
        load_task("trains", write("dev.json", content))
    assert "\n" not in str(caught.value)


def test_what_is_there_twice_or_not_at_all_is_one_line(write, write_task):
    data = write("train.json", [article(WHERE)])
    with pytest.raises(TaskError, match="has no dev and no test split"):
        load_task("trains", data)
    write("train-v1.1.json", [article(WHERE)])
    with pytest.raises(TaskError, match=r"several files of train \(train-v1.1.json, train.json\)"):
        load_task("trains", data)
    with pytest.raises(TaskError, match="task 'squad' is of spans; give"):
        load_task("squad", write_task("squad", dev=[("a", "0"), ("b", "1")]))


def test_squad_comes_from_the_hub(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    rows = [
        {"id": "1", "question": "Where?", "context": "To Paris.", "answers": {"text": ["Paris"], "answer_start": [3]}},
        {"id": "2", "question": "When?", "context": "To Paris.", "answers": {"text": [], "answer_start": []}},
    ]
    for split in ("train", "validation"):
        (tmp_path / "set" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    hub = replace(TASKS["squad_v2"].hub, name=str(tmp_path / "set"))
    monkeypatch.setattr(catalogue, "TASKS", {"squad_v2": replace(TASKS["squad_v2"], hub=hub)})
    data = load_task("squad_v2")
    assert data.train().answers == ((Answer(3, "Paris"),), ())
    assert data.evaluated.unanswerable
    assert data.origin.startswith("hf:")
    (tmp_path / "set" / "validation.jsonl").write_text("\n".join(map(json.dumps, rows + rows[1:])))
    with pytest.raises(TaskError, match=r"^row 2 \(id 2\) has the id of row 3 \(id 2\) in validation of .*set'"):
        load_task("squad_v2")
