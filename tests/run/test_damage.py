"""Files of a run folder that are damaged or gone: one line that says what to do, and nothing is taken for whole."""

import json
import shutil
from pathlib import Path

import pytest
from run_helpers import one_line, run_options
from variants import slow_but

from autodistil import cli, pipeline
from autodistil.errors import RunError
from autodistil.evaluation.heldout import HeldOutScorer
from autodistil.run.kept import check_settings, read_refinements
from autodistil.run.run import Run
from autodistil.stages.refining import refining_recipe
from autodistil.student_search.certificate.measured import read_measured
from autodistil.training.metrics import missing_steps, read_metrics

SPACE = "sub_spaces: {tiny: {num_layers: [2], hidden_size: [16, 32], head_size: 16, mlp_ratio: [1.0, 2.0]}}"


@pytest.fixture(scope="module")
def searched(tmp_path_factory, quickstart_teacher_dir, no_picture):
    """A run that was searched once, with a refined student."""
    folder = tmp_path_factory.mktemp("searched")
    options = run_options(folder, quickstart_teacher_dir, SPACE, train_steps=3, refine_top=1, refine_steps=1, threads=1)
    pipeline.search(Run.open(folder / "run", {**options, "budgets": ["5GFLOPs"]}))
    return folder / "run"


@pytest.fixture
def folder(searched, tmp_path):
    return shutil.copytree(searched, tmp_path / "run")


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def emptied(path):
    path.write_bytes(b"")


def garbled(path):
    path.write_bytes(bytes(range(128, 256)) * 20 + b"\n5\n{}\n[1]\nnull\n")


def command(*words):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(word) for word in words])
    return caught.value.code


@pytest.mark.parametrize("damage", slow_but([flip], [half, flip]))
@pytest.mark.parametrize("verb", ["report", "export", "compare"])
def test_damaged_candidates_are_refused_and_searching_writes_them_again(folder, searched, capsys, damage, verb):
    path = folder / "candidates.csv"
    whole = path.read_bytes()
    damage(path)
    options = {"report": ["--run", folder], "export": ["--run", folder, "--to", folder / "new"]}
    assert command(verb, *options.get(verb, [folder, searched])) == 2
    assert "checksum differs: cut short, flipped or edited since it was written); write it anew" in one_line(capsys)
    if verb == "report":
        weights = (folder / "superlm" / "tiny" / "superlm.safetensors").stat().st_mtime_ns
        assert command("search", "--run", folder) == 0
        assert path.read_bytes() == whole
        assert (folder / "superlm" / "tiny" / "superlm.safetensors").stat().st_mtime_ns == weights


def refined_weights(run):
    known = read_refinements(run.folder.refined_path)
    return run.superlms.refined(next(one for one in run.inputs.space.candidates if one.id in known))


def refine_again(run):
    (refined,) = read_refinements(run.folder.refined_path)
    check_settings(run.folder.refined_folder(refined), refining_recipe(run.config, run.folder.resolved()))


@pytest.mark.parametrize(
    ("name", "read", "next_step"),
    [
        ("superlm/tiny/superlm.safetensors", lambda run: run.superlms.trained("tiny"), "remove it to train again"),
        ("importance.safetensors", lambda run: run.inputs.importance_order, "restore it, or give another --run folder"),
        ("heldout.npy", lambda run: run.inputs.heldout_texts, "restore it, or give another --run folder"),
        ("refined/*/superlm.safetensors", refined_weights, "export --unrefined"),
        ("refined/*/result.json", lambda run: read_refinements(run.folder.refined_path), "remove it to score"),
        ("refined/*/settings.json", refine_again, "to refine the student anew"),
        ("certificate.json", lambda run: read_measured(run.folder.certificate_path), "autodistil certify --run"),
    ],
)
def test_a_flipped_bit_is_said_with_the_next_step(folder, tmp_path, name, read, next_step):
    (path,) = folder.glob(name)
    known = path.with_name(f".{path.name}.sum").rename(tmp_path / "kept")
    read(Run.open(folder))  # as an earlier release left it
    known.rename(path.with_name(f".{path.name}.sum"))
    flip(path)
    with pytest.raises(RunError, match=r"checksum differs") as caught:
        read(Run.open(folder))
    assert next_step in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["superlm/tiny/superlm.safetensors", "importance.safetensors"])
def test_no_student_is_exported_of_damaged_weights(folder, capsys, name):
    flip(folder / name)
    capsys.readouterr()
    assert command("export", "--run", folder, "--to", folder / "new") == 2
    assert "checksum differs" in one_line(capsys)
    assert not (folder / "new").exists()


@pytest.mark.parametrize("damage", [emptied, garbled, half, Path.unlink])
def test_the_report_says_how_many_steps_its_curves_lack(folder, capsys, damage):
    damage(folder / "metrics.jsonl")
    assert command("report", "--run", folder) == 0
    lacks = "metrics.jsonl lacks"
    assert lacks in capsys.readouterr().out
    assert lacks in (folder / "report.html").read_text()


def test_steps_are_counted_and_damaged_lines_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [json.dumps({"sub_space": "a", "step": step, "loss": 1.0}) for step in (1, 2, 2, 4)]
    path.write_text("\n".join([*rows, "5", "null", "[1]", "{}", '{"sub_space": "a", "step": "x"}', rows[0][:9]]))
    found = read_metrics(path)
    assert [row["step"] for row in found] == [1, 2, 2, 4]
    assert missing_steps(found, ["a", "b"], 4) == {"a": 1, "b": 4}
    assert missing_steps(found, ["a"], 2) == {}


def test_a_folder_that_is_gone_while_students_are_scored_is_one_line(folder, capsys, monkeypatch):
    (folder / "study.db").unlink()
    score = HeldOutScorer.blocks_of

    def gone(*arguments):
        scored = score(*arguments)
        shutil.rmtree(folder, ignore_errors=True)
        return scored

    monkeypatch.setattr(HeldOutScorer, "blocks_of", gone)
    assert command("search", "--run", folder) == 2
    assert "cannot be read or written any more" in one_line(capsys)


def test_damaged_lines_are_said_once_however_many_there_are(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(["5"] * 1000 + [json.dumps({"sub_space": "a", "step": 1, "loss": 1.0})]))
    assert len(read_metrics(path)) == 1
    assert [record.getMessage() for record in caplog.records] == [f"left out 1000 damaged lines of {path}"]
