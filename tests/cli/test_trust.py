"""Code that comes with a teacher runs only for who asks for it on the command line, each time; no file can ask."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from run_helpers import one_line, run_options

import autodistil
from autodistil.cli import main
from autodistil.errors import ConfigError, RunError
from autodistil.models.teacher import load_teacher
from autodistil.run.run import Run

SPACE = "sub_spaces: {tiny: {num_layers: 2, hidden_size: 32, head_size: 16, mlp_ratio: 2}}"
CODE = """
from pathlib import Path
from transformers import BertConfig, BertModel

class OwnConfig(BertConfig):
    def __init__(self, *args, **kwargs):  # an import runs once in a process
        Path(__file__).with_name("it-ran").touch()
        super().__init__(*args, **kwargs)

class OwnModel(BertModel):
    config_class = OwnConfig
"""


def ran(folder):
    """Whether the code of the teacher ran since this was last asked."""
    marks = list(folder.rglob("it-ran"))
    for mark in marks:
        mark.unlink()
    return bool(marks)


@pytest.fixture(scope="module")
def place(tmp_path_factory, quickstart_teacher_dir):
    """Where the teacher, its code wherever transformers copies it, and the run lie."""
    folder = tmp_path_factory.mktemp("trust")
    options = run_options(folder, quickstart_teacher_dir, SPACE, train_steps=1)
    teacher = Path(options["teacher"])
    config = json.loads((teacher / "config.json").read_text())
    own = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    (teacher / "config.json").write_text(json.dumps({**config, "auto_map": own}))
    (teacher / "own.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder / "modules"))
        run = Run.open(folder / "run", {**options, "budgets": ("1GFLOPs",), "trust_remote_code": True})
        run.inputs.write_record()
        assert ran(folder)
        yield folder


def ended(*arguments):
    """The exit status of a command."""
    with pytest.raises(SystemExit) as status:
        main([str(argument) for argument in arguments])
    return status.value.code


@pytest.mark.parametrize(
    "command",
    [
        ["report"],
        ["export", "--to", "student"],
        ["search", "--resume", "--budget", "1GFLOPs"],
        ["train", "--resume"],
        ["tune"],
        ["refine"],
        ["certify"],
        ["profile"],
    ],
    ids=lambda command: command[0],
)
def test_a_run_that_was_received_runs_no_code(place, command, capsys):
    shutil.copytree(place / "run", place / "received", dirs_exist_ok=True)
    assert ended(*command, "--run", place / "received") == 2
    assert "add --trust-remote-code" in one_line(capsys)
    assert not ran(place)


def test_no_file_asks_for_code_and_the_command_line_does(place, capsys):
    options = yaml.safe_load((place / "run" / "run.yaml").read_text())["config"]
    assert options["trust_remote_code"] is True  # recorded, as it decided what the run computes
    command = ["train", "--config", place / "run" / "run.yaml", "--run", place / "again"]
    assert ended(*command) == 2
    assert "add --trust-remote-code" in one_line(capsys)
    assert not ran(place)
    assert ended(*command, "--trust-remote-code") == 0
    assert ran(place)


def test_python_asks_by_an_argument(place):
    with pytest.raises(ConfigError, match="trust_remote_code=True"):
        autodistil.open_run(place / "run")
    with pytest.raises(ConfigError, match="trust_remote_code=True"):
        autodistil.search(place / "run")
    assert not ran(place)
    assert Run.open(place / "run", {"trust_remote_code": True}).config.trust_remote_code


def test_a_run_without_code_of_its_teacher_stays_without(place, tmp_path):
    options = yaml.safe_load((place / "run" / "run.yaml").read_text())["config"]
    run = Run.open(tmp_path / "run", {**options, "trust_remote_code": False})
    run.inputs.write_record()
    assert not ran(place)
    with pytest.raises(RunError, match="made with trust_remote_code = False"):
        Run.open(tmp_path / "run", {"trust_remote_code": True})


def test_a_model_that_needs_its_code_says_what_to_pass(place, tmp_path):
    teacher = shutil.copytree(place / "teacher", tmp_path / "teacher")
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps({**config, "model_type": "own"}))
    with pytest.raises(autodistil.errors.TeacherError, match=r"^[^\n]*--trust-remote-code[^\n]*$"):
        load_teacher(str(teacher))
    assert not ran(tmp_path)
