"""How easily a stranger finds his way: rooms, floors, arrows, circles, lines and lengths of functions, as counted.

A room is a folder or a loose module of the package, but `__main__`, and `benchmarks/` is one more. An arrow: one room
imports another, inside functions too. A floor: one above the highest that a room imports. A circle: rooms that import
one another.

    python benchmarks/rooms.py [--repo DIR] [--arrows]
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = "autodistil"
ENTRIES = ("families", "objectives", "formats", "axes", "samplers", "sampling", "packaged", "architectures", "cli")
"""Folders whose files are one entry each, beside the interface."""
FRONT_DOOR = "__main__"
"""What `python -m` runs: no room."""


def imported(tree: ast.AST) -> Iterator[str]:
    """Absolute names of the modules, or names of modules, that a file imports from the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str, rooms: set[str]) -> str | None:
    """The room that a dotted name of the package lies in; the package itself is the room `__init__`."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return None
    return parts[1] if len(parts) > 1 and parts[1] in rooms else "__init__"


def arrows(root: Path) -> dict[str, set[str]]:
    """Room -> the rooms that it imports."""
    package = root / PACKAGE
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    rooms.discard(FRONT_DOOR)
    found: dict[str, set[str]] = {room: set() for room in [*sorted(rooms), "benchmarks"]}
    for path in [*package.rglob("*.py"), *(root / "benchmarks").rglob("*.py")]:
        inside = path.relative_to(root).parts
        room = "benchmarks" if inside[0] == "benchmarks" else Path(inside[1]).stem
        if room == FRONT_DOOR:
            continue
        targets = (room_of(name, rooms) for name in imported(ast.parse(path.read_text(encoding="utf-8"))))
        found[room] |= {target for target in targets if target is not None and target != room}
    return found


def floors(graph: dict[str, set[str]]) -> tuple[dict[str, int], list[list[str]]]:
    """Room -> floor, from 1 up, and the circles, each of which is taken for one room."""
    graph, circles = {room: set(targets) for room, targets in graph.items()}, []
    while True:
        try:
            order = list(TopologicalSorter(graph).static_order())
            break
        except CycleError as error:
            circle = sorted(set(error.args[1]))
            circles.append(circle)
            first, *rest = circle
            merged = set().union(*(graph.pop(room) for room in circle)) - set(circle)
            graph = {room: {first if t in rest else t for t in targets} for room, targets in graph.items()}
            graph[first] = {first if t in rest else t for t in merged}
    floor: dict[str, int] = {}
    for room in order:
        floor[room] = 1 + max((floor[target] for target in graph[room]), default=0)
    return floor, circles


def code_lines(path: Path) -> int:
    """Lines with code: no blank ones, comments, docstrings or imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out: set[int] = set()
    for node in ast.walk(tree):
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if text or isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, node.end_lineno + 1))  # type: ignore[attr-defined]
    with path.open("rb") as file:
        nothing = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
        tokens = [t for t in tokenize.tokenize(file.readline) if t.type not in (*nothing, tokenize.ENDMARKER)]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    return len(lines - left_out)


def measure(root: Path) -> dict[str, object]:
    """All figures of a checkout."""
    graph = arrows(root)
    floor, circles = floors(graph)
    paths = sorted((root / PACKAGE).rglob("*.py"))
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    functions = [
        node.end_lineno - node.lineno + 1  # type: ignore[operator]
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    names = Counter(path.name for path in paths if path.name != "__init__.py")
    classes: defaultdict[str, int] = defaultdict(int)
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name] += 1
    faces = [path for path in paths if path.name == "__init__.py" or path.parent.name in ENTRIES]
    return {
        "rooms": len(graph),
        "floors": max(floor.values()),
        "arrows": sum(len(targets) for targets in graph.values()),
        "circles": circles,
        "loose modules": sum(1 for path in paths if path.parent.name == PACKAGE and path.stem != FRONT_DOOR),
        "files": len(paths),
        "files that are neither a face nor an entry": len(paths) - len(faces),
        "lines": sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths),
        "lines of code": sum(code_lines(path) for path in paths),
        "functions": len(functions),
        "function lines, median": statistics.median(functions),
        "function lines, 90 %": statistics.quantiles(functions, n=10)[-1],
        "file names that occur twice": sorted(name for name, count in names.items() if count > 1),
        "class names that occur twice": sorted(name for name, count in classes.items() if count > 1),
    }


def main() -> None:
    """Print the figures as JSON, and with `--arrows` each room with its floor and what it imports."""
    parser = argparse.ArgumentParser(description="Count rooms, floors, arrows and circles of the package.")
    parser.add_argument("--repo", type=Path, default=Path(__file__).parents[1], help="a checkout; this one by default")
    parser.add_argument("--arrows", action="store_true", help="list rooms by floor with what they import")
    options = parser.parse_args()
    if options.arrows:
        graph = arrows(options.repo)
        floor, _ = floors(graph)
        for room in sorted(floor, key=lambda room: (floor[room], room)):
            print(f"{floor[room]:>2} {room}: {', '.join(sorted(graph[room]))}")
    print(json.dumps(measure(options.repo), indent=1))


if __name__ == "__main__":
    main()
