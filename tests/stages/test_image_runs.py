"""Runs of teachers that read images: search, export to a fresh process, kill and resume, and bad input in one line."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from autodistil_helpers import random_teacher
from device_helpers import entry_of, table_of
from image_helpers import save_random_vit, write_image_task, write_images
from run_helpers import one_line, save_random_bert, train_in_two, write_corpus
from safetensors.torch import load_file
from transformers import AutoConfig, AutoImageProcessor, AutoModel
from variants import slow_but

from autodistil import cli, pipeline
from autodistil.costs.budget import read_budget
from autodistil.data.batch import VISIBLE, PixelInputs
from autodistil.errors import BudgetError, ConfigError, TeacherError
from autodistil.evaluation.embedding import folder_encoder
from autodistil.evaluation.evaluate import FolderModel, evaluate
from autodistil.evaluation.proxy_task import load_proxy
from autodistil.export.model_formats import export_model
from autodistil.formats import FORMATS
from autodistil.formats.parity import cosines
from autodistil.formats.setting import RuntimeSetting
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.profiling.fingerprint import this_device
from autodistil.profiling.latency_model import workload
from autodistil.profiling.latency_table import read_table, write_table
from autodistil.profiling.profile import check_lengths
from autodistil.profiling.session import Plan
from autodistil.run.run import Run
from autodistil.space.student import Candidate
from autodistil.stages.adapting import adapt
from autodistil.stages.costing import targets_of
from autodistil.stages.profiling import folder_sources, run_sources
from autodistil.tasks.finetune import EvaluationSettings

pytestmark = pytest.mark.usefixtures("no_picture")

SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [16, 32], head_size: 16, mlp_ratio: 2}
  base: {num_layers: [2, 4], hidden_size: [32, 64], head_size: 16, mlp_ratio: [1, 2]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    (folder / "space.yaml").write_text(SPACE)
    write_images(folder / "pictures", 160)
    return folder


def options(folder, kind="vit", **more):
    teacher = folder / f"teacher-{kind}"
    if not teacher.is_dir():
        save_random_vit(teacher, kind)
    inputs = {"teacher": str(teacher), "corpus": [str(folder / "pictures")], "space": str(folder / "space.yaml")}
    return {**inputs, "batch_size": 2, "heldout_sequences": 4, "train_steps": 3, **more}


@pytest.fixture(
    scope="module",
    params=["vit", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("dinov2", "vit-grey", "deit"))],
)
def searched(request, folder, tmp_path_factory, no_picture):
    run = Run.open(
        tmp_path_factory.mktemp("runs") / request.param, options(folder, request.param, budgets=["10MFLOPs"])
    )
    return run, pipeline.search(run)


def test_a_search_scores_students_by_held_out_images(searched):
    run, result = searched
    table = pd.read_csv(run.folder.candidates_path)
    assert table[table["feasible"]]["loss"].notna().all()
    assert run.inputs.text.unit == "images"
    assert run.inputs.text.num_heldout == len(run.inputs.heldout_texts) == 16
    assert run.inputs.seq_len == run.inputs.teacher.max_length
    assert run.inputs.objective.name == "relation-kl+20*embedding-cosine"
    assert run.inputs.objective.options.pooling == run.inputs.teacher.pooling
    assert result.student.max_difference <= 1e-5
    text = (run.folder.path / "report.html").read_text()
    assert "8 images" in text
    assert "held-out images, of the" in text
    assert "batch 1, of an image (" in text


CODE = """
import sys
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel
model = AutoModel.from_pretrained(sys.argv[1]).eval()
image = Image.open(sys.argv[2]).convert(sys.argv[3])
inputs = AutoImageProcessor.from_pretrained(sys.argv[1])(image, return_tensors="pt")
with torch.no_grad():
    torch.save(model(**inputs).last_hidden_state, sys.argv[4])
assert not any(name.split(".")[0] == "autodistil" for name in sys.modules)
"""


@pytest.mark.slow
def test_an_export_loads_in_a_fresh_process(searched, folder, tmp_path):
    run, result = searched
    image = next((folder / "pictures").rglob("*.png"))
    mode = "L" if run.inputs.teacher.images.channels == 1 else "RGB"
    out = tmp_path / "states.pt"
    command = [sys.executable, "-W", "ignore", "-c", CODE, str(result.student.path), str(image), mode, str(out)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    candidate = next(c for c in run.inputs.space.candidates if c.id == result.best)
    superlm = run.superlms.refined(candidate)
    from PIL import Image

    with Image.open(image) as opened:
        pixels = run.inputs.teacher.images.pixels([opened.convert(mode)])
    with torch.no_grad():
        ours = superlm.forward(candidate.config, run.inputs.teacher.inputs.batch(pixels), output=True).output
    torch.testing.assert_close(torch.load(out), ours, rtol=0, atol=1e-5)
    card = (result.student.path / "README.md").read_text()
    assert "AutoImageProcessor" in card
    assert "image-feature-extraction" in card
    assert "unlabelled images only" in card
    assert "- images: pictures" in card
    assert "text" not in card.split("## Limits")[0]


@pytest.mark.slow
def test_the_code_on_a_card_runs(searched, folder, tmp_path, monkeypatch):
    run, result = searched
    card = (result.student.path / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    shutil.copytree(result.student.path, tmp_path / result.student.path.name)
    shutil.copy(next((folder / "pictures").rglob("*.jpg")), tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    with torch.no_grad():
        assert names["embedding"].shape == (1, names["model"].config.hidden_size)
    assert run.inputs.teacher.images.channels == len(names["image"].getbands())


@pytest.mark.parametrize("method", slow_but(["probe"], ["probe", "knn"]))
def test_a_proxy_task_of_images_ranks_students_as_their_exports_score(method, searched, tmp_path):
    data = write_image_task(tmp_path / "tasks", train=30)
    more = {"data": str(data), "proxy": "colours", "proxy_method": method, "proxy_top": 2, "refine_top": 0}
    run = Run.open(shutil.copytree(searched[0].folder.path, tmp_path / "run"), more)
    pipeline.search(run)
    table = pd.read_csv(run.folder.candidates_path).set_index("id")
    assert table["score"].count() == 2
    assert table.loc[table["score"].idxmax(), "rank"] == 1
    task = load_proxy("colours", data, method)
    student_id = table["score"].idxmax()
    exported = pipeline.export(run, student_id, tmp_path / "student", unrefined=True)[1].path
    model = EvaluatedModel.open(str(exported))
    score = task.score(FolderModel(model, "cpu", lambda: folder_encoder(model)))
    assert score == pytest.approx(table.loc[student_id, "score"], abs=0.04)  # a row that is a close call


def test_a_killed_training_resumes_to_the_same_bits(folder, tmp_path, monkeypatch):
    whole = Run.open(tmp_path / "whole", options(folder))
    pipeline.train(whole)
    halved = train_in_two(tmp_path / "halved", options(folder), monkeypatch)
    for name in ("tiny", "base"):
        ours, theirs = (load_file(c.folder.superlm_folder(name) / "superlm.safetensors") for c in (whole, halved))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_model_of_the_same_images_may_assist(folder, tmp_path):
    assistant = save_random_vit(tmp_path / "assistant", num_hidden_layers=4)
    run = Run.open(tmp_path / "run", options(folder, assistant=str(assistant), objective="relation-kl"))
    pipeline.train(run)
    assert run.superlms.taught == {"tiny", "base"}


# ---- devices


def test_folders_of_image_models_are_measured_at_their_own_length(searched):
    run, result = searched
    (source,), header = folder_sources([result.student.path])
    assert header["vocab_size"] == 0
    assert source.config.architecture == Candidate.of_id(result.best).config.architecture
    assert source.fixed_length
    assert source.max_length == run.inputs.seq_len
    check_lengths([source], Plan("torch", shapes=((1, source.max_length),)))
    sources, header = run_sources(run, 3)
    assert [one.fixed_length for one in sources] == [True] * 3
    assert header == {**header, "family": run.inputs.teacher.model.config.model_type, "vocab_size": 0}


def test_what_embeds_patches_has_a_price():
    teacher = random_teacher("vit")
    shape = teacher.encoder_shape
    known, none = (
        workload([teacher.dims], replace(shape, patch_flops=flops), 3, 17).time_features
        for flops in (shape.patch_flops, 0)
    )
    more = (known - none).loc[0]
    assert more[more != 0].to_dict() == {("embeddings", "products"): 3 * 16 * (3 * 4 * 4) * 64}


OPENING = re.compile(r"```python\n(import onnxruntime.*?)```", re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_budget_of_a_device_holds_and_files_answer_as_pytorch_does(folder, tmp_path, monkeypatch):
    """Real measurements of tiny students, all far below the budgets; then every further format, by the docs' lines."""
    device = ["900ms@cpu,runtime=torch", "900MBram@cpu,runtime=torch", "9MBfile@cpu,runtime=torch"]
    run = Run.open(tmp_path / "run", options(folder, budgets=device))
    result = pipeline.search(run)
    row = result.candidates.loc[result.best]
    for budget, cost in zip(device, ("ms", "ram_mb", "file_mb"), strict=True):
        where = budget.partition("@")[2]
        assert row[f"{cost}@{where}"] == row[f"{cost}@{where} measured"]
        assert 0 < row[f"{cost}@{where}"] < 900
    tables = [read_table(path) for path in (tmp_path / "run" / "latency").glob("*.json")]
    assert {(table.family, table.vocab_size) for table in tables} == {("vit", 0)}
    assert {(entry.batch, entry.seq_len) for table in tables for entry in table.entries} == {(1, 17)}
    names = ["onnx", "onnx-int8", "onnx-bits", "openvino", "openvino-int8"]
    student = tmp_path / "my-student"
    _, exported = pipeline.export(run, "best", student, formats=names)
    assert [one.format for one in exported.more] == names
    page = (Path(__file__).parents[2] / "docs" / "vision.md").read_text(encoding="utf-8")
    (block,) = OPENING.findall(page)
    shutil.copy(next((folder / "pictures").rglob("*.png")), tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    left: dict = {}
    exec(compile(block, "docs/vision.md", "exec"), left)
    with torch.no_grad():
        expected = AutoModel.from_pretrained(student).eval()(torch.from_numpy(left["pixels"])).last_hidden_state
    np.testing.assert_allclose(left["states"], expected, atol=1e-4)
    for name in names:
        answer = FORMATS[name].load(student / FORMATS[name].file, 1, "cpu").run({"pixel_values": left["pixels"]})
        assert cosines(answer[:, 0], expected[:, 0].numpy()).min() > 0.9


# ---- bad input


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    assert caught.value.code == 2
    return one_line(capsys)


@pytest.fixture
def search_images(folder, tmp_path):
    teacher = options(folder)["teacher"]
    return ["search", "--run", tmp_path / "run", "--teacher", teacher, "--space", folder / "space.yaml"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--budget", "1MFLOPs@64"], "got 64; allowed: 17, the tokens of an image"),
        (["--budget", "5MFLOPs", "--seq-len", "64"], "seq_len = 64 is for text, this teacher reads every image as 17"),
        (["--budget", "5ms@cpu,seq=64"], "budget '5ms@cpu,seq=64': got seq=64; allowed: 17, the tokens of an image"),
    ],
)
def test_what_is_for_text_is_refused(search_images, folder, more, message, capsys):
    line = refused(capsys, *search_images, "--corpus", folder / "pictures", *more)
    assert message in line


def test_text_is_no_corpus_of_images(search_images, tmp_path, capsys):
    line = refused(capsys, *search_images, "--budget", "5MFLOPs")
    assert "corpus 'python-docs' is text, this teacher reads images" in line
    text = write_corpus(tmp_path / "corpus.txt")
    line = refused(capsys, *search_images, "--budget", "5MFLOPs", "--corpus", text)
    assert "has no images but 1 other files" in line


def test_images_are_no_corpus_of_text(folder, tmp_path, quickstart_teacher_dir, capsys):
    teacher = save_random_bert(tmp_path / "bert", quickstart_teacher_dir)
    arguments = ["--run", tmp_path / "run", "--teacher", teacher, "--space", "smoke", "--corpus", folder / "pictures"]
    line = refused(capsys, "search", "--budget", "5MFLOPs", *arguments)
    assert "holds images alone, this teacher reads text" in line


def test_other_formats_and_lengths_are_refused(searched, tmp_path, capsys):
    run, _ = searched
    export = ["export", "--run", run.folder.path, "--pick", "best", "--to", tmp_path / "x"]
    line = refused(capsys, *export, "--format", "sentence-transformers")
    assert "has no sentence-transformers pipeline" in line
    assert not (tmp_path / "x").exists()
    line = refused(capsys, "profile", "--run", run.folder.path, "--seq-len", f"{run.inputs.seq_len},64")
    assert f"sequence length: got 64; allowed: {run.inputs.seq_len}, the tokens of an image" in line


def test_a_table_of_larger_images_is_refused(searched, tmp_path):
    run, _ = searched
    sources, header = run_sources(run, 4)
    setting = RuntimeSetting("cpu", "onnx", 1, 1, 64)
    table = table_of(this_device(), setting, [entry_of(source.config, setting) for source in sources])
    family, vocab_size = header["family"], header["vocab_size"]
    path = write_table(replace(table, family=family, vocab_size=vocab_size), tmp_path / "large.json")
    budget = read_budget(f"5ms@{path}")
    with pytest.raises(BudgetError, match=r"got seq=64; allowed: \d+, the tokens of an image; leave it out, or give a"):
        targets_of(run.inputs.teacher, run.config, [budget])


def test_a_model_of_images_has_no_tokenizer(folder):
    with pytest.raises(TeacherError, match="is a vit, which reads images"):
        EvaluatedModel.open(options(folder)["teacher"]).tokenizer()


def test_a_proxy_task_is_of_what_the_teacher_reads(search_images, folder, write_task, capsys):
    data = write_task("mine", train=[("a good day", "1"), ("a bad day", "0")] * 6)
    command = [*search_images, "--corpus", folder / "pictures", "--budget", "5MFLOPs", "--data", data, "--proxy"]
    assert "proxy task 'mine' is of text, the teacher reads images" in refused(capsys, *command, "mine")
    write_image_task(data)
    line = refused(capsys, *command, "colours", "--proxy-method", "similarity")
    assert "is of images; allowed methods: probe, knn, finetune, classify, cluster; got 'similarity'" in line
    damaged = sorted((data / "colours" / "train" / "red").iterdir())[3]
    damaged.write_bytes(damaged.read_bytes()[:200])
    assert f"image file '{damaged}' cannot be decoded" in refused(capsys, *command, "colours")


@pytest.mark.slow
def test_a_proxy_task_may_fine_tune_students(folder, tmp_path):
    proxy = {"proxy": "colours", "data": str(write_image_task(tmp_path / "tasks")), "proxy_method": "finetune"}
    run = Run.open(tmp_path / "run", options(folder, budgets=["10MFLOPs"], refine_top=0, proxy_top=2, **proxy))
    pipeline.search(run)
    assert pd.read_csv(run.folder.candidates_path)["score"].between(0, 1).sum() >= 1


def test_an_assistant_of_other_images_is_refused(folder, tmp_path, capsys):
    other = save_random_vit(tmp_path / "other", patch_size=8)
    arguments = ["train", "--run", tmp_path / "run", "--teacher", options(folder)["teacher"], "--assistant", other]
    line = refused(capsys, *arguments, "--corpus", folder / "pictures", "--space", folder / "space.yaml")
    assert "reads images otherwise than the teacher" in line


def test_the_pixels_of_a_teacher_are_those_of_auto_classes(folder):
    teacher = options(folder)["teacher"]
    assert AutoModel.from_pretrained(teacher).config.image_size == 16
    assert AutoImageProcessor.from_pretrained(teacher, backend="pil").size == {"height": 16, "width": 16}
    assert (
        PixelInputs((2.0,), (1.0,))
        .batch(torch.zeros(1, 1, 2, 2, dtype=torch.uint8).numpy())["pixel_values"]
        .eq(1)
        .all()
    )


@pytest.mark.parametrize("masking", slow_but(["disjoint"], ["random", "disjoint"]))
def test_a_training_on_a_part_of_the_patches_goes_on_where_it_stopped(folder, masking, tmp_path, monkeypatch):
    masked = {"visible_patches": 0.25, "masking": masking, "objective": "relation-kl+10*upper-hidden"}
    more = options(folder, batch_size=2, checkpoint_seconds=0.0, **masked)
    whole = Run.open(tmp_path / "whole", more)
    pipeline.train(whole)
    text = whole.inputs.text
    assert text.tokens_a_step == 8 * (1 + 4)
    first, again = (next(text.micro_batches(step)) for step in (1, 1))
    assert first[VISIBLE].shape == (8, 5)
    assert all(torch.equal(first[name], again[name]) for name in first)
    images = len(torch.unique(first["pixel_values"].flatten(1), dim=0))
    assert images == (2 if masking == "disjoint" else 8)
    run = train_in_two(tmp_path / "run", more, monkeypatch)
    for name in ("tiny", "base"):
        ours, theirs = (one.superlms.trained(name).state_dict() for one in (run, whole))
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, r"visible_patches = 1 is all of them; set it below 1, such as 0.25, or leave masking out"),
        ({"visible_patches": 0.05}, r"makes 20 views of an image, a micro-batch has 8 images; raise batch_size"),
    ],
)
def test_views_that_cannot_be_made_are_refused_before_a_training(folder, more, expected, tmp_path):
    run = Run.open(tmp_path / "run", options(folder, masking="disjoint", **more))
    with pytest.raises(ConfigError, match=expected):
        pipeline.train(run)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.slow
def test_students_whose_layers_have_sizes_of_their_own_are_evaluated_as_others(folder, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text(
        "sub_spaces:\n  base: {per_layer: true, num_layers: [2, 4], hidden_size: [32], head_size: 16, "
        "num_heads: [0, 1, 2], mlp_ratio: [0, 1, 2]}\n"
    )
    given = options(folder, space=str(space), budgets=["10MFLOPs"], trials=12, refine_top=0)
    run = Run.open(tmp_path / "run", given)
    table = pipeline.search(run).table
    uneven = next(one for one in table.within_budgets.best_first.ids if table[one].layers)
    student, data = tmp_path / "student", write_image_task(tmp_path / "tasks", train=16)
    pipeline.export(run, uneven, student, formats=("onnx",))
    assert AutoConfig.from_pretrained(student).model_type == "per-layer-vit"
    quick = EvaluationSettings(seeds=1, epochs=1, learning_rates=(1e-3,))
    for method in ("probe", "knn", "finetune"):
        assert evaluate(str(student), ["colours"], data, method, quick).results[0].rows == 12
    whole, by_file = (evaluate(str(student), ["colours"], data, "knn", file=file) for file in (None, "onnx/model.onnx"))
    assert whole.results[0].metrics == by_file.results[0].metrics
    (one,) = export_model(str(student), tmp_path / "again", ["onnx"])
    assert one.agreement.max_difference < 1e-4
    found = adapt(str(student), "colours", tmp_path / "adapted", data, settings=replace(quick, batch_size=8))
    assert found.own_architecture
    (again,) = evaluate(str(found.path), ["colours"], data).results
    assert (again.method, again.metrics["accuracy"][0]) == ("classify", found.metrics["student"]["accuracy"])


def test_patches_are_of_images(tmp_path, quickstart_teacher_dir):
    (tmp_path / "bert").mkdir()
    teacher = save_random_bert(tmp_path / "bert", quickstart_teacher_dir)
    given = {"teacher": str(teacher), "corpus": [str(write_corpus(tmp_path / "corpus.txt"))], "visible_patches": 0.5}
    with pytest.raises(ConfigError, match="of images, the teacher reads text; leave them out"):
        _ = Run.open(tmp_path / "run", given).inputs.text
