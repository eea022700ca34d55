"""Searches under budgets of a device, with a stopwatch of our own: what is measured counts; errors are one line."""

import logging
from dataclasses import replace

import pandas as pd
import pytest
from device_helpers import FakeStopwatch, entry_of, table_of
from run_helpers import one_line, run_options

from autodistil import cli, pipeline
from autodistil.errors import BudgetError
from autodistil.formats.setting import RuntimeSetting
from autodistil.profiling.fingerprint import DeviceFingerprint, this_device
from autodistil.profiling.latency_table import LatencyEntry, LatencyTable, read_table, write_table
from autodistil.profiling.profile import StudentSource
from autodistil.run.run import Run
from autodistil.space.student import StudentConfig
from autodistil.stages.measuring import undisturbed

pytestmark = pytest.mark.usefixtures("no_picture")

SPACE = """
sub_spaces:
  tiny: {num_layers: {low: 1, high: 4, step: 1}, hidden_size: [16, 32, 48, 64], head_size: 16, mlp_ratio: [1.0, 2.0]}
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    folder = tmp_path_factory.mktemp("inputs")
    return run_options(folder, quickstart_teacher_dir, SPACE, train_steps=2, order="none", text_unit="sequences")


def opened(tmp_path, options, *budgets, **more):
    return Run.open(tmp_path / "run", options, {"budgets": budgets, **more})


@pytest.mark.slow
def test_the_model_is_corrected_until_a_measured_student_holds(tmp_path, options):
    watch = FakeStopwatch()
    first = pipeline.search(opened(tmp_path, options, "9ms@cpu"), measure=watch)
    assert len(watch.calls[0]) == 8 + 1  # and the teacher, which is no student
    teacher = first.teacher
    assert teacher.costs["ms@cpu"] == pytest.approx(1.01 * (0.2 + 0.4 + 1e-5 * teacher.config.encoder_weights))
    assert first.answer == f"{teacher.name} meets 9ms@cpu already: {teacher.costs['ms@cpu']:.2f} ms."
    limit = round(1.1 * first.candidates.loc[first.best, "ms@cpu predicted"], 4)
    for path in (first.run / "latency").glob("*-finalists.json"):
        path.unlink()
    watch = FakeStopwatch(slower=1.3, profiled=True)
    result = pipeline.search(opened(tmp_path, options, f"{limit}ms@cpu"), measure=watch)
    rows, row = result.candidates, result.candidates.loc[result.best]
    assert row["ms@cpu"] == row["ms@cpu measured"] <= limit
    assert rows.loc[first.best, "ms@cpu predicted"] < limit < rows.loc[first.best, "ms@cpu measured"]
    assert not rows.loc[rows["ms@cpu measured"] > limit, "feasible"].any()
    assert all(call[-1].startswith("teacher-") for call in watch.calls), "in turns with the teacher"
    assert result.teacher.costs["ms@cpu"] == pytest.approx(1.3 * teacher.costs["ms@cpu"])
    measured = [student for call in watch.calls for student in call[:-1]]
    assert len(measured) == len(set(measured)) == rows["ms@cpu measured"].notna().sum()
    assert any("met, " in note and result.best in note for note in result.notes)
    on_disk = pd.read_csv(result.run / "candidates.csv").set_index("id")
    assert on_disk.loc[result.best, "ms@cpu measured"] == row["ms@cpu measured"]


@pytest.mark.slow
def test_a_second_search_measures_nothing_again(tmp_path, options):
    first = pipeline.search(opened(tmp_path, options, "1ms@cpu"), measure=FakeStopwatch())
    watch = FakeStopwatch()
    second = pipeline.search(opened(tmp_path, options, "1ms@cpu"), resume=True, measure=watch)
    assert watch.calls == []
    pd.testing.assert_frame_equal(first.candidates, second.candidates)
    exported = pipeline.export(opened(tmp_path, options, "1ms@cpu"), "best", tmp_path / "student")
    assert exported[0] == second.best
    assert pipeline.report(opened(tmp_path, options, "1ms@cpu")).is_file()


@pytest.mark.slow
def test_time_memory_and_file_hold_together_and_with_closed_forms(tmp_path, options):
    budgets = ("1ms@cpu", "30.6MBram", "0.08MBfile@cpu", "25MB", "0.9ms@cpu,seq=8")
    result = pipeline.search(opened(tmp_path, options, *budgets), measure=FakeStopwatch())
    row = result.candidates.loc[result.best]
    assert row["ram_mb@cpu measured"] <= 30.6
    assert row["file_mb@cpu measured"] <= 0.08
    assert row["ms@cpu,seq=8 measured"] <= 0.9
    assert len(list((result.run / "latency").glob("*.json"))) == 6  # two settings: design, finalists, and teacher


@pytest.mark.slow
def test_a_memory_budget_that_comes_later_measures_memory(tmp_path, options):
    pipeline.search(opened(tmp_path, options, "1ms@cpu"), measure=FakeStopwatch())
    watch = FakeStopwatch()
    result = pipeline.search(opened(tmp_path, options, "30.6MBram"), measure=watch)
    assert len(watch.calls[0]) == 8 + 1
    assert result.candidates.loc[result.best, "ram_mb@cpu measured"] <= 30.6


@pytest.mark.slow
def test_when_no_measured_student_holds_the_search_says_so(tmp_path, options):
    with pytest.raises(BudgetError, match=r"none of \d+ measured students|no student of space") as caught:
        pipeline.search(opened(tmp_path, options, "0.5ms@cpu"), measure=FakeStopwatch(slower=50.0))
    assert "\n" not in str(caught.value)


def test_a_busy_machine_alone_puts_no_student_over_a_budget():
    students = [StudentConfig(layers, 64, 4, 16, 64) for layers in (1, 2, 3)]
    sources = [StudentSource(one.label, one, 128, None) for one in students]
    calls = []

    def measure(asked):
        """The first and the last are disturbed: slow at first; only the last could be within 1 ms."""
        calls.append([source.config for source in asked])
        slow = len(calls) < 3
        figures = {students[0]: (2.0, 3.0), students[1]: (0.5, 0.6), students[2]: (0.7, 1.5 if slow else 0.9)}
        entries = tuple(
            LatencyEntry(one, 1, 8, low, low, high, 30, one != students[1], None, 1.0)
            for one, (low, high) in ((source.config, figures[source.config]) for source in asked)
        )
        return table_of(this_device(), RuntimeSetting(), entries)

    table = undisturbed(measure, sources, 1.0)
    assert calls == [students, students[2:], students[2:]]
    assert [entry.high_ms for entry in table.entries] == [3.0, 0.6, 0.9]


# ---- tables from elsewhere


def table_elsewhere(tmp_path, options, device, batch=1):
    """A table of the design's students, as `autodistil profile` writes it, on another device."""
    watch = FakeStopwatch()
    run = opened(tmp_path / "elsewhere", options, f"9ms@cpu,batch={batch}")
    pipeline.search(run, measure=watch)
    design = read_table(next(path for path in run.folder.latency_path.glob("*seq16.json")))
    return write_table(replace(design, device=device), tmp_path / "table.json")


ELSEWHERE = DeviceFingerprint("Other CPU", 4, "Linux", "aarch64")


@pytest.mark.slow
def test_a_table_of_another_device_prunes_only_where_forced_and_nothing_there_is_called_met(tmp_path, options):
    table = table_elsewhere(tmp_path, options, ELSEWHERE)
    named = {"latency_tables": [f"laptop={table}"]}
    with pytest.raises(Exception, match="another device"):
        pipeline.search(opened(tmp_path, options, "1ms@laptop", **named), measure=FakeStopwatch())
    watch = FakeStopwatch()
    run = opened(tmp_path, options, "1ms@laptop", "0.9ms@cpu", **named, force_table=True)
    result = pipeline.search(run, measure=watch)
    assert (result.candidates.loc[result.candidates["feasible"], "ms@laptop"] <= 1.0).all()
    assert result.candidates.loc[result.best, "ms@cpu measured"] <= 0.9
    if pd.isna(result.candidates.loc[result.best, "ms@laptop measured"]):
        assert any("not yet met" in note for note in result.notes)


def test_a_table_of_this_device_is_used_and_its_finalists_are_measured_here(tmp_path, options, caplog):
    table = table_elsewhere(tmp_path, options, this_device())
    watch = FakeStopwatch()
    run = opened(tmp_path, options, "1ms@laptop", latency_tables=[f"laptop={table}"])
    with caplog.at_level(logging.INFO, "autodistil"):
        result = pipeline.search(run, measure=watch)
    assert sum(said.startswith("search: ") for said in caplog.messages) > 1, "students are ranked again"
    assert [said for said in caplog.messages if said.startswith("scored on ")] == ["scored on all held-out texts"]
    assert len(watch.calls[0]) < 8
    assert "ms@laptop" not in result.teacher.costs
    assert result.answer is None
    assert any("itself was not measured" in note for note in result.notes)
    assert result.candidates.loc[result.best, "ms@laptop measured"] <= 1.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--budget", "-8ms@cpu"], "above zero"),
        (["--budget", "8ms@cpu,runtime=onxx"], "did you mean 'onnx'"),
        (["--budget", "8ms@labtop", "--latency-table", "laptop=x.json"], "did you mean 'laptop'"),
        (["--budget", "8ms@laptop", "--latency-table", "laptop=missing.json"], "No such file"),
        (["--budget", "8ms@laptop", "--latency-table", "laptop"], "NAME=PATH"),
        (["--budget", "8ms@laptop", "--latency-table", "cpu=x.json"], "name of its own"),
        (["--budget", "8ms@laptop", "--latency-table", "laptop={table}"], "another device"),
        (["--budget", "8ms@{table}"], "another device"),
        (["--budget", "25MB", "--latency-table", "laptop=missing.json"], "No such file"),
        (["--budget", "25MB", "--latency-table", "laptop={config}"], "write it anew"),
        (["--budget", "8ms@{mpnet}", "--force-table"], "got students of the family 'mpnet'; allowed: 'bert'"),
        (["--budget", "300MBram@{mpnet}", "--force-table"], "got students of the family 'mpnet'; allowed: 'bert'"),
        (["--budget", "25MBfile@{wordy}", "--force-table"], "got students of 250,002 tokens; allowed: at most 30,522"),
        (["--budget", "8ms@laptop,batch=2", "--latency-table", "laptop={table}", "--force-table"], "batch=1,seq=16"),
        (["--budget", "8ms@laptop,threads=2", "--latency-table", "laptop={table}", "--force-table"], "threads=2"),
    ],
)
def test_wrong_input_is_one_clear_line(tmp_path, options, capsys, arguments, words):
    setting = opened(tmp_path, options).config
    entries = tuple(entry_of(student, _Setting(1, setting.seq_len)) for student in students_of(tmp_path, options))
    table = LatencyTable(ELSEWHERE, "onnx", 1, "bert", 30522, {}, 1.0, entries)
    path = write_table(table, tmp_path / "table.json")
    mpnet = write_table(replace(table, family="mpnet"), tmp_path / "mpnet.json")
    wordy = write_table(replace(table, vocab_size=250_002), tmp_path / "wordy.json")
    config = tmp_path / "config.yaml"
    config.write_text("\n".join(f"{key}: {value!r}" for key, value in options.items()))
    words_of = [argument.format(table=path, mpnet=mpnet, wordy=wordy, config=config) for argument in arguments]
    capsys.readouterr()  # what loading the teacher for the table said
    with pytest.raises(SystemExit) as caught:
        cli.main(["search", "--run", str(tmp_path / "run"), "--config", str(config), *words_of])
    assert caught.value.code == 2
    assert words in one_line(capsys)
    assert not (tmp_path / "run" / "superlm").exists()


class _Setting:
    def __init__(self, batch, seq_len):
        self.batch, self.seq_len = batch, seq_len


def students_of(tmp_path, options):
    return sorted({candidate.config for candidate in opened(tmp_path, options).inputs.space.candidates})[:8]
