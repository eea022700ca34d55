"""Results as JSON and in the model card: whole, merged, replaced in place; nothing else is touched."""

import json
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from autodistil.errors import RunError
from autodistil.evaluation.results import (
    TaskResult,
    baseline_words,
    mean_and_spread,
    merge,
    read_results,
    summary,
    update_card,
    with_section,
    write_results,
)

CARD = """---
license: apache-2.0
library_name: transformers
tags:
- autodistil
- bert
---

# tiny-L2

A student.

## Limits

It has some.
"""
RESULT = TaskResult(
    task="mrpc",
    method="finetune",
    split="dev",
    rows=408,
    train_rows=3668,
    metrics={"f1": (0.8, 0.9), "accuracy": (0.7, 0.75)},
    model="abc",
    data={"origin": "glue/mrpc (local)", "fingerprint": "def"},
    settings={"max_length": 128},
    details={"best_epoch": [1, 3], "last": {}},
    standard_error={"accuracy": 0.0221},
    baseline={"f1": 0.8122, "accuracy": 0.6838},
)
PROBE = replace(
    RESULT, task="cola", method="probe", metrics={"matthews": (0.25,)}, standard_error={}, baseline={"matthews": 0.0}
)


def test_mean_and_sample_standard_deviation():
    assert summary([0.8, 0.9]) == {"values": [0.8, 0.9], "mean": pytest.approx(0.85), "std": pytest.approx(0.0707107)}
    assert summary([0.8])["std"] is None
    assert mean_and_spread([0.8, 0.9]) == "0.8500 ± 0.0707"
    assert mean_and_spread([0.8], 100, 1) == "80.0"


def test_results_come_back_from_json(tmp_path):
    path = write_results(tmp_path, [RESULT, PROBE])
    assert read_results(tmp_path) == [RESULT, PROBE]
    row = json.loads(path.read_text())["results"][0]
    assert row["headline"] == "f1"
    assert row["seeds"] == 2
    assert row["metrics"]["f1"]["mean"] == pytest.approx(0.85)
    assert row["versions"]["scikit-learn"]
    assert [p.name for p in tmp_path.iterdir()] == ["evaluation.json"]


def test_results_of_earlier_releases_are_read_without_what_they_lack(tmp_path):
    path = write_results(tmp_path, [RESULT])
    content = json.loads(path.read_text())
    for name in ("standard_error", "baseline"):
        del content["results"][0][name]
    path.write_text(json.dumps(content))
    old = replace(RESULT, standard_error={}, baseline={})
    assert read_results(tmp_path) == [old]
    text = with_section("# x\n", merge(read_results(tmp_path), [PROBE]))
    assert "| mrpc | fine-tuning, best dev epoch | dev | 408 | 3,668 | accuracy | 0.7250 ± 0.0354 | - | - | 2 |" in text
    write_results(tmp_path, [old])
    assert read_results(tmp_path) == [old]


def test_a_newer_result_takes_the_place_of_the_same_task_and_method():
    newer = replace(RESULT, metrics={"f1": (0.5,)})
    assert merge([RESULT, PROBE], [newer]) == [PROBE, newer]
    assert merge([RESULT], [replace(RESULT, method="probe")]) == [RESULT, replace(RESULT, method="probe")]
    assert merge([], []) == []


def test_results_of_other_weights_are_dropped():
    assert merge([RESULT], [replace(PROBE, model="other")]) == [replace(PROBE, model="other")]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"results": 1}', '{"results": [{"task": "mrpc"}]}', '{"results": [null]}', '{"results": ["x"]}'],
)
def test_a_damaged_file_is_one_clear_line(content, tmp_path):
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(RunError, match=r"^[^\n]*is damaged[^\n]*$"):
        read_results(tmp_path)


def test_the_card_gets_a_section_before_its_limits(tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    assert update_card(tmp_path, [RESULT])
    text = (tmp_path / "README.md").read_text()
    row = "| mrpc | fine-tuning, best dev epoch | dev | 408 | 3,668 | "
    assert row + "f1 | 0.8500 ± 0.0707 | - | 0.8122 | 2 |" in text
    assert row + "accuracy | 0.7250 ± 0.0354 | 0.0221 | 0.6838 | 2 |" in text
    assert text.index("A student.") < text.index("## Task results") < text.index("## Limits\n\nIt has some.\n")


def test_the_baseline_of_spans_is_said_as_one_of_spans():
    spans = replace(RESULT, task="squad", data={"task_type": "question-answering"})
    entities = replace(RESULT, data={"task_type": "token-classification"})
    said = "finding no answer to any question (right where its text has none)"
    assert baseline_words([spans]) == said
    assert baseline_words([RESULT, entities]) == "always answering the most frequent class"
    assert baseline_words([RESULT, spans]) == f"always answering the most frequent class; for questions, {said}"
    card = with_section("# x\n", [spans])
    assert f"The baseline is {said}. The best epoch" in card
    assert "frequent class" not in card


def test_the_section_is_replaced_in_place(tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    update_card(tmp_path, [RESULT])
    once = (tmp_path / "README.md").read_text()
    update_card(tmp_path, [RESULT])
    assert (tmp_path / "README.md").read_text() == once
    update_card(tmp_path, [PROBE])
    text = (tmp_path / "README.md").read_text()
    assert text.count("## Task results") == 1
    assert "mrpc" not in text
    assert "| cola | linear probe |" in text


def test_a_card_without_limits_gets_the_section_at_its_end():
    assert with_section("# x\n\ntext\n\n\n", [PROBE]).startswith(
        "# x\n\ntext\n\n<!-- autodistil evaluate: begin -->\n## Task"
    )
    again = with_section(with_section("# x\n", [PROBE]), [PROBE])
    assert again == with_section("# x\n", [PROBE])


def test_the_hub_reads_the_figures_and_keeps_those_of_others(tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    update_card(tmp_path, [RESULT])
    card = ModelCard.load(tmp_path / "README.md")
    foreign = replace(card.data.eval_results[0], metric_name="someone's")
    card.data.eval_results = [foreign, *card.data.eval_results]
    card.save(tmp_path / "README.md")
    update_card(tmp_path, [PROBE])
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.license == "apache-2.0"
    assert data.tags == ["autodistil", "bert"]
    values = {
        (r.dataset_type, r.dataset_config, r.dataset_split, r.metric_name, r.metric_value) for r in data.eval_results
    }
    assert values == {
        ("nyu-mll/glue", "mrpc", "validation", "someone's", foreign.metric_value),
        ("nyu-mll/glue", "cola", "validation", "autodistil evaluate: matthews (linear probe)", 0.25),
    }


def test_a_folder_without_a_card_gets_none(tmp_path):
    assert not update_card(tmp_path, [RESULT])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("matter", ["- a\n- b", "a: [", "model-index: 3"])
def test_damaged_front_matter_is_one_clear_line_and_kept(matter, tmp_path):
    (tmp_path / "README.md").write_text(f"---\n{matter}\n---\n# x\n")
    with pytest.raises(RunError, match=r"^[^\n]*front matter[^\n]*$"):
        update_card(tmp_path, [RESULT])
    assert (tmp_path / "README.md").read_text() == f"---\n{matter}\n---\n# x\n"
