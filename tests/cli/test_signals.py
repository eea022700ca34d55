"""Whoever stops a command, and wherever it is, gets its exit status and the line that goes on."""

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from run_helpers import save_random_bert, write_corpus

from autodistil import cli
from autodistil.run.folder import RunFolder
from autodistil.utils import own_sigterm, stop_on_interrupt

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
EVERY_SIGNAL = pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)

STOPPED_AT_AN_IMPORT = """
import os, sys, time

class Stops:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1] and self in sys.meta_path:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(sys.argv[2]))

sys.meta_path.insert(0, Stops())
from autodistil.cli import main
main(sys.argv[3:])
"""


def kill_me(number):
    os.kill(os.getpid(), number)


def stopped(arguments, capsys):
    """Exit status and the words after "go on with:" of a command line in this process."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    before, words = line.split("; go on with: ")
    assert before == "autodistil: stopped"
    return caught.value.code, shlex.split(words)


@EVERY_SIGNAL
@pytest.mark.parametrize(
    "module",
    [
        "autodistil.cli.commands",
        "typer",
        "rich",
        "autodistil.cli.certify",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("torch", "transformers", "pandas", "optuna")),
    ],
)
def test_a_signal_while_modules_are_imported(module, number, tmp_path):
    command = [sys.executable, "-c", STOPPED_AT_AN_IMPORT, module, str(int(number))]
    arguments = ["search", "--budget", "1MB", "--run", str(tmp_path / "a run")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    line = f"autodistil: stopped; go on with: autodistil {shlex.join([*arguments, '--resume'])}\n"
    assert (done.returncode, done.stderr) == (STATUS[number], line)


@EVERY_SIGNAL
@pytest.mark.parametrize(
    ("verb", "resumes"),
    [
        ("search --budget 1MB --run", True),
        ("train --run", True),
        ("tune --run", True),
        ("certify --run", True),
        ("refine --run", True),
        ("report --run", False),
        ("export --to there --run", False),
        ("profile --run", False),
        ("compare other", False),
    ],
)
def test_every_command_says_what_goes_on(verb, resumes, number, monkeypatch, capsys):
    monkeypatch.setattr(RunFolder, "exists", lambda folder: kill_me(number))
    arguments = [*verb.split(), "it's a run; of mine"]
    status, words = stopped(arguments, capsys)
    assert status == STATUS[number]
    assert words == ["autodistil", *arguments, *["--resume"] * resumes]


def test_the_line_has_resume_once(monkeypatch, capsys):
    monkeypatch.setattr(RunFolder, "exists", lambda folder: kill_me(signal.SIGTERM))
    assert stopped(["train", "--resume", "--run", "x"], capsys)[1] == ["autodistil", "train", "--run", "x", "--resume"]


def test_a_command_leaves_the_handler_of_its_process_as_it_was(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(RunFolder, "exists", lambda folder: kill_me(signal.SIGTERM))
    stopped(["report", "--run", "x"], capsys)
    assert signal.getsignal(signal.SIGTERM) is before


def work(numbers, obeys=True):
    """What gets done of two steps when signals come in the first one."""
    done = []
    with suppress(KeyboardInterrupt), stop_on_interrupt() as stop:
        for number in numbers:
            kill_me(number)
        done.append("the step")
        assert stop.requested
        if obeys:
            stop.obey()
        done.append("another step")
    return done


def test_work_in_steps_ends_at_a_good_place():
    assert work([signal.SIGINT]) == ["the step"]


def test_work_in_steps_ends_with_the_status_of_its_signal():
    with pytest.raises(SystemExit) as caught:
        work([signal.SIGTERM])
    assert caught.value.code == 143


def test_a_request_that_nobody_obeyed_holds_at_the_end_of_the_block():
    with pytest.raises(SystemExit):
        work([signal.SIGTERM], obeys=False)


def test_a_second_signal_interrupts_at_once():
    assert work([signal.SIGINT, signal.SIGTERM]) == []


def test_ray_does_not_take_sigterm():
    def theirs(handler):
        pytest.fail("Ray's answer is not wanted")

    utils = SimpleNamespace(set_sigterm_handler=theirs)
    ray = SimpleNamespace(_private=SimpleNamespace(utils=utils))
    with own_sigterm(ray):
        ray._private.utils.set_sigterm_handler(lambda number, frame: None)
    assert utils.set_sigterm_handler is theirs


@pytest.mark.slow
@EVERY_SIGNAL
def test_a_stopped_training_goes_on_by_the_line_that_it_says(number, tmp_path, quickstart_teacher_dir):
    save_random_bert(tmp_path / "teacher", quickstart_teacher_dir)
    corpus = write_corpus(tmp_path / "some text.txt")
    shape = ["--space", "smoke", "--train-steps", "40", "--batch-size", "4", "--seq-len", "32", "--threads", "1"]
    words = ["--run", str(tmp_path / "a run"), "--teacher", str(tmp_path / "teacher"), "--corpus", str(corpus), *shape]
    process = subprocess.Popen(
        [sys.executable, "-m", "autodistil", "train", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    metrics = tmp_path / "a run" / "metrics.jsonl"
    while not metrics.is_file() or not metrics.read_text():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == STATUS[number]
    again = shlex.split(stderr.removeprefix("autodistil: stopped; go on with: autodistil "))
    assert list((tmp_path / "a run").rglob("checkpoint.safetensors"))
    subprocess.run([sys.executable, "-m", "autodistil", *again], check=True, capture_output=True, timeout=110)
    assert not list((tmp_path / "a run").rglob("checkpoint.safetensors"))


IN_A_SESSION = """
import os, signal, sys, time
from autodistil.cli import commands, main
from autodistil.cluster import ray_session

def run(arguments):
    with ray_session.ray_session():
        if "inside" in arguments:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

if "starting" in sys.argv:
    import ray
    describe = ray_session._describe
    from ray._private import worker
    connect = worker.connect
    def stopping(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return connect(*arguments, **options)
    worker.connect = stopping

commands.run = run
main(["search", "--run", *sys.argv[1:]])
"""


@pytest.mark.ray
@pytest.mark.parametrize("moment", ["starting", "inside"])
def test_the_driver_of_a_ray_cluster_answers_as_all_do(moment):
    done = subprocess.run([sys.executable, "-c", IN_A_SESSION, moment], capture_output=True, text=True, check=False)
    assert done.returncode == 143, done.stderr
    assert f"autodistil: stopped; go on with: autodistil search --run {moment} --resume\n" in done.stderr
