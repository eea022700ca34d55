"""What nobody means, of every option: one line with status 2, and nothing of it steers the terminal."""

import pytest
from run_helpers import one_line

from autodistil import cli
from autodistil.cli.progress import TerminalProgress
from autodistil.cli.terminal import print_lines, print_table, printable
from autodistil.config import OPTIONS, RunConfig
from autodistil.errors import ConfigError, RunError
from autodistil.run.folder import RunFolder

WHOLE = [name for name, option in OPTIONS.items() if option.kind is int]
REAL = [name for name, option in OPTIONS.items() if option.kind is float]
STEERING = "a\x1b[31mred\x07\u202eb\udcff"
SHOWN = r"a\x1b[31mred\x07\u202eb\udcff"


def said(capsys, *arguments):
    """The line of a command that is refused."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    assert caught.value.code == 2
    return one_line(capsys)


@pytest.mark.parametrize("value", [2**64, 10**400], ids=["2**64", "10**400"])
@pytest.mark.parametrize("name", WHOLE)
def test_no_whole_number_is_without_end(name, value):
    with pytest.raises(ConfigError, match=f"{name} = .* is too large; allowed: at most"):
        RunConfig(**{name: value})


@pytest.mark.parametrize("name", REAL)
def test_no_number_is_too_large_to_be_one(name):
    with pytest.raises(ConfigError, match=f"{name} = inf is not a finite number"):
        RunConfig(**{name: 10**400})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["search", "--budget", "1MB", "--threads", "2147483648"],
            "threads = 2147483648 is too large; allowed: at most",
        ),
        (["evaluate", "x", "--task", "stsb", "--threads", "0"], "threads = 0 is too small; allowed: at least 1"),
        (["evaluate", "x", "--task", "stsb", "--threads", "2147483648"], "is too large"),
        (["evaluate", "x", "--task", "stsb", "--device", "tpu"], "allowed: auto, cpu, cuda, mps"),
        (["search", "--budget", "1MB", "--workers", "99999999"], "workers = 99999999 is too large"),
        (["search", "--budget", "1MB", "--train-minutes", "1e308"], "is too large; allowed: at most"),
    ],
)
def test_absurd_numbers_are_one_line(arguments, words, capsys):
    assert words in said(capsys, *arguments)


@pytest.mark.parametrize("verb", ["search --budget 1MB", "train", "report", "tune", "profile", "export --to x"])
def test_a_name_that_is_too_long_is_one_line(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "the name is too long; choose a shorter one" in said(capsys, *verb.split(), "--run", "n" * 300)


def test_a_run_folder_says_so_itself(tmp_path):
    with pytest.raises(RunError, match="the name is too long"):
        RunFolder(tmp_path / ("n" * 300)).exists()


def test_a_tuning_does_not_begin_in_the_folder_of_a_search(tmp_path, capsys, quickstart_teacher_dir):
    run = tmp_path / "run"
    folder = RunFolder(run)
    folder.write_record(RunConfig(teacher=str(quickstart_teacher_dir), device="cpu"), {})
    folder.candidates_path.write_text("id\n")
    before = sorted(run.rglob("*"))
    assert "is that of a training or search; give tune --run a new folder" in said(capsys, "tune", "--run", run)
    assert sorted(run.rglob("*")) == before


def test_text_of_others_does_not_steer_the_terminal(capsys):
    assert printable(STEERING) == SHOWN
    print_lines(STEERING, "日本語 é\u3000and\u00a0spaces")
    print_table(STEERING, ("name",), [[STEERING]])
    TerminalProgress().say(STEERING)
    shown = capsys.readouterr().out
    assert shown.count(SHOWN) == 4
    assert "日本語 é\u3000and\u00a0spaces" in shown
    assert not set("\x1b\x07\u202e") & set(shown)


def test_names_in_errors_do_not_steer_the_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = said(capsys, "report", "--run", "a\x1b[31m run")
    assert "\x1b" not in line
    assert r"\x1b[31m run" in line
