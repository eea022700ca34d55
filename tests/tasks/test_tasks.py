"""Tasks from files, good and hostile, and from the Hub."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.errors import AutodistilError, TaskError
from autodistil.tasks import catalogue as tasks
from autodistil.tasks.catalogue import METRICS, TASKS, load_task
from autodistil.tasks.labelled_rows import HubTable, read_rows
from autodistil.tasks.squad import SPAN_METRICS

BINARY = [("a good day", "1"), ("a bad day", "0"), ("fine", "1")]
SCORED = [("a cat", "a dog", "1.5"), ("a cat", "a cat", "5"), ("x", "y", "0")]


def test_every_task_of_the_table_can_be_scored():
    assert {"cola", "sst2", "mrpc", "stsb", "rte", "wnli", "qnli", "qqp", "mnli"} <= TASKS.keys()
    assert {f"sts{year}" for year in range(12, 17)} <= TASKS.keys()
    for task in TASKS.values():
        assert set(task.metrics) <= (set(SPAN_METRICS) if task.spans else METRICS.keys())
        assert task.hub is None or len(task.hub.columns) == 1 + task.pairs
    assert [TASKS[name].headline for name in ("cola", "mrpc", "stsb", "sst2")] == [
        "matthews",
        "f1",
        "spearman",
        "accuracy",
    ]


def test_a_single_text_task(write_task):
    data = load_task("cola", write_task("glue/cola", train=BINARY, dev=BINARY[:2]))
    assert data.task is TASKS["cola"]
    assert data.classes == ("0", "1")
    assert data.splits["train"].labels.tolist() == [1, 0, 1]
    assert data.evaluated_name == "dev"
    assert data.evaluated.text_a == ("a good day", "a bad day")
    assert data.evaluated.text_b is None
    assert data.origin == "glue/cola (local)"


def test_a_quote_is_a_plain_character_and_columns_go_by_name(write_task):
    rows = [('"an open quote', "1"), ("next", "0")]
    data_dir = write_task("quotes", header="label\ttext_a", dev=[row[::-1] for row in rows])
    assert load_task("quotes", data_dir).evaluated.text_a == ('"an open quote', "next")


def test_sts_is_scored_on_test(write_task):
    data = load_task("sts12", write_task("extra/sts12", test=SCORED))
    assert data.evaluated_name == "test"
    assert data.evaluated.labels.tolist() == [1.5, 5.0, 0.0]
    assert data.evaluated.text_b == ("a dog", "a cat", "y")


@pytest.mark.parametrize(
    ("rows", "pairs", "regression", "metrics"),
    [
        (BINARY, False, False, ("accuracy",)),
        (SCORED, True, True, ("spearman", "pearson")),
        ([("x", "10"), ("y", "9"), ("z", "2")], False, False, ("accuracy",)),
        ([("x", "y", "0.5"), ("x", "z", "low")], True, False, ("accuracy",)),
    ],
)
def test_an_unknown_folder_becomes_a_task(rows, pairs, regression, metrics, write_task):
    data = load_task("mine", write_task("mine", train=rows, dev=rows))
    assert (data.task.pairs, data.task.regression, data.task.metrics) == (pairs, regression, metrics)


def test_a_column_score_makes_whole_numbers_scores(write_task):
    rows = [("a question", "an answer", "1"), ("a question", "another", "0"), ("a", "b", "3")]
    classes = load_task("mine", write_task("mine", dev=rows))
    scores = load_task("mine", write_task("mine", header="text_a\ttext_b\tscore", dev=rows))
    assert scores.task.regression
    assert (scores.evaluated.labels.tolist(), scores.classes) == ([1.0, 0.0, 3.0], ())
    assert classes.classes == ("0", "1", "3")
    assert classes.fingerprint != scores.fingerprint


def test_classes_may_be_called_nan_where_others_are_words(write_task):
    assert load_task("bread", write_task("bread", dev=[("x", "nan"), ("y", "roti")])).classes == ("nan", "roti")


def test_a_collection_is_no_task_of_rows(tmp_path):
    (tmp_path / "faq").mkdir()
    (tmp_path / "faq" / "corpus.jsonl").touch()
    with pytest.raises(TaskError, match="task 'faq' is a collection to search"):
        load_task("faq", tmp_path)


def test_a_folder_of_tagged_words_becomes_a_task_of_words(write_task):
    header, rows = "tags\ttokens\tmore", [("O B-x I-y", "a  b c", "1"), ("B-y", "d", "2"), ("O", "e", "3")]
    data = load_task("mine", write_task("mine", header=header, train=rows, dev=rows[:2]))
    assert data.task.words
    assert data.task.metrics == ("entity_f1", "precision", "recall")
    assert data.classes == ("O", "B-x", "I-x", "B-y", "I-y"), "both tags of each type, those too that train lacks"
    train = data.train()
    assert (len(train), train.words.tolist(), train.labels.tolist()) == (3, [3, 1, 1], [0, 1, 4, 3, 0])
    part = train.take([1, 0])
    assert (part.text_a, part.words.tolist(), part.labels.tolist()) == (("d", "a  b c"), [1, 3], [3, 0, 1, 4])
    assert [row.tolist() for row in part.by_row(part.labels)] == [[3], [0, 1, 4]]
    assert len(data.train(2)) == 2
    assert data.scores(part, np.array([3, 0, 1, 0])) == pytest.approx(
        {"entity_f1": 0.8, "precision": 1.0, "recall": 2 / 3}
    )


def test_a_tag_of_dev_whose_type_train_lacks_is_refused(write_task):
    splits = {"train": [("a b", "O B-x")], "dev": [("a b", "I-x O"), ("c", "B-z")]}
    with pytest.raises(TaskError, match="row 2 of dev of task 'mine' has the label 'B-z'; allowed: those of the first"):
        load_task("mine", write_task("mine", header="tokens\ttags", **splits))


def test_splits_of_two_kinds_are_refused(write_task):
    write_task("mine", header="tokens\ttags", train=[("a b", "O B-x")])
    with pytest.raises(TaskError, match=r"dev of task 'mine' .* has the columns text_a, label, but the task is one of"):
        load_task("mine", write_task("mine", dev=BINARY))


def test_classes_that_are_numbers_are_in_the_order_of_numbers(write_task):
    rows = [("x", "10"), ("y", "9"), ("z", "2")]
    assert load_task("mine", write_task("mine", dev=rows)).classes == ("2", "9", "10")


@pytest.mark.parametrize(
    ("task", "content", "expected"),
    [
        ("cola", "sentence\tlabel\nx\t1\n", "no column text_a"),
        ("cola", "text_a,label\nx,1\n", "no column text_a and no column label"),
        ("cola", "", "no column text_a"),
        ("cola", "text_a\tlabel\n", "no rows"),
        ("cola", "text_a\tlabel\nx\t1\ny\n", "line 3 has 1 fields"),
        ("cola", "text_a\tlabel\nx\ty\t1\n", "line 2 has 3 fields"),
        ("cola", "text_a\tlabel\n\n", "line 2 has 1 fields"),
        ("cola", "text_a\tlabel\nx\t1\ny\t1\n", "one label only"),
        ("cola", b"text_a\tlabel\n\xff\xfe\t1\n", "not UTF-8"),
        ("mrpc", "text_a\tlabel\nx\t1\ny\t0\n", "no column text_b"),
        ("mrpc", "text_a\ttext_b\tlabel\nx\ty\tyes\nx\ty\tno\n", "allowed: '0' and '1'"),
        ("stsb", "text_a\ttext_b\tlabel\nx\ty\t1\nx\ty\tmany\n", "row 2 of dev of task 'stsb' has the label 'many'"),
        ("stsb", "text_a\ttext_b\tlabel\nx\ty\t1\nx\ty\tinf\n", "allowed: a finite number"),
        ("stsb", "text_a\ttext_b\tlabel\nx\ty\t2\nx\ty\t2\n", "one label only"),
        ("mine", "tokens\ttags\na b\tO B-x\nc d\tO\n", "row 2 of dev of task 'mine' has 2 tokens and 1 tags"),
        ("mine", "tokens\ttags\na b\tO B-x\nc\tS-x\n", "row 2 of dev of task 'mine' has the tag 'S-x'; allowed: O"),
        (
            "mine",
            "text_a\tlabel\nx\t0.5\nz\tnan\n",
            "has the label 'nan'; allowed: a finite number",
        ),
        ("mine", "text_a\tscore\nx\t1\nz\tnan\n", "has the label 'nan'; allowed: a finite number"),
        (
            "mine",
            "text_a\tlabel\nx\t1\ny\t0\nz\tnan\n",
            "row 3 of dev of task 'mine' has the label 'nan'",
        ),
        ("mine", "text_a\tlabel\nx\tyes\ny\tno\nz\t\n", "row 3 of dev of task 'mine' has the label ''; allowed: those"),
        ("mine", "text_a\tlabel\nx\t\ny\t\n", "dev of task 'mine' has one label only"),
        ("mine", "tokens\ttags\na b\tO O\n", "one label only"),
        ("mine", "tokens\tlabel\na b\tO O\n", "no column tags"),
        ("cola", "tokens\ttags\na b\tO B-x\n", "has the columns tokens, tags, but the task is one of text_a, label"),
    ],
)
def test_hostile_files_are_one_clear_line(task, content, expected, tmp_path):
    path = tmp_path / task / "dev.tsv"
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TaskError, match=r"^[^\n]*$") as caught:
        load_task(task, tmp_path)
    assert expected in str(caught.value)


def test_a_label_of_dev_that_train_lacks_is_refused(write_task):
    with pytest.raises(TaskError, match="row 1 of dev of task 'sst2' has the label 'neutral'"):
        load_task("sst2", write_task("sst2", train=BINARY, dev=[("x", "neutral"), ("y", "1")]))


def test_nothing_to_evaluate_is_refused(write_task):
    with pytest.raises(TaskError, match="no dev and no test split"):
        load_task("sst2", write_task("sst2", train=BINARY))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stbs", "did you mean 'stsb'"),
        ("nothing-like-it", "is unknown; allowed: cola"),
        ("cr", "not on the Hub"),
        ("../cola", "not a plain name"),
        ("", "not a plain name"),
        (".", "not a plain name"),
        ("..", "not a plain name"),
    ],
)
def test_unknown_names_are_one_clear_line(name, expected, tmp_path):
    with pytest.raises(TaskError, match=r"^[^\n]*$") as caught:
        load_task(name, tmp_path)
    assert expected in str(caught.value)


def test_a_missing_data_folder_is_said(tmp_path):
    with pytest.raises(TaskError, match="does not exist"):
        load_task("cola", tmp_path / "nowhere")


def test_without_train_there_is_no_training(write_task):
    data = load_task("cola", write_task("cola", dev=BINARY))
    with pytest.raises(TaskError, match="no train split"):
        data.train()


def test_a_part_of_train_is_drawn_by_seed_and_keeps_its_order(write_task):
    rows = [(f"text {i}", str(i % 2)) for i in range(100)]
    data = load_task("mine", write_task("mine", train=rows, dev=rows[:2]))
    parts = [data.train(30, seed) for seed in (0, 0, 1)]
    assert [len(part) for part in parts] == [30, 30, 30]
    assert parts[0].text_a == parts[1].text_a != parts[2].text_a
    numbers = [int(text.split()[1]) for text in parts[0].text_a]
    assert numbers == sorted(set(numbers))
    assert parts[0].labels.tolist() == [number % 2 for number in numbers]
    assert data.train(1000) is data.train() is data.splits["train"]


def test_the_fingerprint_sees_a_changed_label(write_task):
    before = load_task("mine", write_task("mine", dev=BINARY)).fingerprint
    assert load_task("mine", write_task("mine", dev=BINARY)).fingerprint == before
    assert load_task("mine", write_task("mine", dev=[("a good day", "0"), *BINARY[1:]])).fingerprint != before


FIELD = st.text(st.characters(blacklist_characters="\t\n\r", blacklist_categories=("Cs",)), max_size=12)


@given(rows=st.lists(st.tuples(FIELD, FIELD, FIELD), min_size=1, max_size=8))
def test_any_text_without_tabs_and_line_ends_comes_back(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "dev.tsv"
    path.write_text("\n".join("\t".join(row) for row in [("text_a", "text_b", "label"), *rows]), encoding="utf-8")
    read = read_rows(path)
    assert list(zip(read.text_a, read.text_b, read.labels, strict=True)) == rows


def test_a_task_comes_from_the_hub(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    source = tmp_path / "set"
    source.mkdir()
    for split in ("train", "validation"):
        (source / f"{split}.jsonl").write_text('{"s": "yes", "y": 1}\n{"s": "no", "y": 0}\n{"s": "aye", "y": 1}\n')
    splits = MappingProxyType({"train": "train", "dev": "validation"})
    task = replace(TASKS["sst2"], hub=HubTable(str(source), None, ("s",), "y", splits))
    monkeypatch.setattr(tasks, "TASKS", {"sst2": task})
    data = load_task("sst2")
    assert data.evaluated.text_a == ("yes", "no", "aye")
    np.testing.assert_array_equal(data.splits["train"].labels, [1, 0, 1])
    assert data.origin.startswith("hf:")


def test_an_unreachable_hub_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(AutodistilError, match=r"^[^\n]*give --data a folder that holds the task$"):
        load_task("rte", tmp_path)
