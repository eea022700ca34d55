"""The house stays as it was built: few rooms, one way for imports, no stale names, no binaries."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import rooms

import autodistil

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "autodistil"
LARGEST_BINARY = 300_000
SOURCES = [*PACKAGE.rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
PAGES.remove(ROOT / "docs" / "extending.md")  # its files are made by test_extending.py


@pytest.fixture(scope="module")
def figures():
    return rooms.measure(ROOT)


def test_the_house_has_the_rooms_that_it_was_built_with(figures):
    assert figures["rooms"] <= 24
    assert figures["floors"] <= 11
    assert figures["circles"] == []
    assert figures["loose modules"] <= 6


def test_a_circle_and_a_second_floor_are_seen():
    floor, circles = rooms.floors({"a": set(), "b": {"a"}, "c": {"b", "d"}, "d": {"c"}, "e": {"d"}})
    assert circles == [["c", "d"]]
    assert (floor["a"], floor["b"], floor["c"], floor["e"]) == (1, 2, 3, 4)


def tracked():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def is_binary(path):
    return b"\0" in path.read_bytes()[:8_192]


def test_no_large_binary_is_tracked():
    binaries = {name for name in tracked() if is_binary(ROOT / name)}
    assert not {name for name in binaries if (ROOT / name).stat().st_size > LARGEST_BINARY}
    assert not {name for name in tracked() if (ROOT / name).stat().st_size > LARGEST_BINARY}  # nor pages that were made
    assert not {name for name in binaries if Path(name).suffix in {".whl", ".zip", ".gz", ".xz", ".tar", ".pyz"}}


def test_no_merge_was_left_half_done():
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in tracked() if not is_binary(ROOT / name)}
    assert not [name for name, text in texts.items() if re.search(r"^(<{7}|>{7}) ", text, re.MULTILINE)]


# ---- names in docstrings, comments and pages that nothing has


def definitions(path):
    """Top-level names of a module, and `Class.member` of its classes."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        found |= {name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): definitions(path)
    for path in PACKAGE.rglob("*.py")
}
ROOMS = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
FILES = [
    f"/{path.relative_to(ROOT).as_posix()}"
    for folder in ("autodistil", "benchmarks", "tests", "examples")
    for path in (ROOT / folder).rglob("*.py")
]
ENDINGS = (".html", ".json", ".jsonl", ".md", ".png", ".py", ".safetensors", ".yaml")


def missing(dotted):
    """Whether `autodistil.room.module[.name]` names neither a module nor what a module defines."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in MODULES:
            rest = parts[length:]
            return bool(rest) and rest[0] not in MODULES[module]
    return True


def stale(text):
    """References of a text to modules or names of the package that are not there."""
    found = {match.group() for match in re.finditer(r"autodistil/[a-z_0-9/]+\.py", text)}
    gone = {path for path in found if not (ROOT / path).is_file()}
    dotted = {match.group() for match in re.finditer(r"(?<![\w./@-])autodistil(?:\.[A-Za-z_]\w*)+", text)}
    known = {"autodistil.families", "autodistil.folder"}  # the entry point of other packages, and a tag of trackers
    known |= {f"autodistil.{name}" for name in autodistil.__all__}
    gone |= {name for name in dotted - known if missing(name)}
    short = {match.group(1) for match in re.finditer(r"`((?:[a-z_0-9]+\.)+[A-Za-z_]\w*)(?:\(\))?`", text)}
    short = {name for name in short if name.split(".")[0] in ROOMS and not name.endswith(ENDINGS)}
    files = {match.group(1) for match in re.finditer(r"(?<![\w/.-])([a-z_0-9]+(?:/[a-z_0-9]+)*\.py)\b", text)}
    gone |= {name for name in files if not any(path.endswith(f"/{name}") for path in FILES)}
    return gone | {name for name in short if missing(f"autodistil.{name}")}


def prose(path):
    """Docstrings and comments of a source file."""
    text = path.read_text(encoding="utf-8")
    strings = [
        node.value.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return "\n".join([*strings, *re.findall(r"#.*", text)])


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_prose_refers_to_is_there(path):
    text = prose(path) if path.suffix == ".py" else path.read_text(encoding="utf-8")
    assert not stale(text)


def test_stale_names_are_seen():
    for text in ("see autodistil/nowhere.py", "see `training.nowhere`", "as (nowhere.py) says"):
        assert stale(text)
    assert not stale("see `training.trainer`, autodistil/pipeline.py and pipeline.py")
