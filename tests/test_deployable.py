"""Further formats of a student lie where runtimes look for them and compute what PyTorch computes."""

import stat

import numpy as np
import pytest

from autodistil.deployable import ONNX, OPENVINO, QUANTISED, check_formats, write_formats
from autodistil.errors import ExportError
from autodistil.onnx_export import onnx_run, parity_cases
from autodistil.parity import agreement
from tests.profiling.conftest import tiny_bert


def test_unknown_formats_are_refused_with_the_allowed_ones():
    with pytest.raises(ExportError, match=r"format 'onx' \(did you mean 'onnx'\?\) is unknown; allowed: hf, onnx"):
        check_formats(["hf", "onx"])
    assert check_formats(["onnx", "hf", "onnx"]) == ("onnx", "hf")


def test_the_plain_folder_needs_nothing_more(tmp_path):
    assert write_formats(tiny_bert(), None, ["hf"], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_formats_agree_with_pytorch(tmp_path):
    model = tiny_bert()
    exact, rounded, converted = write_formats(model, None, ["onnx", "onnx-int8", "openvino"], tmp_path)
    assert [one.file for one in (exact, rounded, converted)] == [ONNX, QUANTISED, OPENVINO]
    assert agreement(onnx_run(tmp_path / ONNX), parity_cases(model)).max_difference < 1e-4
    assert converted.agreement.max_difference < 1e-4
    assert rounded.agreement.mean_cosine > 0.9
    assert rounded.size_mb < exact.size_mb
    assert rounded.speed is not None
    assert np.isfinite(rounded.speed)
    for one in (ONNX, QUANTISED, OPENVINO):
        assert stat.S_IMODE((tmp_path / one).stat().st_mode) & 0o044 == 0o044


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_format_leaves_only_its_own_file(tmp_path):
    write_formats(tiny_bert(), None, ["onnx-int8"], tmp_path)
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["model_qint8.onnx"]
