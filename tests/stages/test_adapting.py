"""Fine-tuned students to keep: figures of rows that chose nothing, what users load, resuming, wrong input."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from run_helpers import save_random_bert
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline
from variants import slow_but

from autodistil.cli import main
from autodistil.errors import ConfigError, ExportError, TaskError, TeacherError
from autodistil.evaluation.evaluate import evaluate
from autodistil.export.adapted_folder import read_adaptation
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.teacher import load_teacher
from autodistil.stages import adapting
from autodistil.stages.adapting import adapt
from autodistil.stages.searching import head_notes
from autodistil.tasks import adapting as engine
from autodistil.tasks.adapt import METHODS
from autodistil.tasks.adapt.method import PAIRS, SCORES
from autodistil.tasks.adapt.method_sum import read_methods
from autodistil.tasks.adapting import Lesson
from autodistil.tasks.calibration import calibration_error, doubt, lowest_threshold, probabilities, risk_coverage
from autodistil.tasks.catalogue import load_task
from autodistil.tasks.classification import Classification
from autodistil.tasks.epoch_file import BestEpoch, EpochFile
from autodistil.tasks.finetune import EvaluationSettings, FineTuning, Pupil, Targets
from autodistil.tasks.own_head import answers_to
from autodistil.utils import Progress

SETTINGS = EvaluationSettings(learning_rates=(3e-3,), epochs=5, batch_size=8, max_length=16)
QUICK = ["onnx", "onnx-int8"]
GOOD, BAD = ("lovely", "great", "fine"), ("awful", "broken", "poor")


def texts(count, seed=0):
    """Short reviews that a word decides."""
    random = np.random.default_rng(seed)
    rows = [(int(random.integers(2)), int(random.integers(3)), i) for i in range(count)]
    return [(f"the phone number {i} is {(BAD, GOOD)[label][word]}", str(label)) for label, word, i in rows]


@pytest.fixture
def data(write_task):
    return write_task("reviews", train=texts(160), dev=texts(60, seed=1))


@pytest.fixture(scope="module")
def wider(tmp_path_factory, quickstart_teacher_dir):
    size = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "intermediate_size": 128, "positions": 32}
    return str(save_random_bert(tmp_path_factory.mktemp("models") / "wider", quickstart_teacher_dir, **size))


@pytest.mark.slow
def test_a_student_of_few_bits_stays_one(data, tiny_bert, tmp_path):
    source = shutil.copytree(tiny_bert, tmp_path / "few")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "weight_bits": {"embeddings": 4, "layers": 8}}))
    adapt(str(source), "reviews", tmp_path / "mine", data, settings=SETTINGS, formats=["onnx-bits"])
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "mine")
    blocks = model.base_model.embeddings.word_embeddings.weight[:200].split(64, dim=1)
    assert max(len(part.unique()) for block in blocks for part in block) <= 16
    assert model.config.weight_bits == {"embeddings": 4, "layers": 8}
    assert (tmp_path / "mine" / "onnx" / "model_bits.onnx").is_file()


@pytest.mark.parametrize("formats", slow_but([QUICK], [QUICK, [*QUICK, "openvino-int8"]]))
def test_a_classifier_comes_out_with_its_figures(formats, data, tiny_bert, wider, tmp_path):
    to = tmp_path / "mine"
    (tmp_path / "more.txt").write_text("\n".join(text for text, _ in texts(40, seed=2)))
    found = adapt(
        str(tiny_bert),
        "reviews",
        to,
        data,
        wider,
        SETTINGS,
        unlabelled=[tmp_path / "more.txt"],
        formats=formats,
    )
    assert set(found.metrics) == {"student", "plain", "teacher"}
    assert found.metrics["student"]["accuracy"] > 0.9
    assert (found.rows, found.train_rows, found.unlabelled) == (60, 140, 40)
    assert found.objective == "soft-targets"
    assert found.teacher == str(tmp_path / "mine-teacher")
    assert not (tmp_path / ".mine.work").exists()
    for folder in (to, tmp_path / "mine-teacher"):
        assert (folder / "model.safetensors").stat().st_mode & 0o077 == 0o044, "whoever serves it can read it"
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(to), AutoTokenizer.from_pretrained(to)
    assert model.config.id2label == {0: "0", 1: "1"}
    answer = pipeline("text-classification", model=model, tokenizer=tokenizer)("the phone number 7 is lovely")
    assert answer[0]["label"] == "1"
    dev = load_task("reviews", data).evaluated
    right = [
        str(int(model(**tokenizer(text, return_tensors="pt")).logits.argmax())) == str(label)
        for text, label in zip(dev.text_a, dev.labels, strict=True)
    ]
    assert np.mean(right) == pytest.approx(found.metrics["student"]["accuracy"])
    import onnxruntime

    session = onnxruntime.InferenceSession(str(to / "onnx" / "model.onnx"))
    batch = tokenizer("the phone number 7 is lovely", return_tensors="np")
    (logits,) = session.run(["logits"], {name: batch[name] for name in ("input_ids", "attention_mask")})
    with torch.no_grad():
        expected = model(**tokenizer("the phone number 7 is lovely", return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    for file in ("onnx/model.onnx", "onnx/model_qint8.onnx"):
        (by_file,) = evaluate(str(to), ["reviews"], data, file=file).results
        assert by_file.method == "classify"
        assert by_file.metrics["accuracy"] == pytest.approx([found.metrics["student"]["accuracy"]], abs=0.05)
    card = (to / "README.md").read_text()
    assert "| this model |" in card
    assert "| its teacher |" in card
    assert "| class | rows | precision | recall | F1 | answered 0 | answered 1 |" in card
    assert "do not know" not in card
    assert "40 that the teacher labelled" in card
    assert json.loads((to / "adaptation.json").read_text())["metrics"] == json.loads(json.dumps(found.metrics))
    assert (to / "exported.json").is_file()


def test_calibration_confusion_and_curves_are_those_of_the_reported_rows(data, tiny_bert, wider, tmp_path):
    found = adapt(str(tiny_bert), "reviews", tmp_path / "mine", data, wider, SETTINGS)
    dev = load_task("reviews", data).evaluated
    for who, folder in (("student", tmp_path / "mine"), ("teacher", tmp_path / "mine-teacher")):
        answers = answers_to(Pupil.of(EvaluatedModel.open(str(folder)), None, SETTINGS), dev)
        own = Classification.from_dict(found.classification[who])
        assert own == Classification.of(dev.labels, answers, ("0", "1"))
        assert found.metrics[who]["ece"] == calibration_error(dev.labels, probabilities(answers))
        assert np.trace(own.confusion) / 60 == pytest.approx(found.metrics[who]["accuracy"])
    assert set(found.classification) == set(found.metrics) == {"student", "plain", "teacher"}
    assert found.scored_rows == dev.fingerprint
    assert found.costs["student"]["flops"] < found.costs["teacher"]["flops"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "mine")
    assert found.costs["student"]["params"] == sum(parameter.numel() for parameter in model.parameters())
    again = read_adaptation(tmp_path / "mine")
    assert again == replace(found, classification=again.classification)
    assert again.classification == json.loads(json.dumps(found.classification))


def hard(count, seed):
    """Reviews that a word decides, and as many that nothing does."""
    return [*texts(count, seed), *((f"the phone number {i} is a phone", str(i % 2)) for i in range(count))]


def test_a_threshold_is_chosen_on_rows_that_choose_and_pipelines_say_do_not_know(
    write_task, tiny_bert, tmp_path, capsys
):
    folder, to = write_task("reviews", train=hard(120, 0), dev=hard(60, 1)), tmp_path / "mine"
    found = adapt(str(tiny_bert), "reviews", to, folder, None, SETTINGS, abstain=0.1)
    pupil, lesson = (
        Pupil.of(EvaluatedModel.open(str(to)), None, SETTINGS),
        Lesson.of(load_task("reviews", folder), SETTINGS),
    )
    chosen, dev = lesson.chosen_by, lesson.data.evaluated
    of_chosen, of_dev = (probabilities(answers_to(pupil, split)) for split in (chosen, dev))
    assert found.threshold == lowest_threshold(risk_coverage(chosen.labels, of_chosen), 0.1)
    assert 0.5 < found.threshold < 1
    assert found.doubt == doubt(dev.labels, of_dev) == read_adaptation(to).doubt
    assert found.abstention["chosen"]["error"] <= 0.1
    kept = of_dev.max(1) >= found.threshold
    assert found.abstention["reported"]["coverage"] == kept.mean()
    assert found.abstention["reported"]["error"] == (of_dev.argmax(1) != dev.labels)[kept].mean()
    config = AutoConfig.from_pretrained(to)
    assert config.abstain_below == found.threshold
    card = (to / "README.md").read_text()
    code = card.split("## When it does not know")[1].split("```python")[1].split("```")[0]
    code = code.replace('"mine"', repr(str(to)))
    exec(code.replace("a text", "the phone number 7 is lovely"))
    exec(code.replace("a text", "the phone number 7 is a phone"))
    assert capsys.readouterr().out.split("\n")[:2] == ["1", "do not know"]
    dev_again = (
        (folder / "reviews" / "dev.tsv").read_text().replace("\t1", "\t2").replace("\t0", "\t1").replace("\t2", "\t0")
    )
    (folder / "reviews" / "dev.tsv").write_text(dev_again)
    other = adapt(str(tiny_bert), "reviews", tmp_path / "other", folder, None, SETTINGS, abstain=0.1)
    assert other.threshold == found.threshold, "reported rows choose nothing"
    assert other.abstention["reported"]["error"] != found.abstention["reported"]["error"]


def test_where_no_threshold_holds_the_risk_it_always_answers(data, tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(adapting, "answers_to", lambda pupil, split: -answers_to(pupil, split))  # always wrong
    found = adapt(str(tiny_bert), "reviews", tmp_path / "mine", data, None, SETTINGS, abstain=0.1)
    assert found.threshold is None
    assert found.abstention["reported"]["coverage"] == 1
    assert found.doubt.startswith("too sure")
    assert f"It is {found.doubt}." in (tmp_path / "mine" / "README.md").read_text()
    assert "it always answers" in (tmp_path / "mine" / "README.md").read_text()
    assert not hasattr(AutoConfig.from_pretrained(tmp_path / "mine"), "abstain_below")


def test_what_is_reported_chooses_nothing(data, tiny_bert, tmp_path, monkeypatch):
    """With other dev rows the very same weights come out, and training never sees the rows that choose."""
    first = adapt(str(tiny_bert), "reviews", tmp_path / "a", data, None, SETTINGS)
    (data / "reviews" / "dev.tsv").write_text("text_a\tlabel\nthe phone is awful\t1\nthe phone is lovely\t0\n")
    second = adapt(str(tiny_bert), "reviews", tmp_path / "b", data, None, SETTINGS)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    assert first.metrics["student"] != second.metrics["student"]
    lesson = Lesson.of(load_task("reviews", data), SETTINGS)
    assert not set(lesson.train.text_a) & set(lesson.chosen_by.text_a)
    assert set(first.metrics) == {"student"}, "labels alone are what it is"


def test_what_was_done_before_a_machine_died_is_not_done_again(data, tiny_bert, wider, tmp_path, monkeypatch):
    settings = replace(SETTINGS, learning_rates=(1e-3, 3e-3), epochs=2)
    options = {"objective": "soft-targets+ps-kd+anchor", "plain": False}
    whole = adapt(str(tiny_bert), "reviews", tmp_path / "whole", data, wider, settings, **options)
    trained, real = [], FineTuning.epoch

    def counted(tuning):
        trained.append(tuning.done)
        if len(trained) == 8:
            raise KeyboardInterrupt
        real(tuning)

    monkeypatch.setattr(FineTuning, "epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        adapt(str(tiny_bert), "reviews", tmp_path / "cut", data, wider, settings, **options)
    assert trained == [0, 1] * 4, "two rates of the teacher, two of the student, whose last epoch is cut"
    assert not (tmp_path / "cut").exists()
    resumed = adapt(str(tiny_bert), "reviews", tmp_path / "cut", data, wider, settings, **options)
    assert trained[8:] == [1], "what was cut"
    assert resumed.metrics == whole.metrics
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_damaged_file_of_an_epoch_is_none(data, tiny_bert, tmp_path):
    lesson = Lesson.of(load_task("reviews", data), SETTINGS)
    pupil = Pupil.of(EvaluatedModel.open(str(tiny_bert)), 2, SETTINGS)
    train = lesson.train
    rows, targets = pupil.tokenized(train.text_a, None), Targets.of(train.labels)
    tuning = FineTuning(pupil, rows, targets, read_methods("auto", False, 2, False), 2, 1e-3, 0)
    kept = EpochFile(tmp_path / "epoch.safetensors", "it")
    assert kept.restore(tuning) is None
    tuning.epoch()
    kept.save(tuning, BestEpoch.of(pupil.network, 1, 0.5))
    assert replace(kept, identity="another").restore(tuning) is None
    whole = kept.path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:8] + b"{" * 40):
        kept.path.write_bytes(damaged)
        assert kept.restore(tuning) is None
    kept.path.write_bytes(whole)
    assert (kept.restore(tuning).epoch, tuning.done) == (1, 1)


def test_scores_come_out_as_labels_have_them(write_task, tiny_bert, tmp_path):
    random = np.random.default_rng(0)
    rows = [
        (f"number {i}", f"{('few', 'many')[i % 2]} words", f"{3 + 2 * (i % 2) + 0.1 * random.random():.3f}")
        for i in range(120)
    ]
    folder = write_task("likeness", train=rows[:80], dev=rows[80:])
    found = adapt(str(tiny_bert), "likeness", tmp_path / "mine", folder, None, SETTINGS)
    assert found.metrics["student"]["pearson"] > 0.8
    model, tokenizer = (
        kind.from_pretrained(tmp_path / "mine") for kind in (AutoModelForSequenceClassification, AutoTokenizer)
    )
    with torch.no_grad():
        low, high = (
            float(model(**tokenizer("number 1", f"{word} words", return_tensors="pt")).logits)
            for word in ("few", "many")
        )
    assert 2.5 < low < high < 5.5  # labels are near 3 and 5; standardised they would be near -1 and 1
    ranker = pytest.importorskip("sentence_transformers").CrossEncoder(str(tmp_path / "mine"), device="cpu")
    ranked = ranker.rank("number 1", ["few words", "many words"])
    assert [(one["corpus_id"], one["score"]) for one in ranked] == [(1, pytest.approx(high)), (0, pytest.approx(low))]


def test_zeros_and_ones_that_are_called_scores_make_a_reranker(write_task, tiny_bert, tmp_path):
    rows = [(f"number {i}", f"{('few', 'many')[i % 2]} words", str(i % 2)) for i in range(120)]
    folder = write_task("found", header="text_a\ttext_b\tscore", train=rows[:80], dev=rows[80:])
    found = adapt(str(tiny_bert), "found", tmp_path / "mine", folder, None, SETTINGS)
    assert found.classes == ()
    assert found.metrics["student"]["spearman"] > 0.8
    assert "CrossEncoder" in (tmp_path / "mine" / "README.md").read_text()
    (again,) = evaluate(str(tmp_path / "mine"), ["found"], folder).results
    assert again.metrics["spearman"] == pytest.approx([found.metrics["student"]["spearman"]])


def test_a_fine_tuned_model_learns_another_task(data, write_task, tiny_bert, tmp_path):
    """Its head for two classes is left, whatever the next task is of."""
    adapt(str(tiny_bert), "reviews", tmp_path / "two", data, None, replace(SETTINGS, epochs=1))
    folder = write_task("three", train=[(f"text {i}", str(i % 3)) for i in range(60)], dev=[("a", "0"), ("b", "1")])
    found = adapt(str(tmp_path / "two"), "three", tmp_path / "mine", folder, None, replace(SETTINGS, epochs=1))
    assert found.classes == ("0", "1", "2")
    assert AutoConfig.from_pretrained(tmp_path / "mine").num_labels == 3


def test_rows_without_text_are_told_and_refused_where_no_row_has_any(data, write_task, tiny_bert, tmp_path):
    class Told(Progress):
        def say(self, message):
            lines.append(message)

    lines, rows = [], texts(60)
    folder = write_task("holes", train=[("", "0"), (" ", "1"), *rows], dev=rows[:10])
    once = replace(SETTINGS, epochs=1, learning_rates=(1e-3,))
    adapt(str(tiny_bert), "holes", tmp_path / "mine", folder, None, once, progress=Told())
    assert "2 of 62 rows of train have no text" in lines
    folder = write_task("holes", dev=[("", "0"), ("", "1")])
    with pytest.raises(TaskError, match="no row of dev of task 'holes' has a text"):
        adapt(str(tiny_bert), "holes", tmp_path / "other", folder, None, once)


@pytest.mark.slow
def test_a_fine_tuned_teacher_is_taken_as_it_is_and_its_classes_by_name(data, tiny_bert, wider, tmp_path):
    adapt(wider, "reviews", tmp_path / "teacher", data, None, SETTINGS)
    config = json.loads((tmp_path / "teacher" / "config.json").read_text())
    swapped = tmp_path / "swapped"
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "teacher")
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.copy_(parameter.flip(0))
    model.config.id2label, model.config.label2id = {0: "1", 1: "0"}, {"1": 0, "0": 1}
    model.save_pretrained(swapped)
    AutoTokenizer.from_pretrained(tmp_path / "teacher").save_pretrained(swapped)
    assert config["id2label"] == {"0": "0", "1": "1"}
    straight = adapt(str(tiny_bert), "reviews", tmp_path / "a", data, str(tmp_path / "teacher"), SETTINGS, plain=False)
    crossed = adapt(str(tiny_bert), "reviews", tmp_path / "b", data, str(swapped), SETTINGS, plain=False)
    assert straight.metrics == crossed.metrics
    assert straight.metrics["teacher"]["accuracy"] > 0.9
    assert not (tmp_path / "a-teacher").exists()


FURTHER = [name for name, method in METHODS.items() if method.further or method.prepare]


@pytest.mark.parametrize("name", slow_but(FURTHER[::3], FURTHER))
def test_a_method_that_does_more_than_a_loss_ends_as_an_ordinary_model(name, write_task, tiny_bert, wider, tmp_path):
    """Whatever a method does with head and encoder: what comes out loads, has the task's outputs, and was resumed."""
    pairs, scores = (what in METHODS[name].only for what in (PAIRS, SCORES))
    rows = [
        (*[text.split(" is ")[0]] * pairs, text, str(0.5 + int(label) * scores) if scores else label)
        for text, label in texts(80)
    ]
    folder, settings = write_task("own", train=rows, dev=rows[:40]), replace(SETTINGS, epochs=2, learning_rates=(3e-3,))
    data, model = load_task("own", folder), EvaluatedModel.open(str(tiny_bert))
    head = EvaluatedModel.open(wider)
    teacher = Pupil.of(head, len(data.classes) or 1, settings)
    lesson = Lesson.of(data, settings, objective=name)
    taught = engine.taught(head, teacher, lesson, range(len(data.classes) or 1))
    found = engine.adapted(model, lesson, settings, tmp_path, Progress(), taught)
    student = EvaluatedModel.open(str(found.folder)).fine_tuned(torch.device("cpu"))
    assert student.config.num_labels == student.classifier.out_features == (len(data.classes) or 1)
    assert np.isfinite(found.chosen)
    before = (found.folder / "model.safetensors").stat().st_mtime_ns
    assert engine.adapted(model, lesson, settings, tmp_path, Progress(), taught) == found
    assert (found.folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_preparation_reads_no_more_tokens_than_the_model_takes(data, wider, tmp_path):
    lesson, settings = Lesson.of(load_task("reviews", data), SETTINGS), replace(SETTINGS, max_length=500)
    training = engine._Training(lesson, settings, read_methods("further-pretrain", False, 2, False), 1, None)
    assert training.preparation(EvaluatedModel.open(wider), "further-pretrain", tmp_path).length == 32


def test_rare_classes_weigh_as_much_as_frequent_ones(data):
    lesson = Lesson.of(load_task("reviews", data), SETTINGS, balanced=True)
    lesson = replace(lesson, train=lesson.train.take(range(30)))
    targets, *_ = engine._Training(lesson, SETTINGS, read_methods("auto", False, 2, False), 1, None).targets()
    counts = np.bincount(lesson.train.labels, minlength=2)
    np.testing.assert_allclose(targets.class_weights.numpy() * counts, [15, 15], rtol=1e-6)


def test_wrong_input_is_one_line_and_loses_nothing(data, tiny_bert, write_task, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    write_task("three", train=[(f"text {i}", str(i % 3)) for i in range(60)], dev=[("a", "0"), ("b", "1")])
    write_task("likeness", train=[("a", "b", "0.5"), ("c", "d", "1.5")] * 30, dev=[("a", "b", "0.5"), ("c", "d", "1")])
    write_task("few", train=texts(10), dev=texts(4, seed=3))
    model = str(tiny_bert)
    teacher = tmp_path / "teacher"
    adapt(model, "reviews", teacher, data, None, replace(SETTINGS, learning_rates=(1e-3,), epochs=1))
    (tmp_path / "lines.txt").write_text("a\nb\n")
    for error, said, given in (
        (ExportError, "not an empty folder", {"to": tmp_path / "full"}),
        (TaskError, "allowed: 40 or more", {"task": "few"}),
        (TaskError, "is unknown", {"task": "reviewz"}),
        (ConfigError, "did you mean", {"objective": "soft-target"}),
        (ConfigError, "needs a fine-tuned teacher", {"objective": "soft-targets"}),
        (ConfigError, "give --teacher too", {"unlabelled": [tmp_path / "lines.txt"]}),
        (TaskError, "cannot be read", {"unlabelled": [tmp_path / "none.txt"], "teacher": str(teacher)}),
        (TeacherError, "tells 2 classes apart", {"task": "three", "teacher": str(teacher)}),
        (ExportError, "format 'onix'", {"formats": ["onix"]}),
        (ConfigError, "abstain = 1; allowed", {"abstain": 1.0}),
        (ConfigError, "have no confidence", {"task": "likeness", "abstain": 0.1}),
    ):
        with pytest.raises(error, match=said):
            adapt(
                **{
                    "student": model,
                    "task": "reviews",
                    "to": tmp_path / "new",
                    "data_dir": data,
                    "settings": SETTINGS,
                    **given,
                }
            )
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "full" / "file").read_text() == "mine"


def test_the_command_line(data, tiny_bert, tmp_path, capsys):
    given = ["--task", str(data / "reviews"), "--epochs", "1", "--learning-rate", "1e-3", "--max-length", "16"]
    with pytest.raises(SystemExit) as end:
        main(["adapt", str(tiny_bert), *given, "--to", str(tmp_path / "mine"), "--json"])
    assert end.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"].keys() == {"student"}
    assert found["task"] == "reviews"
    with pytest.raises(SystemExit):
        main(["adapt", *given, "--to", str(tmp_path / "other")])
    assert "give a student's folder, or --run" in capsys.readouterr().err
    assert EvaluatedModel.open(str(tmp_path / "mine")).has_head
    assert adapting.load_labelled(str(data / "reviews"), None).name == "reviews"


def test_a_search_says_that_a_teacher_was_fine_tuned(tiny_bert, tmp_path):
    AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=3).save_pretrained(tmp_path / "headed")
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "headed")
    (note,) = head_notes(load_teacher(str(tmp_path / "headed")))
    assert "without the head" in note
    assert head_notes(load_teacher(str(tiny_bert))) == []
