"""Runs of teachers that read images: search, export to a fresh process, kill and resume, and bad input in one line."""

import subprocess
import sys

import pandas as pd
import pytest
import torch
from image_helpers import save_random_vit, write_images
from run_helpers import one_line, save_random_bert, train_in_two, write_corpus
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel
from variants import slow_but

from autodistil import cli, pipeline
from autodistil.data.batch import VISIBLE, PixelInputs
from autodistil.errors import ConfigError, TeacherError
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.run.run import Run

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
        (["--budget", "5ms@cpu,threads=1,runtime=torch,seq=17"], "is for models that read text"),
        (["--budget", "5MFLOPs", "--proxy", "stsb"], "proxy task 'stsb' is for models that read text"),
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


def test_other_formats_are_refused(searched, tmp_path, capsys):
    run, _ = searched
    line = refused(
        capsys, "export", "--run", run.folder.path, "--pick", "best", "--to", tmp_path / "x", "--format", "onnx"
    )
    assert "format 'onnx' is for models that read text" in line
    assert not (tmp_path / "x").exists()
    line = refused(capsys, "profile", "--run", run.folder.path)
    assert "is for models that read text" in line


def test_tasks_are_for_text(folder):
    with pytest.raises(TeacherError, match="is a vit, which reads images"):
        EvaluatedModel.open(options(folder)["teacher"]).tokenizer()


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


def test_patches_are_of_images(tmp_path, quickstart_teacher_dir):
    (tmp_path / "bert").mkdir()
    teacher = save_random_bert(tmp_path / "bert", quickstart_teacher_dir)
    given = {"teacher": str(teacher), "corpus": [str(write_corpus(tmp_path / "corpus.txt"))], "visible_patches": 0.5}
    with pytest.raises(ConfigError, match="of images, the teacher reads text; leave them out"):
        _ = Run.open(tmp_path / "run", given).inputs.text
