"""Sessions of fresh processes: real ones that measure a student, and false ones that fail in every way."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import BertConfig, BertModel

from autodistil.errors import IntegrityError, ProfileError
from autodistil.formats import FORMATS
from autodistil.formats.parity import load_cases, save_cases
from autodistil.formats.setting import check_runtime
from autodistil.profiling.fingerprint import this_device
from autodistil.profiling.latency_table import table_from_dict
from autodistil.profiling.memory import peak_memory_mb
from autodistil.profiling.profile import StudentSource, check_lengths, prepare_students, profile_students
from autodistil.profiling.session import Plan, Prepared, measure, portions, probe
from tests.profiling.conftest import CONFIG, STUDENT

PLAN = Plan(shapes=((1, 8), (2, 16)))


def test_a_student_is_measured_in_fresh_processes(lookup, header):
    rounds = []
    session = measure(PLAN, [lookup], header, on_round=lambda: rounds.append(1))
    table = table_from_dict(session.table)
    assert len(rounds) == 30
    assert [(entry.student, entry.batch, entry.seq_len) for entry in table.entries] == [(CONFIG, 1, 8), (CONFIG, 2, 16)]
    assert table.device == this_device()
    assert (table.runtime, table.threads, table.family, table.vocab_size) == ("onnx", 1, "bert", 97)
    assert {"onnxruntime", "numpy", "python", "os", "autodistil"} == set(table.versions)
    assert session.mean_cosine == pytest.approx(1)
    for entry in table.entries:
        assert 10 <= entry.rounds <= 30
        assert entry.file_mb == lookup.path.stat().st_size / 1e6
        assert sys.platform != "linux" or entry.peak_memory_mb >= 0


def test_quantised_students_are_close_and_say_how_close(lookup_int8, lookup, header):
    session = measure(replace(PLAN, runtime="onnx-int8", memory=False), [lookup_int8], header)
    assert 0.9 < session.mean_cosine < 1
    assert lookup_int8.file_mb < lookup.file_mb
    assert [entry["peak_memory_mb"] for entry in session.table["entries"]] == [None, None]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("runtime", ["torch", "torch-compile", "openvino", "openvino-int8"])
def test_other_runtimes_measure_the_same_student(runtime, source, header):
    if runtime.startswith("openvino"):
        pytest.importorskip("openvino")
    profile = profile_students([source], replace(PLAN, runtime=runtime), header)
    assert len(profile.table.entries) == 2
    assert profile.mean_cosine == pytest.approx(1, abs=0.1 if FORMATS[runtime].min_cosine else 1e-6)
    assert set(FORMATS[runtime].libraries) < set(profile.table.versions)


def test_outputs_that_differ_are_refused_before_anything_is_timed(lookup, header, tmp_path):
    wrong = [replace(case, expected=-case.expected) for case in load_cases(lookup.cases)]
    student = replace(lookup, cases=save_cases(wrong, tmp_path / "cases.npz"))
    with pytest.raises(IntegrityError, match="onnx of tiny differs from PyTorch"):
        measure(PLAN, [student], header, on_round=lambda: pytest.fail("timed"))


def test_threads_are_set_before_the_process_starts():
    program = "import json, os; print(json.dumps({'answer': os.environ['OMP_NUM_THREADS']}))"
    assert probe(replace(PLAN, threads=3, worker=(sys.executable, "-c", program))) == "3"


def test_more_threads_than_cores_are_refused():
    with pytest.raises(ProfileError, match=r"threads: got 1024; allowed: whole numbers from 1 to \d+"):
        probe(Plan(threads=1024))


def test_what_a_runtime_prints_does_not_disturb_the_answer():
    program = "import os; from autodistil.profiling import worker; "
    program += "worker.TASKS = {'probe': lambda *_: os.system('echo noise')}; worker.main()"
    assert probe(replace(PLAN, worker=(sys.executable, "-c", program))) == 0


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("raise SystemExit('no such thing')", "ended with status 1 and said: no such thing"),
        ("import os; os.kill(os.getpid(), 9)", "was killed, perhaps for memory"),
        ("import sys; sys.stdin.read(); sys.stderr.write('x' * 1_000_000)", "ended with status 0 and said: xxx"),
        ("""print('{"error": "one line", "exit_code": 2}')""", "one line"),
    ],
)
def test_a_process_that_fails_is_one_line(program, says):
    if "kill" in program and sys.platform == "win32":
        pytest.skip("no signals")
    with pytest.raises(ProfileError, match=says) as error:
        probe(replace(PLAN, worker=(sys.executable, "-c", program)))
    assert len(str(error.value)) < 500


def test_a_missing_library_is_told_before_students_are_exported(source, header, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('not here')")
    starter = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from autodistil.profiling.worker import main; main()"
    unready = replace(source, load=lambda: pytest.fail("exported"))
    with pytest.raises(ProfileError, match=r"needs onnxruntime, .*run: pip install 'autodistil\[onnx\]'"):
        profile_students([unready], replace(PLAN, worker=(sys.executable, "-c", starter)), header)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"runtime": "onyx"}, "did you mean 'onnx'"),
        ({"threads": 0}, "threads: got 0"),
        ({"rounds": -5}, "rounds: got -5; allowed: whole numbers from 30"),
        ({"rounds": 29}, "rounds: got 29"),
        ({"shapes": ((0, 8),)}, "batch: got 0"),
        ({"shapes": ((1, -8),)}, "sequence length: got -8"),
    ],
)
def test_plans_that_nothing_can_follow_are_refused(wrong, says):
    with pytest.raises(ProfileError, match=says):
        Plan(**wrong)


def test_lengths_beyond_the_positions_and_nothing_to_measure_are_refused(source):
    with pytest.raises(ProfileError, match="sequence length: got 41; allowed: at most the students' 40"):
        check_lengths([source], Plan(shapes=((1, 41),)))
    with pytest.raises(ProfileError, match="no students"):
        check_lengths([], PLAN)


def test_runtimes_are_the_formats_and_others_are_refused():
    names = ("torch", "torch-compile", "onnx", "onnx-int8", "onnx-bits", "openvino", "openvino-int8")
    assert tuple(FORMATS)[:7] == names
    with pytest.raises(ProfileError, match="runtime: got 'tvm'"):
        check_runtime("tvm")


def test_a_device_that_a_runtime_does_not_know_is_refused():
    with pytest.raises(ProfileError, match="device: got 'cuda'; this runtime knows: cpu"):
        replace(FORMATS["openvino"], libraries=()).check("cuda")


def test_students_that_do_not_fit_together_are_measured_in_turn(tmp_path):
    big = tmp_path / "big.onnx"
    with open(big, "wb") as file:
        file.truncate(700_000_000)
    students = [Prepared(str(i), {}, big, big, {}) for i in range(5)]
    assert [[student.name for student in part] for part in portions(students)] == [["0", "1"], ["2", "3"], ["4"]]
    small = [replace(student, path=Path(__file__)) for student in students * 8]
    assert [len(part) for part in portions(small)] == [32, 8]


def test_the_runner_is_made_of_modules_that_need_no_pytorch():
    names = ["errors", "formats", "formats.parity", "profiling.session", "profiling.worker", "profiling.runner"]
    program = "import sys\n" + "\n".join(f"import autodistil.{name}" for name in names)
    program += "\nprint([m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers', 'yaml', 'pandas')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


def test_folder_students_are_measured_from_folders(source, tmp_path):
    (student,) = prepare_students([source], "torch", tmp_path)
    assert student.file_mb == (student.path / "model.safetensors").stat().st_size / 1e6
    assert student.student == STUDENT


@pytest.mark.parametrize("module", ["statistics", "json", "numpy", "autodistil"])
def test_a_worker_imports_nothing_from_the_current_folder(module, tmp_path, monkeypatch):
    (tmp_path / f"{module}.py").write_text("raise SystemExit('it ran')")
    monkeypatch.chdir(tmp_path)
    assert probe(PLAN)["versions"]["onnxruntime"]


def wide_student(folder):
    """A student of 20 MB, ready to be measured in PyTorch."""
    config = BertConfig(vocab_size=9_700, hidden_size=384, num_hidden_layers=1, intermediate_size=1_536)
    source = StudentSource("wide", CONFIG, 512, lambda: BertModel(config).eval())
    return prepare_students([source], "torch", folder)[0]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts peaks anew")
def test_peak_memory_holds_the_weights_once(tmp_path):
    student = wide_student(tmp_path)
    ids = np.zeros((1, 8), dtype=np.int64)

    def load():
        loaded = FORMATS["torch"].load(student.path, 1, "cpu")
        return lambda batch, seq_len: loaded.work({"input_ids": ids, "attention_mask": np.ones_like(ids)})

    (peak,) = peak_memory_mb("cpu", load, [(1, 8)])
    assert 0.9 * student.file_mb < peak < 1.5 * student.file_mb


PLAIN = """
import re, sys, torch
from pathlib import Path
from transformers import AutoModel

def peak(name):
    return int(re.search(rf"^{name}:\\s+(\\d+)", Path("/proc/self/status").read_text(), re.M)[1]) * 1.024e-3

def forward(length):
    model = AutoModel.from_pretrained(sys.argv[1], attn_implementation="sdpa").eval()
    with torch.inference_mode():
        model(input_ids=torch.randint(0, 9_700, (1, length)))

torch.set_num_threads(1)
forward(1)
Path("/proc/self/clear_refs").write_text("5")
before = peak("VmRSS")
forward(128)
print(peak("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts peaks anew")
def test_peak_memory_is_that_of_a_plain_load(header, tmp_path):
    student = wide_student(tmp_path)
    measured = measure(Plan("torch", shapes=((1, 128),)), [student], header)
    done = subprocess.run([sys.executable, "-c", PLAIN, student.path], capture_output=True, text=True, check=True)
    (entry,) = measured.table["entries"]
    assert entry["peak_memory_mb"] == pytest.approx(float(done.stdout), rel=0.15)
