"""A static model of the teacher, beside the students in a report once it was asked for."""

import json
import sys

import pytest
from run_helpers import one_line, run_options

from autodistil import cli, pipeline
from autodistil.run.run import Run
from autodistil.stages.static import StaticModel, read_static

pytestmark = pytest.mark.usefixtures("no_picture")

SPACE = "sub_spaces: {tiny: {num_layers: [2], hidden_size: [16, 32], head_size: 16, mlp_ratio: [2.0]}}"


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


@pytest.fixture(scope="module")
def searched(tmp_path_factory, quickstart_teacher_dir, sentence_folder):
    folder = tmp_path_factory.mktemp("static")
    options = run_options(folder, quickstart_teacher_dir, SPACE, train_steps=1, budgets=["1GFLOPs"])
    pipeline.search(Run.open(folder / "run", {**options, "teacher": str(sentence_folder)}))
    return folder / "run"


def test_it_is_shown_from_then_on(searched, capsys):
    pytest.importorskip("model2vec.distill")
    assert "static model" not in (searched / "report.html").read_text()
    assert run("report", "--run", searched, "--static") == 0
    static = read_static(searched / "static.json")
    assert (static.dimensions, static.texts) == (32, 16)
    assert -1 <= static.rsa <= 1
    assert static.size_mb == pytest.approx(30522 * 32 * 2 / 1e6, rel=0.1)  # in float16
    captured = capsys.readouterr()
    assert static.words in " ".join(captured.out.split())
    assert "tokens" not in captured.err  # no bar of the library
    assert run("report", "--run", searched, "--format", "md") == 0
    assert "Without a Transformer: model2vec" in (searched / "report.md").read_text()
    (searched / "static.json").write_text("{")  # damage: as if nobody had asked
    assert run("report", "--run", searched) == 0
    assert "Without a Transformer" not in (searched / "report.html").read_text()


def test_without_the_library_the_line_that_installs_it_is_said(searched, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "model2vec.distill", None)
    assert run("report", "--run", searched, "--static") == 2
    assert "--static needs model2vec, which is not installed; run: pip install 'autodistil[static]'" in one_line(capsys)


@pytest.mark.slow
def test_a_teacher_without_embeddings_has_none(tmp_path, quickstart_teacher_dir, capsys):
    options = run_options(tmp_path, quickstart_teacher_dir, SPACE, train_steps=1, budgets=["1GFLOPs"])
    pipeline.search(Run.open(tmp_path / "run", options))
    assert run("report", "--run", tmp_path / "run", "--static") == 2
    assert "embeds no text to compare with; leave --static out" in one_line(capsys)


def test_what_was_found_survives_its_file(tmp_path):
    found = StaticModel(256, 15.3, 0.61, 0.02, 128)
    (tmp_path / "static.json").write_text(json.dumps(vars(found)))
    assert read_static(tmp_path / "static.json") == found
    assert read_static(tmp_path / "none.json") is None
