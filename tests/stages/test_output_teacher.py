"""Students in an output teacher's space: a whole run, what is kept of its embeddings, what comes out, wrong input."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hub_helpers import save_sentence_encoder
from onnxruntime import InferenceSession
from run_helpers import run_options, train_in_two
from transformers import AutoTokenizer
from variants import slow_but

from autodistil import pipeline
from autodistil.cluster.ray_tune import TuneSettings
from autodistil.data.batch import TARGETS
from autodistil.errors import ConfigError, RunError, TaskError
from autodistil.evaluation.embedding import PooledEncoder, folder_encoder
from autodistil.evaluation.evaluate import evaluate
from autodistil.evaluation.heldout import HeldOut
from autodistil.models.families.family import OUTPUT_HEAD
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.pooling import pipeline_fingerprint, read_prompts
from autodistil.run.output_teacher import OutputTargets, OutputTeacher, embeddings
from autodistil.run.run import Run
from autodistil.stages.tuning import train_trial
from autodistil.tasks.finetune import EvaluationSettings
from autodistil.training.workers import TrainingWorkers

SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [16, 32], head_size: 16, mlp_ratio: [2.0]}
  base: {num_layers: [3], hidden_size: [48], head_size: 16, mlp_ratio: [2.0]}
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, quickstart_teacher_dir):
    """A random encoder of sentences, 32 wide, that pools otherwise than the run's teacher, which is 64 wide."""
    return save_sentence_encoder(tmp_path_factory.mktemp("models") / "outputs", quickstart_teacher_dir)


@pytest.fixture
def options(tmp_path, quickstart_teacher_dir, outputs):
    more = {"output_teacher": str(outputs), "train_steps": 4, "checkpoint_seconds": 0.0, "learning_rate": 3e-3}
    return run_options(tmp_path, quickstart_teacher_dir, SPACE, **more)


@pytest.mark.parametrize("formats", slow_but([[]], [[], ["onnx", "openvino-int8"]]))
def test_students_land_in_its_space(formats, options, outputs, tmp_path):
    run = Run.open(tmp_path / "run", {**options, "train_steps": 40, "batch_size": 8})
    assert run.inputs.objective.name == "relation-kl+20*output-cosine"
    pipeline.train(run)
    pipeline.search(run, ["1GFLOPs"])
    student = pipeline.export(run, "best", tmp_path / "student", formats=formats)[1].path
    texts = [f"the river {i} runs along the wall of town {3 * i}" for i in range(20)]
    theirs = folder_encoder(EvaluatedModel.open(str(outputs)))(texts)
    encoder = EvaluatedModel.open(str(student))
    ours = folder_encoder(encoder)(texts)
    assert ours.shape == (20, 32)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    unit = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    assert (ours * unit).sum(1).mean() > 0.9
    from sentence_transformers import SentenceTransformer

    np.testing.assert_allclose(SentenceTransformer(str(student), device="cpu").encode(texts), ours, atol=1e-5)
    if formats:
        inputs = AutoTokenizer.from_pretrained(student)(texts, padding=True, return_tensors="np")
        session = InferenceSession(student / "onnx" / "model.onnx")
        by_onnx = session.run(["sentence_embedding"], {one.name: inputs[one.name] for one in session.get_inputs()})[0]
        np.testing.assert_allclose(by_onnx, ours, atol=1e-5)
    assert run.folder.resolved()["output_teacher_fingerprint"] == run.inputs.output_teacher.fingerprint
    assert "output teacher" in (student / "README.md").read_text()


def test_a_resumed_training_ends_with_the_same_weights(options, tmp_path, monkeypatch):
    whole = Run.open(tmp_path / "whole", options)
    pipeline.train(whole)
    run = train_in_two(tmp_path / "run", options, monkeypatch)
    for name in ("tiny", "base"):
        ours, theirs = (one.superlms.trained(name).state_dict() for one in (run, whole))
        assert OUTPUT_HEAD in ours
        for key, value in ours.items():
            torch.testing.assert_close(value, theirs[key], msg=key)


def test_no_text_is_read_twice(options, tmp_path, monkeypatch):
    inputs = Run.open(tmp_path / "run", options).inputs
    read = []
    real = OutputTeacher.embed
    monkeypatch.setattr(OutputTeacher, "embed", lambda self, samples: read.append(len(samples)) or real(self, samples))
    numbers = np.array([5, 2, 9])
    monkeypatch.setenv("AUTODISTIL_CACHE", str(tmp_path / "cache"))
    first = inputs.output_targets(numbers)
    again = Run.open(tmp_path / "other", options).inputs.output_targets
    assert torch.equal(again(np.array([9, 5])), first[[2, 0]])
    again(np.array([9, 4]))
    assert read == [3, 1], "the first three, and one that was not read yet"
    samples = inputs.text.train.take(numbers)
    (teacher,) = inputs.output_teacher.teachers
    np.testing.assert_allclose(first.numpy(), real(teacher, samples), atol=2e-3)
    targets = OutputTargets(teacher, inputs.text.train.take, len(inputs.text.train), ["another corpus"])
    targets(numbers)
    assert read == [3, 1, 3]


def test_a_worker_reads_its_own_part_alone(options, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTODISTIL_CACHE", str(tmp_path / "cache"))
    text = Run.open(tmp_path / "run", {**options, "accumulate": 2}).inputs.text
    whole = [batch[TARGETS] for batch in text.micro_batches(0)]
    monkeypatch.setenv("AUTODISTIL_CACHE", str(tmp_path / "another"))
    real = OutputTeacher.embed
    for rank in range(3):
        text = Run.open(tmp_path / "run", {**options, "accumulate": 2}).inputs.text
        text.own_rows = workers = TrainingWorkers(rank, 3).rows
        read = []
        with monkeypatch.context() as patch:
            patch.setattr(OutputTeacher, "embed", lambda self, x, read=read: read.append(len(x)) or real(self, x))
            for batch, expected in zip(text.micro_batches(0), whole, strict=True):
                rows = workers(len(expected))
                assert torch.equal(batch[TARGETS][rows], expected[rows])
        assert sum(read) < sum(map(len, whole))


@pytest.mark.slow
def test_several_are_joined_by_weights(options, outputs, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTODISTIL_CACHE", str(tmp_path / "cache"))
    both = {"output_teacher": [f"3*{outputs}", options["teacher"]], "precision": "bf16"}
    run = Run.open(tmp_path / "run", {**options, **both})
    numbers = np.arange(5)
    one, other = (teacher.embed(run.inputs.text.train.take(numbers)) for teacher in run.inputs.output_teacher.teachers)
    joined = run.inputs.output_targets(numbers).double().numpy()
    assert joined.shape == (5, 32 + 64)
    np.testing.assert_allclose(joined @ joined.T, 0.75 * one @ one.T + 0.25 * other @ other.T, atol=5e-3)
    pipeline.train(run)
    pipeline.search(run, ["1GFLOPs"])
    student = pipeline.export(run, "best", tmp_path / "student")[1].path
    assert folder_encoder(EvaluatedModel.open(str(student)))(["a text"]).shape == (1, 96)
    alone, weighed = ({**options, "output_teacher": names} for names in (str(outputs), f"2*{outputs}"))
    fingerprints = [
        Run.open(tmp_path / f"run-{i}", {**options, **more}).inputs.output_teacher.fingerprint
        for i, more in enumerate((alone, weighed, both, {**both, "precision": "fp32"}))
    ]
    assert fingerprints[0] == fingerprints[1], "the weight of one alone means nothing"
    assert len(set(fingerprints)) == 3


def test_the_head_is_the_best_linear_map_of_the_teachers_own_embeddings(options, tmp_path, monkeypatch):
    inputs = Run.open(tmp_path / "run", options).inputs
    inputs.write_record()
    head = inputs.output_head
    assert head.shape == (32, 64)
    numbers = inputs.text.sample_numbers(1024)
    targets = inputs.output_targets(numbers)
    batch = inputs.teacher.inputs.batch(inputs.text.train.take(numbers))
    ours = embeddings(inputs.ordered_teacher, batch)
    error = (ours @ head.T - targets).square().mean()
    solution = torch.linalg.lstsq(ours.double(), targets.double()).solution.T
    best = (ours.double() @ solution.T - targets).square().mean()
    assert error <= 1.2 * best + 1e-4
    again = Run.open(tmp_path / "run", options).inputs
    monkeypatch.setattr(OutputTeacher, "embed", lambda *_: pytest.fail("read again"))
    assert torch.equal(again.output_head, head), "it is kept"
    inputs.folder.output_head_path.write_bytes(inputs.folder.output_head_path.read_bytes()[:-9])
    with pytest.raises(RunError, match=r"head of outputs .* is damaged"):
        _ = Run.open(tmp_path / "run", options).inputs.output_head


def test_what_a_pipeline_makes_of_states_decides_too(options, outputs, tmp_path):
    """Embeddings of the same weights, cut or pooled otherwise, are others."""
    fingerprints = set()
    for name, content in (("as-it-is", {}), ("cut", {"truncate_dim": 8})):
        folder = shutil.copytree(outputs, tmp_path / name)
        config = folder / "config_sentence_transformers.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **content}))
        teacher = Run.open(tmp_path / f"run-{name}", {**options, "output_teacher": str(folder)}).inputs.output_teacher
        fingerprints.add(teacher.fingerprint)
        assert teacher.dim == (8 if content else 32)
    pooling = next(folder.rglob("*Pooling/config.json"))
    pooling.write_text(pooling.read_text().replace("true", "TRUE").replace("false", "true").replace("TRUE", "false"))
    fingerprints.add(pipeline_fingerprint(folder))
    assert len(fingerprints) == 3


def test_the_teachers_own_loss_is_that_of_its_mapped_embeddings(options, tmp_path):
    run = Run.open(tmp_path / "run", options)
    pipeline.train(run)
    loss = run.scorer.teacher_loss
    alone = replace(run.inputs.read_heldout().objective, terms=((1.0, "output-cosine"),))
    assert 0 < loss <= 40, "20 times one less the cosine"
    heldout = replace(run.inputs.read_heldout(), objective=alone)
    own = [replace(states, targets=None) for states in heldout.teacher_states]
    by_batch = dict(zip(map(id, heldout.batches), own, strict=True))
    assert loss == pytest.approx(20 * heldout.mean_of(lambda batch: by_batch[id(batch)]), rel=1e-3)


def test_tuning_judges_by_the_output_teacher(options, tmp_path, monkeypatch):
    inputs = Run.open(tmp_path / "run", options).inputs
    inputs.write_record()
    _ = inputs.importance_order, inputs.heldout_texts, inputs.output_head
    built, reports = [], []
    real = HeldOut.build
    monkeypatch.setattr(HeldOut, "build", lambda *a, **k: built.append(real(*a, **k)) or built[-1])
    train_trial(
        inputs.folder.path, inputs.config.to_dict(), inputs.objective, TuneSettings(1, 2, 0), {}, reports.append
    )
    expected = inputs.output_teacher.embed(inputs.heldout_texts)[built[0].rows[0]]
    torch.testing.assert_close(built[0].teacher_states[0].targets, expected)
    assert reports[-1]["step"] == 2
    assert 0 < reports[-1]["loss"] < 100


def test_another_output_teacher_is_another_run(options, tmp_path):
    run = Run.open(tmp_path / "run", options)
    pipeline.train(run)
    with pytest.raises((RunError, ConfigError), match="another"):
        pipeline.train(Run.open(tmp_path / "run", {**options, "output_teacher": options["teacher"]}))
    assert run.inputs.scored_by["output teacher"] == run.inputs.output_teacher.fingerprint


def test_wrong_input_is_one_line(options, tmp_path):
    for changed, said in (
        ({"objective": "relation-kl"}, "has no term of it"),
        ({"output_teacher": None, "objective": "output-cosine"}, "compares with one"),
        ({"output_teacher": str(tmp_path / "none")}, "none"),
        ({"output_teacher": f"0*{options['output_teacher']}"}, "weight is no number above 0; give such as 2*"),
        ({"output_teacher": [], "objective": "output-cosine"}, "compares with one"),
        ({"output_teacher": None, "output_role": "query"}, "output_role = 'query' is of an output teacher's prompts"),
        ({"output_role": "passage"}, "output_role = 'passage'; allowed: document, query"),
    ):
        with pytest.raises(Exception, match=said) as error:
            pipeline.train(Run.open(tmp_path / "run", {**options, **changed}))
        assert "\n" not in str(error.value)


@pytest.fixture
def asymmetric(outputs, tmp_path):
    """The output teacher, as one that puts words before queries and others before documents."""
    folder = shutil.copytree(outputs, tmp_path / "asymmetric")
    prompts = {"query": "search for: ", "passage": "here is a passage that says: "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    return folder


def test_students_learn_embeddings_of_one_role(options, asymmetric, tmp_path):
    embedded, fingerprints = {}, set()
    for role, prompt in (("query", "search for: "), ("document", "here is a passage that says: ")):
        more = {"output_teacher": str(asymmetric), "output_role": role}
        inputs = Run.open(tmp_path / f"run-{role}", {**options, **more}).inputs
        samples = inputs.text.train.take(np.arange(6))
        (teacher,) = inputs.output_teacher.teachers
        plain = inputs.teacher.tokenizer.batch_decode(samples.clip(0), skip_special_tokens=True)
        texts = [prompt + text for text in plain]
        expected = folder_encoder(EvaluatedModel.open(str(asymmetric)), max_length=512)(texts)
        embedded[role] = teacher.embed(samples)
        np.testing.assert_allclose(
            embedded[role], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5
        )
        fingerprints.add(teacher.fingerprint)
    assert np.abs(embedded["query"] - embedded["document"]).max() > 5e-4
    assert len(fingerprints) == 2
    assert Run.open(tmp_path / "plain", options).inputs.config.output_role == "document"


def test_a_student_asks_the_index_of_its_output_teacher_in_plain_words(options, asymmetric, tmp_path, monkeypatch):
    """Documents are read by the other model with its own prompt, queries by the student with none."""
    (tmp_path / "space.yaml").write_text(SPACE.split("  base:")[0])
    more = {"output_teacher": str(asymmetric), "output_role": "query", "teacher": str(asymmetric)}
    run = Run.open(tmp_path / "run", {**options, **more})
    pipeline.train(run)
    pipeline.search(run, ["1GFLOPs"])
    student = pipeline.export(run, "best", tmp_path / "student")[1].path
    assert "of texts as its queries" in (student / "README.md").read_text()
    assert read_prompts(student) == {"query": "", "document": ""}, "those of its teacher are of another way to read"
    read = []
    real = PooledEncoder.__call__
    monkeypatch.setattr(PooledEncoder, "__call__", lambda self, texts: read.append(list(texts)) or real(self, texts))
    data = write_collection(tmp_path / "tasks")
    settings = EvaluationSettings(index_by=str(asymmetric))
    result = evaluate(str(student), ["pets"], data, settings=settings).results[0]
    assert result.details["prompts"] == {"query": "", "document": "here is a passage that says: "}
    assert [f"here is a passage that says: {text}" for text in PETS] in read
    assert PETS in read
    assert not [text for texts in read for text in texts if "search for" in text]


PETS = [f"the {word} house" for word in ("red", "blue", "old", "new")]


def write_collection(tasks):
    """A collection `pets`, where each text is the document of a query; returns the data folder."""
    folder = tasks / "retrieval" / "pets"
    (folder / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        rows = [{"_id": str(i), "text": text} for i, text in enumerate(PETS)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{i}\t{i}\t1\n" for i in range(4))
    )
    return tasks


def test_an_index_by_another_model_answers_only_in_its_space(outputs, tmp_path, quickstart_teacher_dir):
    data = write_collection(tmp_path / "tasks")
    same = EvaluationSettings(index_by=str(outputs))
    by_it, alone = (evaluate(str(outputs), ["pets"], data, settings=s).results[0] for s in (same, None))
    assert by_it.metrics == alone.metrics
    assert by_it.settings["index_by"] == str(outputs)
    other = EvaluationSettings(index_by="all-MiniLM-L6-v2")
    with pytest.raises(TaskError, match="32 dimensions, documents by 'all-MiniLM-L6-v2' 384"):
        evaluate(str(outputs), ["pets"], data, settings=other)
