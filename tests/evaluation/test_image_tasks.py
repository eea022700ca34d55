"""Labelled images: what is read, that features are those of transformers, and scores those of scikit-learn."""

import json
import shutil

import numpy as np
import pytest
import torch
from autodistil_helpers import random_teacher, uneven_students
from hypothesis import given
from hypothesis import strategies as st
from image_helpers import PROCESSORS, save_random_vit, write_image_task
from PIL import Image
from run_helpers import one_line
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoImageProcessor, AutoModel
from variants import slow_but

from autodistil import cli
from autodistil.errors import AutodistilError, ConfigError
from autodistil.evaluation import embedding
from autodistil.evaluation.embedding import folder_encoder, linear_probe
from autodistil.evaluation.evaluate import evaluate
from autodistil.evaluation.nearest_neighbours import nearest_neighbours
from autodistil.evaluation.results import read_results
from autodistil.formats.writing import write_formats
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.superlm import SuperLM
from autodistil.space.space import OneStudent
from autodistil.tasks.catalogue import Split, Task, TaskData, load_task
from autodistil.tasks.few_labels import each_class, read_shares
from autodistil.tasks.finetune import EvaluationSettings


def run(*arguments):
    """Exit status of a command line in this process."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return write_image_task(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return save_random_vit(tmp_path_factory.mktemp("models") / "vit")


def image_files(split):
    return [str(path) for path in sorted(split.rglob("*.png"))]


# ---- what is read


def test_folders_are_classes_and_files_their_rows(tmp_path):
    folder = write_image_task(tmp_path, "digits", ("2", "10", "1"), train=2, test=1) / "digits"
    (folder / "train" / "10" / "notes.txt").write_text("no image")
    (folder / "train" / ".hidden").mkdir()
    (folder / "train" / "2" / "more").mkdir()
    shutil.copy(folder / "test" / "2" / "000.png", folder / "train" / "2" / "more" / "x.PNG")
    data = load_task("digits", tmp_path)
    assert data.classes == ("1", "2", "10")
    assert data.evaluated_name == "test"
    assert data.splits["train"].labels.tolist() == [0, 0, 2, 2, 1, 1, 1]
    assert all(data.classes[label] in name for name, label in zip(data.evaluated.text_a, [0, 2, 1], strict=True))
    shutil.copytree(folder / "train", folder / "dev")
    assert load_task("digits", tmp_path).evaluated_name == "dev"


def test_the_same_images_are_the_same_task_wherever_they_lie(tasks, tmp_path):
    copied = shutil.copytree(tasks, tmp_path / "copy")
    first = load_task("colours", tasks).fingerprint
    assert load_task("colours", copied).fingerprint == first
    image = copied / "colours" / "train" / "red" / "000.png"
    image.rename(image.with_name("other.png"))
    renamed = load_task("colours", copied).fingerprint
    Image.new("RGB", (18, 20)).save(image.with_name("other.png"))
    assert len({first, renamed, load_task("colours", copied).fingerprint}) == 3


@pytest.mark.parametrize("kind", slow_but(["dinov2"], ["vit", "vit-grey", "deit", "dinov2"]))
def test_features_are_class_tokens_of_transformers(kind, tasks, tmp_path):
    folder = save_random_vit(tmp_path, kind)
    files = image_files(tasks / "colours" / "test")
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
    images = [Image.open(file).convert("L" if PROCESSORS[kind]()[1] == 1 else "RGB") for file in files]
    with torch.no_grad():
        states = model(**processor(images=images, return_tensors="pt")).last_hidden_state
    encode = folder_encoder(EvaluatedModel.open(str(folder)))
    np.testing.assert_allclose(encode(files), states[:, 0], atol=1e-5)
    np.testing.assert_array_equal(encode([files[3], files[0], files[3]]), encode(files)[[3, 0, 3]])
    cut = folder_encoder(EvaluatedModel.open(str(folder)), truncate_dim=8)(files)
    np.testing.assert_allclose(cut, states[:, 0, :8], atol=1e-5)


def test_a_student_whose_layers_have_sizes_of_their_own_reads_images(tasks, tmp_path):
    teacher = random_teacher("vit")
    uneven = uneven_students(teacher)[0]
    student = SuperLM.from_teacher(teacher, OneStudent("uneven", uneven)).extract(uneven)
    student.save_pretrained(tmp_path)
    PROCESSORS["vit"]()[0].save_pretrained(tmp_path)
    assert student.config.model_type == "per-layer-vit"
    files = image_files(tasks / "colours" / "test")
    inputs = AutoImageProcessor.from_pretrained(tmp_path)([Image.open(file) for file in files], return_tensors="pt")
    with torch.no_grad():
        expected = student(**inputs).last_hidden_state[:, 0]
    model = EvaluatedModel.open(str(tmp_path))
    assert model.reads_images
    np.testing.assert_allclose(folder_encoder(model)(files), expected, atol=1e-5)
    assert evaluate(str(tmp_path), ["colours"], tasks, "knn").results[0].rows == 12


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vit", "deit"])
def test_features_of_a_file_are_those_of_the_weights(kind, tasks, tmp_path):
    folder = save_random_vit(tmp_path, kind)
    files = image_files(tasks / "colours" / "test")
    expected = folder_encoder(EvaluatedModel.open(str(folder)))(files)
    write_formats(AutoModel.from_pretrained(folder).eval(), None, ["onnx", "openvino"], folder)
    weights = load_file(folder / "model.safetensors")  # whose shapes are looked at, and whose values are not read
    save_file({name: torch.zeros_like(one) for name, one in weights.items()}, folder / "model.safetensors")
    for file in ("onnx/model.onnx", "openvino/openvino_model.xml"):
        by_file = folder_encoder(EvaluatedModel.open(str(folder), file=file))
        np.testing.assert_allclose(by_file(files), expected, atol=1e-4)


# ---- scores


def features_of(draw_seed, classes, rows):
    """A task whose texts are row numbers, and the encoder that knows their random features."""
    random = np.random.default_rng(draw_seed)
    features, labels = random.normal(size=(rows, 5)), np.arange(rows) % classes
    names = tuple(map(str, range(rows)))
    part = rows // 2
    splits = {"train": Split(names[:part], None, labels[:part]), "test": Split(names[part:], None, labels[part:])}
    data = TaskData(Task("random"), splits, tuple(map(str, range(classes))), "here", "")
    return data, lambda texts: features[[int(text) for text in texts]]


def dino_votes(train, labels, scored, k, classes):
    """Classes by the lines of `eval_knn.py` of DINO."""
    train, scored = (torch.nn.functional.normalize(torch.from_numpy(x), dim=1) for x in (train, scored))
    similar, indices = (scored @ train.T).topk(k, largest=True, sorted=True)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels)[indices], classes)
    return (one_hot * similar.div(0.07).exp().unsqueeze(-1)).sum(1).argmax(1).numpy()


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 4), k=st.integers(1, 30))
def test_neighbours_vote_as_in_dino_and_in_scikit_learn(seed, classes, k):
    data, encode = features_of(seed, classes, 40)
    train, test = data.splits["train"], data.evaluated
    used = min(k, len(train))
    votes = dino_votes(encode(train.text_a), train.labels, encode(test.text_a), used, classes)
    found = nearest_neighbours(data, encode, train, k)
    assert found == data.scores(test, votes)
    by_hand = KNeighborsClassifier(used, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    by_hand.fit(encode(train.text_a), train.labels)
    assert found["accuracy"] == by_hand.score(encode(test.text_a), test.labels)


def test_a_probe_is_logistic_regression_on_standardised_features(tasks, vit, monkeypatch):
    monkeypatch.setattr(embedding, "_STRENGTHS", (0.1,))
    data, encode = load_task("colours", tasks), folder_encoder(EvaluatedModel.open(str(vit)))
    train, test = ((encode(part.text_a), part.labels) for part in (data.splits["train"], data.evaluated))
    by_hand = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(*train)
    assert linear_probe(data, encode)["accuracy"] == by_hand.score(*test)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0.01, 1), st.integers(0, 99))
def test_a_share_of_the_labels_is_one_of_each_class(labels, share, seed):
    labels = np.array(labels)
    drawn = each_class(labels, share, seed)
    assert (np.diff(drawn) > 0).all()
    for one in np.unique(labels):
        count = (labels == one).sum()
        assert (labels[drawn] == one).sum() == max(1, round(share * count))
    np.testing.assert_array_equal(drawn, each_class(labels, share, seed))


def test_shares_are_percentages():
    assert read_shares("100%, 1%,2.5%") == (0.01, 0.025, 1.0)
    for text in ("5", "", "0%", "101%", "1%,1%", "x%", "nan%", "1%,"):
        with pytest.raises(ConfigError, match="allowed: percentages above 0 and up to 100"):
            read_shares(text)


def test_a_rare_class_counts_as_a_frequent_one(tmp_path, vit):
    folder = write_image_task(tmp_path, test=6)
    for path in sorted((folder / "colours" / "test" / "red").iterdir())[1:]:
        path.unlink()
    (result,) = evaluate(str(vit), ["colours"], folder, "knn").results
    assert set(result.metrics) == {"accuracy", "balanced_accuracy"}
    assert result.baseline == {"accuracy": 6 / 13, "balanced_accuracy": 1 / 3} or result.baseline == {
        "accuracy": 1 / 13,
        "balanced_accuracy": 1 / 3,
    }


def test_each_share_is_a_row_that_is_kept_beside_the_others(tasks, vit, tmp_path, capsys):
    student = shutil.copytree(vit, tmp_path / "student")
    (student / "README.md").write_text("---\ntags:\n- autodistil\n- vit\n---\n\n# tiny\n")
    command = ["evaluate", student, "--task", "colours", "--data", tasks, "--threads", 1]
    assert run(*command, "--method", "knn", "--labels", "100%,25%", "--neighbours", 3, "--json") == 0
    few, whole = json.loads(capsys.readouterr().out)["results"]
    assert (few["train_rows"], few["seeds"], few["settings"]["labels"]) == (6, 3, 0.25)
    assert (whole["train_rows"], whole["seeds"]) == (24, 1)
    assert "max_length" not in whole["settings"]
    assert whole["data"]["modality"] == "image"
    assert run(*command, "--labels", "25%,100%") == 0
    head = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("┃"))
    assert "labels" in head
    kept = [(one.method, one.labels) for one in read_results(student)]
    assert kept == [("knn", 0.25), ("knn", 1.0), ("probe", 0.25), ("probe", 1.0)]
    card = (student / "README.md").read_text()
    assert "type: image-classification" in card
    assert "linear probe, 25 % of the labels" in card
    (alone,) = evaluate(str(vit), ["colours"], tasks, "knn", EvaluationSettings(neighbours=3)).results
    assert alone.metrics["accuracy"] == tuple(whole["metrics"]["accuracy"]["values"])


# ---- bad input


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--method", "similarity"], "is of images; allowed methods: probe, knn, finetune, classify, cluster"),
        (["--method", "classify"], "has no classification head, which classify needs"),
        (["--method", "cluster", "--labels", "5%"], "labels are for methods probe, knn, finetune"),
        (["--neighbours", "0"], "neighbours = 0 is too small"),
        (["--beside", "all-MiniLM-L6-v2"], "is of images, model 'all-MiniLM-L6-v2' reads text"),
    ],
)
def test_what_images_have_not_is_refused(more, expected, tasks, vit, capsys):
    assert run("evaluate", vit, "--task", "colours", "--data", tasks, *more) == 2
    assert expected in one_line(capsys)


def test_a_model_of_images_reads_no_text(vit, write_task, capsys):
    data = write_task("mine", train=[("a", "0"), ("b", "1")], dev=[("a", "0"), ("b", "1")])
    assert run("evaluate", vit, "--task", "mine", "--data", data) == 2
    assert f"task 'mine' is of text, model '{vit}' reads images" in one_line(capsys)


def test_damaged_folders_of_images_are_one_line(tmp_path, vit):
    folder = write_image_task(tmp_path) / "colours"

    def refused():
        with pytest.raises(AutodistilError) as caught:
            evaluate(str(vit), ["colours"], tmp_path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    damaged = folder / "test" / "red" / "001.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert f"image file '{damaged}' cannot be decoded" in refused()
    damaged.unlink()
    (folder / "train" / "green").rename(folder / "train" / "yellow")
    assert "has the label 'green'; allowed: those of the first split: blue, red, yellow" in refused()
    (folder / "train" / "empty").mkdir()
    assert f"class folder '{folder / 'train' / 'empty'}' holds no images" in refused()
    shutil.rmtree(folder / "test")
    (folder / "test").mkdir()
    (folder / "train" / "empty").rmdir()
    assert f"task folder '{folder / 'test'}' has no folder of a class" in refused()
    (folder / "test").rmdir()
    assert "has no dev and no test split" in refused()
