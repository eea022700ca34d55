"""Answers in texts: what comes out finds them, as its card shows; evaluate agrees; what is not for spans is refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from autodistil_helpers import DECODER_CONFIGS, FAMILY_CONFIGS
from run_helpers import one_line, save_random, save_random_bert, small_modernbert
from tokenizers_helpers import byte_level_bpe
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from transformers import AutoConfig, AutoModel, AutoModelForQuestionAnswering, AutoTokenizer, BertConfig
from variants import slow_but

from autodistil.cli import main
from autodistil.errors import ConfigError, TaskError, TeacherError
from autodistil.evaluation.evaluate import evaluate
from autodistil.evaluation.proxy_task import load_proxy
from autodistil.models.architectures import per_layer_config
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.stages.adapting import adapt
from autodistil.tasks import finetune
from autodistil.tasks.adapt import METHODS
from autodistil.tasks.adapt.method_sum import read_methods
from autodistil.tasks.catalogue import load_task
from autodistil.tasks.finetune import EvaluationSettings, fine_tune
from autodistil.tasks.span_finder import SpanFinder, SpanTuning
from autodistil.utils import Progress

SETTINGS = EvaluationSettings(learning_rates=(3e-3,), epochs=4, batch_size=8, max_length=32, seeds=1)
SHORT = replace(SETTINGS, learning_rates=(1e-3,), epochs=1)
PLACES, NAMES = ("paris", "london", "berlin", "rome"), ("anna", "peter", "maria")


def paragraphs(count, seed=0, unanswerable=False, longer=""):
    """Somebody goes somewhere by train; every third question may be one without an answer."""
    random = np.random.default_rng(seed)
    for number in range(count):
        name, place = str(random.choice(NAMES)), str(random.choice(PLACES))
        context = f"{longer}{name} takes train {number} to {place} ."
        known = [] if unanswerable and number % 3 == 0 else [{"text": place, "answer_start": context.rindex(place)}]
        asked = "where to ?" if known else "what is eaten ?"
        yield {"context": context, "qas": [{"id": str(number), "question": asked, "answers": known}]}


@pytest.fixture
def write(tmp_path):
    def to(name, **splits):
        folder = tmp_path / "tasks" / name
        folder.mkdir(parents=True, exist_ok=True)
        for split, rows in splits.items():
            (folder / f"{split}.json").write_text(json.dumps({"data": [{"title": "", "paragraphs": list(rows)}]}))
        return tmp_path / "tasks"

    return to


@pytest.fixture
def data(write):
    return write("trains", train=paragraphs(120), dev=paragraphs(40, 1))


def card_code(to, question, text):
    """What the code of a model card prints of a question."""
    code = re.search("```python\n(.*?)```", (to / "README.md").read_text(), re.DOTALL)[1]
    code = re.sub("question, text = .*", f"question, text = {question!r}, {text!r}", code)
    said = []
    exec(code.replace(f'"{to.name}"', repr(str(to))), {"print": said.append})
    return said[0]


def test_a_finder_of_answers_comes_out_with_its_figures(data, tiny_bert, tmp_path):
    to = tmp_path / "mine"
    found = adapt(str(tiny_bert), "trains", to, data, str(tiny_bert), SETTINGS)
    assert found.metrics.keys() == {"student", "plain", "teacher"}
    assert min(scores["token_f1"] for scores in found.metrics.values()) > 0.8
    assert found.standard_error.keys() <= {"token_f1", "exact_match"}
    assert (found.spans, found.classes, found.objective, found.train_rows) == (True, (), "soft-targets", 100)
    assert AutoModelForQuestionAnswering.from_pretrained(to).config.architectures == ["BertForQuestionAnswering"]
    card = (to / "README.md").read_text()
    assert "pipeline_tag: question-answering" in card
    assert "finds answers to questions in texts" in card
    dev = load_task("trains", data).evaluated
    settings = EvaluationSettings(max_length=32)
    (scored,) = evaluate(str(to), ["trains"], data, settings=settings, write=True).results
    assert scored.method == "classify"
    assert scored.metrics["token_f1"] == (found.metrics["student"]["token_f1"],)
    assert scored.baseline == {"token_f1": 0.0, "exact_match": 0.0}
    assert "type: question-answering" in (to / "README.md").read_text()
    model = SpanFinder.of(EvaluatedModel.open(str(to)), settings, new_head=False)
    answers = model.found(dev)[:12].tolist()
    assert answers == [card_code(to, *asked) for asked in zip(dev.text_a[:12], dev.text_b[:12], strict=True)]
    taken = adapt(
        str(tiny_bert), "trains", tmp_path / "again", data, str(tmp_path / "mine-teacher"), SHORT, plain=False
    )
    assert taken.metrics["teacher"] == found.metrics["teacher"]


@pytest.mark.slow
def test_questions_without_an_answer_and_texts_of_many_windows(write, tiny_bert, tmp_path):
    longer = "the old wall of the town is long . " * 6
    rows = (paragraphs(count, seed, True, longer) for count, seed in ((120, 0), (45, 1)))
    data = write("trains", **dict(zip(("train", "dev"), rows, strict=True)))
    found = adapt(str(tiny_bert), "trains", tmp_path / "m", data, None, replace(SETTINGS, epochs=6))
    assert found.metrics["student"]["exact_match"] > 0.6
    assert "Where the first token's logits have a higher sum" in (tmp_path / "m" / "README.md").read_text()
    settings = replace(SETTINGS, max_length=32)
    (scored,) = evaluate(str(tmp_path / "m"), ["trains"], data, "classify", settings, write=False).results
    kinds = scored.details["by_kind"]
    assert (kinds["answerable"]["questions"], kinds["unanswerable"]["questions"]) == (30, 15)
    assert scored.baseline["exact_match"] == pytest.approx(15 / 45)


@pytest.mark.slow
def test_evaluate_fine_tunes(data, tiny_bert):
    (found,) = evaluate(str(tiny_bert), ["trains"], data, "finetune", replace(SETTINGS, epochs=3), write=False).results
    assert list(found.metrics) == ["token_f1", "exact_match"]
    assert found.metrics["token_f1"][0] > 0.6
    assert found.data["task_type"] == "question-answering"


def test_the_loss_is_that_of_start_and_end(data, tiny_bert):
    """Hugging Face's own where all tokens are candidates but those of the question, and KL of both to the teacher."""
    rows = load_task("trains", data).train(8)
    finder = SpanFinder.of(EvaluatedModel.open(str(tiny_bert)), SETTINGS)
    windows, batch = finder.windows(rows.text_a, rows.text_b), np.arange(8)
    finder.network.eval()
    said = [np.where(logits > -1e8, -logits, logits) for logits in finder.read(windows)]
    objectives = (read_methods(name, True, 2, True, True) for name in ("cross-entropy", "soft-targets"))
    tunings = [SpanTuning(finder, windows, rows, one, 1, 1e-3, 0, said) for one in objectives]
    inputs = windows.rows.batch(batch, finder.device)
    candidates = windows.candidates(batch)
    outputs = finder.network(**inputs)
    places = torch.from_numpy(windows.places([right[0] for right in rows.answers]))
    plain, taught = [], []
    for which, logits in enumerate((outputs.start_logits, outputs.end_logits)):
        for row in range(8):
            kept = logits[row][candidates[row]]
            label = int(candidates[row][: places[row, which]].sum())
            plain.append(cross_entropy(kept, torch.tensor(label)))
            target = torch.from_numpy(said[row][which])[candidates[row][: len(said[row][which])]]
            taught.append(4 * kl_div(log_softmax(kept / 2, 0), softmax(target / 2, 0), reduction="sum"))
    plain, taught = torch.stack(plain).mean(), torch.stack(taught).mean()
    for tuning, expected in zip(tunings, (plain, 0.7 * taught + 0.3 * plain), strict=True):
        torch.testing.assert_close(tuning._loss(batch, 0), expected)


def test_a_training_goes_on_where_it_was_left(data, tiny_bert):
    rows = load_task("trains", data).train(24)

    def tuning():
        torch.manual_seed(0)
        finder = SpanFinder.of(EvaluatedModel.open(str(tiny_bert)), SETTINGS)
        objective = read_methods("cross-entropy", False, 2, True, True)
        return SpanTuning(finder, finder.windows(rows.text_a, rows.text_b), rows, objective, 2, 1e-3, 0)

    whole, first, second = tuning(), tuning(), tuning()
    whole.epoch()
    whole.epoch()
    first.epoch()
    second.restore(first.tensors(), 1)
    second.epoch()
    ours, theirs = (one.finder.network.state_dict() for one in (whole, second))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_unlabelled_questions_are_the_teachers(data, tiny_bert, tmp_path):
    more = tmp_path / "more.tsv"
    rows = "".join(f"where to ?\tanna goes to {place} .\n" for place in PLACES)
    more.write_text(f"text_a\ttext_b\n{rows}")
    found = adapt(str(tiny_bert), "trains", tmp_path / "m", data, str(tiny_bert), SHORT, unlabelled=[more], plain=False)
    assert found.unlabelled == 4


@pytest.mark.parametrize("family", slow_but(["distilbert"], FAMILY_CONFIGS))
def test_every_family_of_encoders_has_the_head(family, tmp_path):
    torch.manual_seed(0)
    AutoModel.from_config(FAMILY_CONFIGS[family]()).save_pretrained(tmp_path)
    network = EvaluatedModel.open(str(tmp_path)).span_finder(torch.device("cpu")).eval()
    ids = torch.arange(3, 12)[None]
    network.save_pretrained(tmp_path)
    again = EvaluatedModel.open(str(tmp_path))
    assert again.has_head
    assert again.finds_spans
    with torch.no_grad():
        one, other = (of(input_ids=ids).start_logits for of in (network, again.fine_tuned(torch.device("cpu"))))
    assert one.shape == ids.shape
    assert torch.equal(one, other)


def test_students_of_uneven_layers_have_it_too(tiny_bert, tmp_path):
    own = per_layer_config(AutoConfig.from_pretrained(tiny_bert), 16, [(2, 64), (1, 32)])
    AutoModel.from_config(own).save_pretrained(tmp_path)
    network = EvaluatedModel.open(str(tmp_path)).span_finder(torch.device("cpu"))
    assert type(network).__name__ == "PerLayerBertForQuestionAnswering"
    assert "AutoModelForQuestionAnswering" in own.auto_map


@pytest.mark.slow
def test_windows_of_8192_tokens(write, quickstart_teacher_dir, tmp_path):
    config = small_modernbert()
    config.max_position_embeddings = 8192
    model = save_random(tmp_path / "long", quickstart_teacher_dir, config)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.model_max_length = 8192
    tokenizer.save_pretrained(model)
    longer = "the old wall of the town is long . " * 600
    data = write("trains", train=paragraphs(40, longer=longer), dev=paragraphs(2, 1, longer=longer))
    settings = replace(SHORT, max_length=8192, batch_size=1, max_train=2)
    finder = SpanFinder.of(EvaluatedModel.open(str(model)), settings)
    dev = load_task("trains", data).evaluated
    windows = finder.windows(dev.text_a, dev.text_b)
    assert (len(windows), windows.rows.lengths.min() > 5000) == (2, True)
    (found,) = evaluate(str(model), ["trains"], data, "finetune", settings, write=False).results
    assert np.isfinite(found.metrics["token_f1"][0])


def test_what_is_not_for_spans_is_one_line(data, write_task, tiny_bert, tmp_path):
    bert = str(tiny_bert)
    write_task("texts", train=[(f"text {i}", str(i % 2)) for i in range(60)], dev=[("a", "0"), ("b", "1")])
    texts = str(adapt(bert, "texts", tmp_path / "texts", data, None, SHORT).path)
    spans = str(adapt(bert, "trains", tmp_path / "spans", data, None, SHORT).path)
    llama = str(tmp_path / "llama")
    AutoModel.from_config(DECODER_CONFIGS["llama"]()).save_pretrained(llama)

    def again(task="trains", model=bert, **given):
        return lambda: adapt(model, task, tmp_path / "new", data, **{"settings": SHORT, **given})

    def scored(task, model, method=None, **given):
        return lambda: evaluate(model, [task], data, method, **given)

    others = [name for name, method in METHODS.items() if not method.spans]
    for error, said, call in (
        *((ConfigError, f"{name}.* allowed: .*cross-entropy", again(objective=name, teacher=bert)) for name in others),
        (ConfigError, "abstain is for classes of texts", again(abstain=0.1)),
        (ConfigError, "no classes to balance", again(balanced=True)),
        (ConfigError, "max_length = 8: windows of texts have 32", again(settings=replace(SHORT, max_length=8))),
        (ConfigError, "--format is for classes and scores", again(formats=["onnx"])),
        (ConfigError, "several teachers are for classes and scores", again(teacher=[bert, bert])),
        (TeacherError, "fine-tuned on classes of texts, task 'trains' is of spans", again(teacher=texts)),
        (TeacherError, "fine-tuned on spans, task 'texts' is of texts", again("texts", teacher=spans)),
        (TeacherError, "is a llama, a decoder", again(model=llama)),
        (TaskError, "'probe', which scores embeddings of texts, does not fit", scored("trains", bert)),
        (TaskError, "'knn', which scores embeddings of texts", scored("trains", spans, "knn")),
        (TaskError, "fine-tuned on spans, task 'texts' is of texts", scored("texts", spans, "classify")),
        (TaskError, "fine-tuned on classes of texts, task 'trains' is of spans", scored("trains", texts, "classify")),
        (TeacherError, "is a llama, a decoder", scored("trains", llama, "finetune")),
        (TaskError, "of spans, by which no students are ranked", lambda: load_proxy("trains", data)),
    ):
        with pytest.raises(error, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "new").exists()


def test_a_teacher_of_other_tokens_or_windows_is_one_line(data, tiny_bert, quickstart_teacher_dir, tmp_path):
    longer = save_random_bert(tmp_path / "longer", quickstart_teacher_dir, 32, 2, 2, 64, positions=40)
    byte_level_bpe().save_pretrained(tmp_path / "bytes")
    config = BertConfig(
        vocab_size=900,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    other = save_random(tmp_path / "other", tmp_path / "bytes", config)
    settings = replace(SHORT, max_length=40)
    with pytest.raises(TeacherError, match=r"windows of 32 tokens, its teacher of 40; give --max-length 32"):
        adapt(str(tiny_bert), "trains", tmp_path / "new", data, str(longer), settings)
    with pytest.raises(TeacherError, match="splits text into other tokens"):
        adapt(str(tiny_bert), "trains", tmp_path / "new", data, str(other), SHORT)


@pytest.mark.slow
def test_the_command_line_says_how_to_use_it(data, tiny_bert, tmp_path, capsys):
    given = ["--task", str(data / "trains"), "--epochs", "1", "--learning-rate", "1e-3", "--max-length", "32"]
    with pytest.raises(SystemExit) as end:
        main(["adapt", str(tiny_bert), *given, "--to", str(tmp_path / "mine")])
    assert end.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "token_f1" in said
    assert "AutoModelForQuestionAnswering" in said
    with pytest.raises(SystemExit) as end:
        main(["adapt", str(tiny_bert), *given, "--to", str(tmp_path / "more"), "--objective", "ps-kd"])
    assert end.value.code == 2
    assert "allowed: cross-entropy, soft-targets" in one_line(capsys)


def test_the_seed_alone_decides_a_new_head(data, tiny_bert, monkeypatch):
    """Not what was drawn before."""
    heads, begin = [], finetune.span_training

    def watched(*given):
        tuning, answers = begin(*given)
        heads.append(tuning.finder.network.qa_outputs.weight.detach().clone())
        return tuning, answers

    monkeypatch.setattr(finetune, "span_training", watched)
    model, task = EvaluatedModel.open(str(tiny_bert)), load_task("trains", data)
    for drawn, seed in ((1, 0), (2, 0), (1, 1)):
        with torch.random.fork_rng():
            torch.manual_seed(drawn)
            fine_tune(model, task, SHORT, [seed], Progress())
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
