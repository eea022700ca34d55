"""Named entities: what comes out finds them, whatever the teacher's tokenizer; models of the other kind are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from autodistil_helpers import FAMILY_CONFIGS
from tokenizers_helpers import byte_level_bpe
from transformers import AutoModel, AutoModelForTokenClassification, AutoTokenizer, RobertaConfig, pipeline
from variants import slow_but

from autodistil.cli import main
from autodistil.errors import ConfigError, TaskError, TeacherError
from autodistil.evaluation.evaluate import evaluate
from autodistil.evaluation.proxy_task import load_proxy
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.stages.adapting import adapt
from autodistil.tasks.adapt import METHODS
from autodistil.tasks.adapt.method import CLASSES
from autodistil.tasks.adapting import Lesson, taught
from autodistil.tasks.catalogue import load_task
from autodistil.tasks.entities import entity_scores
from autodistil.tasks.finetune import EvaluationSettings, Pupil

SETTINGS = EvaluationSettings(learning_rates=(3e-3,), epochs=8, batch_size=8, max_length=24)
FIRST, LAST, PLACES = ("anna", "peter", "maria"), ("smith", "jones"), ("berlin", "paris", "london")


def sentences(count, seed=0):
    """Somebody, by first or full name, goes somewhere."""
    random = np.random.default_rng(seed)
    for number in range(count):
        name = [str(random.choice(FIRST)), *([str(random.choice(LAST))] if random.integers(2) else [])]
        tags = ["B-person", "I-person"][: len(name)]
        row = [*name, "takes", "train", str(number), "to", str(random.choice(PLACES)), "!"]
        yield " ".join(row), " ".join([*tags, "O", "O", "O", "O", "B-place", "O"])


@pytest.fixture
def data(write_task):
    return write_task("names", header="tokens\ttags", train=list(sentences(160)), dev=list(sentences(60, seed=1)))


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """A random RoBERTa with a byte-level tokenizer of its own."""
    folder, tokenizer = tmp_path_factory.mktemp("models") / "roberta", byte_level_bpe()
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=130,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_finder_of_entities_comes_out_with_its_figures(data, tiny_bert, roberta, tmp_path):
    to, more = tmp_path / "mine", tmp_path / "more.txt"
    more.write_text("\n".join(text for text, _ in sentences(40, seed=2)))
    settings = replace(SETTINGS, max_length=64)
    formats = ["onnx", "onnx-int8", "openvino"]
    found = adapt(str(tiny_bert), "names", to, data, roberta, settings, unlabelled=[more], formats=formats)
    assert found.metrics.keys() == {"student", "plain", "teacher"}
    assert min(scores["entity_f1"] for scores in found.metrics.values()) > 0.9
    assert (found.words, found.rows, found.train_rows, found.unlabelled) == (True, 60, 140, 40)
    assert found.classes == ("O", "B-person", "I-person", "B-place", "I-place")
    model, tokenizer = AutoModelForTokenClassification.from_pretrained(to), AutoTokenizer.from_pretrained(to)
    assert model.config.id2label == dict(enumerate(found.classes))
    finds = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="first")
    answer = finds("maria jones takes train 7 to paris!")
    assert [(one["entity_group"], one["word"]) for one in answer] == [("person", "maria jones"), ("place", "paris")]
    text = "anna takes train 3 to berlin"
    inputs = tokenizer(text, return_tensors="pt")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(to / "onnx" / "model.onnx"))
    (logits,) = session.run(["logits"], {name: inputs[name].numpy() for name in ("input_ids", "attention_mask")})
    with torch.no_grad():
        np.testing.assert_allclose(logits, model(**inputs).logits.numpy(), atol=1e-4)
    assert [one.format for one in found.more] == formats
    assert "cosine of classes' probabilities" in found.more[1].line
    by_file = evaluate(str(to), ["names"], data, settings=settings, file="onnx/model.onnx").results[0]
    assert by_file.metrics["entity_f1"] == (found.metrics["student"]["entity_f1"],)
    card = (to / "README.md").read_text()
    assert "pipeline_tag: token-classification" in card
    assert "finds named entities in texts (person, place)" in card
    assert 'pipeline("token-classification", "mine", aggregation_strategy="first")' in card
    assert json.loads((to / "adaptation.json").read_text())["words"] is True


def test_the_figures_are_those_of_who_reads_word_by_word(data, tiny_bert, tmp_path):
    """Hugging Face's own way: words one by one, the first token of each answers, and what was cut off is outside."""
    settings = replace(SETTINGS, max_length=8, learning_rates=(1e-3,), epochs=3)
    found = adapt(str(tiny_bert), "names", tmp_path / "mine", data, None, settings)
    folder, dev = tmp_path / "mine", load_task("names", data).evaluated
    model, tokenizer = (kind.from_pretrained(folder) for kind in (AutoModelForTokenClassification, AutoTokenizer))
    predicted = []
    for text in dev.text_a:
        inputs = tokenizer(text.split(), is_split_into_words=True, truncation=True, max_length=8, return_tensors="pt")
        with torch.no_grad():
            tags = [found.classes[i] for i in model(**inputs).logits[0].argmax(-1)]
        places = inputs.word_ids()
        predicted.append([tags[places.index(i)] if i in places else "O" for i in range(len(text.split()))])
    tags = [[found.classes[i] for i in row] for row in dev.by_row(dev.labels)]
    expected = entity_scores(tags, predicted)
    assert 0.3 < expected["entity_f1"] < 1
    assert {name: found.metrics["student"][name] for name in expected} == pytest.approx(expected)
    (kept,) = evaluate(str(folder), ["names"], data, settings=EvaluationSettings(max_length=8), write=False).results
    assert kept.method == "classify"
    assert kept.metrics["entity_f1"] == pytest.approx([expected["entity_f1"]])


def test_a_teacher_is_taken_as_it_is_and_its_classes_by_name(data, tiny_bert, roberta, tmp_path):
    settings = replace(SETTINGS, max_length=64)
    adapt(roberta, "names", tmp_path / "teacher", data, None, settings)
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "teacher")
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.copy_(parameter.flip(0))
    names = list(model.config.id2label.values())[::-1]
    model.config.id2label, model.config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
    model.save_pretrained(tmp_path / "turned")
    AutoTokenizer.from_pretrained(tmp_path / "teacher").save_pretrained(tmp_path / "turned")
    short = replace(settings, learning_rates=(1e-3,), epochs=2)
    straight, turned = (
        adapt(str(tiny_bert), "names", tmp_path / f"by-{name}", data, str(tmp_path / name), short, plain=False)
        for name in ("teacher", "turned")
    )
    for who, scores in straight.metrics.items():
        assert turned.metrics[who] == pytest.approx(scores, abs=1e-4)
    assert straight.metrics["teacher"]["entity_f1"] > 0.9


def test_words_that_the_teacher_does_not_see_are_not_trained_on(data, tiny_bert, roberta):
    task = load_task("names", data)
    lesson = Lesson.of(task, SETTINGS)
    teacher = Pupil.of(EvaluatedModel.open(roberta), len(task.classes), replace(SETTINGS, max_length=12), words=True)
    said = taught(EvaluatedModel.open(roberta), teacher, lesson, list(range(5)))
    assert 0 < said.seen.sum() < len(lesson.train.labels)
    assert not said.answers[~said.seen].any()
    rows = Pupil.of(EvaluatedModel.open(str(tiny_bert)), 5, SETTINGS, words=True).tokenized(lesson.train.text_a, None)
    assert rows.seen.all()
    every = np.arange(len(lesson.train))
    assert rows.only(said.seen).units(every).tolist() == np.flatnonzero(said.seen).tolist()


@pytest.mark.parametrize(
    "name", slow_but(["soft-targets", "ps-kd"], [name for name, method in METHODS.items() if method.only <= {CLASSES}])
)
def test_every_method_for_classes_teaches_words(name, data, tiny_bert, tmp_path):
    settings = replace(SETTINGS, learning_rates=(1e-3,), epochs=1, max_train=60)
    bert, to = str(tiny_bert), tmp_path / "m"
    found = adapt(bert, "names", to, data, bert, settings, name, balanced=True, plain=False)
    assert found.train_rows == 40
    assert np.isfinite(found.metrics["student"]["ece"])
    assert AutoModelForTokenClassification.from_pretrained(to).classifier.out_features == 5


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("family", FAMILY_CONFIGS)
def test_the_head_of_every_family_is_found(family, words, tmp_path):
    AutoModel.from_config(FAMILY_CONFIGS[family]()).save_pretrained(tmp_path)
    network = EvaluatedModel.open(str(tmp_path)).classifier(7, torch.device("cpu"), words)
    pupil = Pupil(network, None, 16, torch.device("cpu"), 8, words)
    assert pupil.outputs == 7
    ids = torch.ones(2, 9, dtype=torch.long)
    with torch.no_grad():
        assert network(input_ids=ids, attention_mask=ids).logits.shape == ((2, 9, 7) if words else (2, 7))
    assert not EvaluatedModel.open(str(tmp_path)).has_head
    network.save_pretrained(tmp_path)
    found = EvaluatedModel.open(str(tmp_path))
    assert found.has_head
    assert found.tags_words == words


def test_rows_without_a_token_do_no_harm(write_task, tiny_bert, tmp_path):
    rows = [*sentences(60), *[("\u200d", "O")] * 8, ("", "")]
    folder = write_task("names", header="tokens\ttags", train=rows, dev=rows)
    settings = replace(SETTINGS, learning_rates=(1e-3,), epochs=1, batch_size=1)
    assert adapt(str(tiny_bert), "names", tmp_path / "m", folder, None, settings).epoch == 1


def test_what_does_not_fit_is_one_line(data, write_task, tiny_bert, tmp_path):
    short = replace(SETTINGS, learning_rates=(1e-3,), epochs=1)
    write_task("texts", train=[(f"text {i}", str(i % 5)) for i in range(60)], dev=[("a", "0"), ("b", "1")])
    words, texts = (
        str(adapt(str(tiny_bert), task, tmp_path / f"of-{task}", data, None, short).path) for task in ("names", "texts")
    )
    for error, said, call in (
        (
            TeacherError,
            "on classes of texts, task 'names' is of words",
            lambda: again("names", teacher=texts),
        ),
        (
            TeacherError,
            "on classes of words, task 'texts' is of texts",
            lambda: again("texts", teacher=words),
        ),
        (ConfigError, "abstain is for classes of texts", lambda: again("names", abstain=0.1)),
        (TaskError, "'probe', which scores embeddings of texts, does not fit", lambda: scored("names", tiny_bert)),
        (TaskError, "'probe', which scores embeddings of texts, does not fit", lambda: scored("names", texts)),
        (TaskError, "fine-tuned on classes of texts", lambda: scored("names", texts, "classify")),
        (TaskError, "fine-tuned on classes of words", lambda: scored("texts", words, "classify")),
        (TaskError, "by which no students are ranked", lambda: load_proxy("names", data)),
    ):

        def again(task, **given):
            adapt(str(tiny_bert), task, tmp_path / "new", data, settings=short, **given)

        def scored(task, model, method=None):
            evaluate(str(model), [task], data, method, write=False)

        with pytest.raises(error, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "new").exists()


def test_evaluate_fine_tunes_on_words(data, tiny_bert):
    settings = replace(SETTINGS, seeds=1, epochs=3)
    (found,) = evaluate(str(tiny_bert), ["names"], data, "finetune", settings, write=False).results
    assert found.metrics["entity_f1"][0] > 0.5
    assert found.baseline == {"entity_f1": 0.0, "precision": 0.0, "recall": 0.0}


def test_the_command_line_says_how_to_use_it(data, tiny_bert, tmp_path, capsys):
    given = ["--task", str(data / "names"), "--epochs", "1", "--learning-rate", "1e-3", "--max-length", "16"]
    with pytest.raises(SystemExit) as end:
        main(["adapt", str(tiny_bert), *given, "--to", str(tmp_path / "mine")])
    assert end.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "entity_f1" in said
    assert 'pipeline("token-classification"' in said
    assert 'aggregation_strategy="first")' in said
