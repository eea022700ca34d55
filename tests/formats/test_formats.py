"""What every format must hold, the next one too: it writes, loads and computes what PyTorch computes."""

import sys
from pathlib import Path

import pytest

from autodistil.errors import ProfileError
from autodistil.formats import FORMATS
from autodistil.formats.format import Origin, files_of
from autodistil.formats.parity import agreement, check_agreement, parity_cases
from tests.profiling.conftest import tiny_bert


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    model = tiny_bert()
    return Origin(model, parity_cases(model), tmp_path_factory.mktemp("scratch"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # Inductor's own
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_loaded_and_computes_the_same(name, origin, tmp_path):
    entry = FORMATS[name]
    for library in entry.libraries:
        pytest.importorskip(library)
    entry.check("cpu")
    path = tmp_path / Path(entry.file or "model").name
    entry.write(origin, path)
    loaded = entry.load(path, 1, "cpu")
    found = check_agreement(agreement(loaded.run, origin.cases), name, entry.min_cosine)
    assert found.mean_cosine > 0.9
    case = origin.cases[0]
    assert tuple(loaded.work(case.inputs)().shape) == case.expected.shape
    assert set(entry.versions()) == set(entry.libraries)


def test_what_lies_beside_a_file_under_its_name_belongs_to_it(tmp_path):
    names = ["student.bin", "student.xml"]
    for name in (*names, "student_int8.xml", "cases.npz"):
        (tmp_path / name).touch()
    assert [path.name for path in files_of(tmp_path / "student.xml")] == names
    assert len(files_of(tmp_path)) == 4


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_library_is_one_line_with_what_installs_it(name, monkeypatch):
    entry = FORMATS[name]
    monkeypatch.setitem(sys.modules, entry.libraries[0], None)
    with pytest.raises(ProfileError, match=rf"needs {entry.libraries[0]}, which is not installed; run: pip install"):
        entry.check("cpu")


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.install != FORMATS["torch"].install])
def test_a_writer_without_its_library_is_one_line_too(name, origin, tmp_path, monkeypatch):
    for library in ("onnx", "openvino", "nncf"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ProfileError, match=r"needs \w+, which is not installed; run: pip install 'autodistil\[onnx"):
        FORMATS[name].write(Origin(origin.model, origin.cases, tmp_path), tmp_path / "file")
