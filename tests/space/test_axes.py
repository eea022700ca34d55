"""Axes and space files: three ways to write an axis are one, every other input is one bounded line, and a new axis is
one entry."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import autodistil
from autodistil.cli import main
from autodistil.costs.closed_form import cost_table
from autodistil.errors import SpaceError
from autodistil.space.axes import AXES, axis_of
from autodistil.space.axes.axis import Axis
from autodistil.space.files import load_space, space_from_dict, space_to_dict
from autodistil.space.shape import EncoderShape
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.space.student import DIMENSIONS, OPTIONAL_AXES, SIZES, StudentConfig
from autodistil.student_search.samplers.optuna_samplers import parameters_of

GRID = {"num_layers": [2, 4], "hidden_size": [64, 96], "head_size": 32, "mlp_ratio": 2.0}


def raw_space(sub_space=None, **changes):
    """A valid space with the axes of its only sub-space changed; None takes an axis out."""
    axes = {key: value for key, value in {**GRID, **changes}.items() if value is not None}
    return {"name": "x", "sub_spaces": {sub_space or "base": axes}}


def refusal(raw) -> str:
    with pytest.raises(SpaceError) as caught:
        space_from_dict(raw, "my.yaml")
    return str(caught.value)


@given(st.integers(1, 100), st.integers(1, 20), st.integers(1, 8))
def test_steps_are_the_list_they_spell_out(low, step, count):
    values = [low + i * step for i in range(count)]
    stepped = {"low": values[0], "high": values[-1], "step": step}
    assert AXES["num_layers"].read(stepped, "x") == AXES["num_layers"].read(values[::-1] + values, "x") == tuple(values)


@given(st.integers(1, 60), st.sampled_from([1, 2, 3, 5, 7]), st.integers(1, 12))
def test_decimal_steps_do_not_drift(low, step, count):
    stepped = {"low": low / 10, "high": (low + (count - 1) * step) / 10, "step": step / 10}
    assert AXES["mlp_ratio"].read(stepped, "x") == tuple((low + i * step) / 10 for i in range(count))


@pytest.mark.parametrize("axis", sorted(AXES))
def test_bounds_are_inclusive(axis):
    low, high = AXES[axis].bounds
    assert AXES[axis].read([high, low], "x") == (low, high)
    for outside in (low - 0.005 if axis == "mlp_ratio" else low - 1, high + 1):
        with pytest.raises(SpaceError, match="allowed"):
            AXES[axis].read(outside, "x")


HUGE = 1 << 100_000


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_layer": 2}, r"unknown key 'num_layer' \(did you mean 'num_layers'\?\)"),
        ({"num_layers": None}, "got no num_layers"),
        ({"head_size": None}, "neither num_heads nor head_size"),
        ({"num_layers": []}, "empty list"),
        ({"num_layers": [None]}, "got None; allowed: whole numbers from 1 to 512"),
        ({"num_layers": True}, "got True"),
        ({"num_layers": "3"}, "got '3'"),
        ({"num_layers": 3.0}, "got 3.0; allowed: whole numbers"),
        ({"num_layers": [[2]]}, r"got \[2\]"),
        ({"num_layers": 0}, "got 0"),
        ({"num_layers": HUGE}, "too long to print"),
        ({"mlp_ratio": float("nan")}, "got nan; allowed: numbers from 0.01 to 32"),
        ({"mlp_ratio": float("inf")}, "got inf"),
        ({"mlp_ratio": -2}, "got -2"),
        ({"num_layers": {}}, "mapping with the keys low, high, step"),
        ({"num_layers": {"low": 2, "high": 4}}, "got no step"),
        ({"num_layers": {"low": 2, "high": 4, "stop": 1}}, r"unknown key 'stop' \(did you mean 'step'\?\)"),
        ({"num_layers": {"low": 4, "high": 2, "step": 1}}, "low 4 above high 2"),
        ({"num_layers": {"low": 2, "high": 4, "step": 0}}, "step: got 0; allowed: a whole number of at least 1"),
        ({"num_layers": {"low": 2, "high": 4, "step": -1}}, "step: got -1"),
        ({"num_layers": {"low": 2, "high": 4, "step": 0.5}}, "step: got 0.5"),
        ({"num_layers": {"low": 2, "high": 5, "step": 2}}, "do not reach; .* set high to 4"),
        ({"mlp_ratio": {"low": 2, "high": 4, "step": float("nan")}}, "step: got nan; allowed: a number of at least"),
        ({"hidden_size": [64, 100]}, "got 100; allowed: multiples of head_size 32"),
        ({"hidden_size": 64, "num_heads": 3}, "no student out of 2 combinations; num_heads x head_size must equal"),
        ({"hidden_size": 64, "num_heads": 7, "head_size": None}, "no student out of 2 combinations"),
    ],
)
def test_a_malformed_axis_says_what_where_and_what_next(changes, expected):
    message = refusal(raw_space(**changes))
    assert re.search(expected, message), message
    assert message.startswith("my.yaml: sub-space 'base'")
    assert "\n" not in message
    assert len(message) < 500


@pytest.mark.parametrize("name", ["", "two words", "../up", "a-b", "1st", "ü", "x" * 33, "a\n"])
def test_names_of_sub_spaces_can_be_folder_names(name):
    assert "allowed: a letter" in refusal({"sub_spaces": {name: GRID}})


@pytest.mark.parametrize("raw", [None, [], "tiny", 5, {}, {"sub_spaces": None}, {"sub_spaces": ["tiny"]}])
def test_a_space_is_a_mapping_of_sub_spaces(raw):
    assert "allowed: a mapping" in refusal(raw)


@pytest.mark.parametrize("key", ["name", "description"])
def test_texts_are_texts(key):
    assert f"{key}: got False; allowed: text" in refusal({**raw_space(), key: False})


def test_a_name_defaults_to_the_file():
    raw = raw_space()
    del raw["name"]
    assert space_from_dict(raw, "folder/mine.yaml").name == "mine"


def test_huge_grids_are_refused_before_they_are_built():
    everything = {"low": 1, "high": 512, "step": 1}
    ratios = {"low": 1, "high": 32, "step": 0.001}
    assert "combinations; allowed: at most 1,000,000" in refusal(raw_space(num_layers=everything, mlp_ratio=ratios))
    part = dict(raw_space(num_layers=everything, mlp_ratio={"low": 1, "high": 10, "step": 0.01})["sub_spaces"]["base"])
    halves = {name: {**part, "hidden_size": [64]} for name in ("a", "b", "c")}
    assert "search space" in refusal({"sub_spaces": halves})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [", "broken YAML at line 1, column 5"),
        (b"name: x\nname: y\n", "line 1, column 1: key 'name' given twice"),
        (b"sub_spaces:\n  tiny: {num_layers: 1, num_layers: 2}\n", "'num_layers' given twice"),
        (b"? [a]\n: b\n", "unhashable"),
        (b"\x00", "broken YAML"),
        (b"\xff\xfe\xff", "non-UTF-8 text at byte 0"),
        (b"!!python/object/apply:os.system [id]", "could not determine a constructor"),
        (b"name: 2001-99-99", "broken YAML"),
        (b"name: !!int ''", "broken YAML"),
        (b"name: !!bool maybe", "broken YAML"),
        (b"name: !!timestamp x", "broken YAML"),
        (b"name: " + b"9" * 5000, "broken YAML"),
        (b"[" * 4_000, "broken YAML: RecursionError"),
        (b"", "got None; allowed: a mapping"),
        (
            b"a: &a [x,x,x,x,x,x,x,x]\n" + b"b: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nsub_spaces: [*b,*b,*b,*b]\n",
            "unknown key 'a'",
        ),
        (b"sub_spaces: &a [*a]", "allowed: a mapping"),
    ],
)
def test_hostile_files_are_one_bounded_line(content, expected, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(SpaceError) as caught:
        load_space(str(path))
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert len(message) < 600


@pytest.mark.parametrize("name", ["", "/", "nope.yaml", "a\x00b", "x" * 5000, "~no-such-user-here/x.yaml"])
def test_what_cannot_be_read_is_refused(name):
    with pytest.raises(SpaceError, match=r"^got "):
        load_space(name)


axis_values = {
    "num_layers": st.lists(st.integers(1, 12), min_size=1, max_size=4),
    "hidden_size": st.lists(st.integers(1, 8).map(lambda n: 24 * n), min_size=1, max_size=4),
    "num_heads": st.none() | st.lists(st.integers(1, 8), min_size=1, max_size=4),
    "head_size": st.none() | st.lists(st.sampled_from([4, 8, 12, 24]), min_size=1, max_size=3),
    "mlp_ratio": st.lists(st.floats(0.1, 8), min_size=1, max_size=4),
}


@given(st.fixed_dictionaries(axis_values))
def test_grids_count_their_points_and_survive_yaml(axes):
    try:
        space = space_from_dict(raw_space(**axes), "x")
    except SpaceError:
        return
    assert space_from_dict(yaml.safe_load(yaml.safe_dump(space_to_dict(space))), "copy") == space
    (sub,) = space.sub_spaces
    assert len(sub.students) == len(set(sub.students)) == len({student.label for student in sub.students})
    assert list(sub.students) == sorted(sub.students)
    assert len(sub.students) + sub.excluded <= sub.num_combinations
    for student in sub.students:
        assert student.attention_width == student.hidden_size
        assert sub.smallest.encoder_weights <= student.encoder_weights <= sub.largest.encoder_weights
        assert all(getattr(student, axis) <= getattr(sub.envelope, axis) for axis in DIMENSIONS)


def test_labels_name_the_head_size_only_where_it_is_free():
    assert StudentConfig(3, 192, 6, 32, 576).label == "L3-H192-A6-F576"
    assert StudentConfig(3, 192, 6, 64, 576).label == "L3-H192-A6x64-F576"


@pytest.mark.parametrize("sizes", [(0, 64, 2, 32, 128), (2, 64, 2, 32, -1)])
def test_students_have_positive_dimensions(sizes):
    with pytest.raises(SpaceError, match="at least 1"):
        StudentConfig(*sizes)


def test_spaces_made_in_python_are_checked_too():
    with pytest.raises(SpaceError, match=r"unknown key 'num_layer' \(did you mean 'num_layers'\?\)"):
        SubSpace("tiny", {"num_layer": (1,), "hidden_size": (64,), "head_size": (32,), "mlp_ratio": (2.0,)})
    tiny = SubSpace("tiny", {"num_layers": (1,), "hidden_size": (64,), "head_size": (32,), "mlp_ratio": (2.0,)})
    with pytest.raises(SpaceError, match="no sub-spaces"):
        SearchSpace("x", "", ())
    with pytest.raises(SpaceError, match="'tiny' twice"):
        SearchSpace("x", "", (tiny, tiny))
    with pytest.raises(SpaceError, match=r"no sub-space 'tinny' \(did you mean 'tiny'\?\)"):
        SearchSpace("x", "", (tiny,)).sub_space("tinny")
    with pytest.raises(SpaceError, match="no student"):
        SubSpace("empty", {"num_layers": (), "hidden_size": (64,), "head_size": (32,), "mlp_ratio": (2.0,)})


# ---- one entry an axis


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_an_axis_sets_its_size_and_one_axis_speaks_for_each_size(axis):
    sizes = axis.applied(axis.bounds[0], {"hidden_size": 64, "num_heads": 2, "head_size": 32})
    assert sizes[axis.size] >= 1
    speaking = [other for other in AXES.values() if other.size == axis.size and other.letter]
    assert speaking == [axis_of(axis.size)]
    assert all((one.words, one.heading) != ("", "") for one in speaking)


def test_every_size_of_a_student_has_an_axis():
    letters = [axis_of(size).letter for size in SIZES]
    assert len(set(letters)) == len(letters)
    assert all(axis_of(size).of_teacher for size in OPTIONAL_AXES)


def test_a_second_way_to_write_a_size_is_an_entry_of_the_dict(monkeypatch, tmp_path, capsys):
    """Everything else follows: YAML, ids, the cost table, parameters of samplers and the terminal."""
    thousands = Axis(
        "vocab_thousands",
        (1, 100),
        size="vocab_size",
        apply=lambda value, sizes: {**sizes, "vocab_size": 1000 * value},
        shapes_weights=False,
    )
    monkeypatch.setitem(AXES, thousands.name, thousands)
    space = space_from_dict(raw_space(vocab_thousands={"low": 2, "high": 4, "step": 2}, hidden_size=64), "x")
    assert space_from_dict(yaml.safe_load(yaml.safe_dump(space_to_dict(space))), "copy") == space
    assert space_to_dict(space)["sub_spaces"]["base"]["vocab_thousands"] == [2, 4]
    (sub,) = space.sub_spaces
    assert sub.has_axis_of("vocab_size")
    ids = ["L2-H64-A2-F128-V2000", "L2-H64-A2-F128-V4000", "L4-H64-A2-F128-V2000", "L4-H64-A2-F128-V4000"]
    assert [student.label for student in sub.students] == ids
    assert len(sub.architectures) == 2
    assert sub.student(num_layers=2, hidden_size=64, head_size=32, mlp_ratio=2.0, vocab_thousands=4) == sub.students[1]
    table = cost_table(space.candidates, EncoderShape(30522, 514, None, pooler=True), 128)
    assert list(table["vocab_size"]) == [2000, 4000] * 2
    assert {parameters_of(space, candidate)["base/vocab_thousands"] for candidate in space.candidates} == {0, 1}
    assert "allowed: whole numbers from 1 to 100" in refusal(raw_space(vocab_thousands=101))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(space_to_dict(space)))
    with pytest.raises(SystemExit, match="0"):
        main(["spaces", str(tmp_path / "mine.yaml")])
    assert re.search(r"vocab_thousands\W+2, 4", capsys.readouterr().out)


STRIDE = """from autodistil.space.axes.axis import Axis

STRIDE = Axis("stride", (1, 512), letter="S", words="stride", heading="Stride", of_teacher=lambda student, shape: 512)
"""
LINES = {
    "axes/__init__.py": {
        "AXES: dict": "from autodistil.space.axes.stride import STRIDE\n",
        "        EMBEDDING_SIZE": "STRIDE,\n",
    },
    "student.py": {"    embedding_size: int": "    stride: int | None = None\n"},
}
"""File -> what a line of it starts with -> the line that goes before it."""
USED = """
from autodistil.costs.closed_form import cost_table
from autodistil.report.page import page
from autodistil.space.files import space_from_dict, space_to_dict
from autodistil.export.card import model_card
from report_helpers import SHAPE, report_of
from card_helpers import COSTS, card_teacher

grid = {"num_layers": 2, "hidden_size": 32, "head_size": 16, "mlp_ratio": 1.0, "stride": [16, 64]}
space = space_from_dict({"name": "x", "sub_spaces": {"base": grid}}, "x")
assert space_from_dict(space_to_dict(space), "copy") == space
assert [one.id for one in space.candidates] == ["base-L2-H32-A2-F32-S16", "base-L2-H32-A2-F32-S64"]
table = cost_table(space.candidates, SHAPE, 128)
assert list(table.columns)[6:9] == ["intermediate_size", "stride", "params"] and list(table["stride"]) == [16, 64]
assert table["flops"].nunique() == 1
assert space.candidates[0].config.stride == 16
assert "| stride | 16 | 512 |" in model_card(space.candidates[0], card_teacher(None), COSTS, {}, False)
assert '["Stride","stride"]' in page(report_of(space.candidates)) and ">Stride<" in page(report_of(space.candidates))
"""


@pytest.mark.slow
def test_a_new_size_is_a_file_a_line_of_the_dict_and_a_field(tmp_path):
    """In a copy of the package: ids, YAML, the cost table, the report and the card follow."""
    space = Path(shutil.copytree(Path(autodistil.__file__).parent, tmp_path / "autodistil"), "space")
    (space / "axes" / "stride.py").write_text(STRIDE)
    for name, lines in LINES.items():
        source = (space / name).read_text()
        for line, before in lines.items():
            assert source.count(line) == 1
            source = source.replace(line, before + line)
        (space / name).write_text(source)
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])}
    subprocess.run([sys.executable, "-c", USED], check=True, env=paths, cwd=tmp_path)
