"""The built-in corpus `python-docs`: documentation prose of Python and of the packages that autodistil needs anyway.

Docstrings are read from the source files by `ast`, and Python's reference topics from `pydoc_data`; nothing is imported
and nothing is downloaded, so a first run works offline. One source file or topic gives one document.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import logging
import os
import platform
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from autodistil.data import prose

logger = logging.getLogger(__name__)

STANDARD_LIBRARY_BYTES = 8_000_000
PACKAGE_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "networkx": 4_000_000,
        "torch": 4_000_000,
        "huggingface_hub": 3_000_000,
        "jinja2": 3_000_000,
        "numpy": 3_000_000,
        "optuna": 3_000_000,
        "pandas": 3_000_000,
        "plotly": 3_000_000,
        "ray": 3_000_000,
        "sqlalchemy": 3_000_000,
        "sympy": 3_000_000,
        "tensorboard": 3_000_000,
        "transformers": 3_000_000,
    }
)
"""Package -> bytes of source that are read of it: a cold start takes about ten seconds on one core. All come with
autodistil, directly or as requirements of requirements; an absent one is passed over."""

MIN_DOCUMENT_CHARACTERS = 200

_SKIPPED_FOLDERS = frozenset(
    {"__pycache__", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "testing", "tests", "turtledemo"}
    | {"_inductor", "_vendor", "graph_objs", "third_party", "validators"}
)
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def python_docs() -> Iterator[str]:
    """The documents of the built-in corpus, always in the same order: paragraphs of prose, one a line, each once."""
    seen: set[str] = set()
    for text in _texts():
        fresh = [paragraph for paragraph in dict.fromkeys(text) if paragraph not in seen]
        seen.update(fresh)
        document = "\n".join(fresh)
        if len(document) >= MIN_DOCUMENT_CHARACTERS:
            yield document


def python_docs_version() -> str:
    """What the built-in corpus depends on: Python, the packages, and how prose is taken from them."""
    parts = [platform.python_version(), *(f"{name}={_version(name)}" for name in PACKAGE_BYTES)]
    for module in (__file__, prose.__file__):
        parts.append(hashlib.sha256(Path(module).read_bytes()).hexdigest())
    return " ".join(parts)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _texts() -> Iterator[Iterator[str]]:
    """The paragraphs of each document."""
    standard_library = Path(sysconfig.get_path("stdlib"))
    for topic in _topics(standard_library / "pydoc_data" / "topics.py"):
        yield prose.english_paragraphs(topic)
    roots = {standard_library: STANDARD_LIBRARY_BYTES}
    roots |= {folder: size for name, size in PACKAGE_BYTES.items() if (folder := _folder(name))}
    for root, size in roots.items():
        for path in source_files(root, size):
            yield (paragraph for text in docstrings(path) for paragraph in prose.english_paragraphs(text))


def _topics(path: Path) -> Iterator[str]:
    """The language reference that `help('topics')` shows: a dict literal of texts."""
    for node in _parse(path).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            yield from map(inspect.cleandoc, ast.literal_eval(node.value).values())


def _folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def source_files(root: Path, max_bytes: int) -> Iterator[Path]:
    """Python files below a folder, the nearest to it first, of `max_bytes` together."""
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    for path in sorted(found, key=lambda path: (len(path.parts), path.parts)):
        max_bytes -= path.stat().st_size
        if max_bytes < 0:
            return
        yield path


def docstrings(path: Path) -> Iterator[str]:
    """Documentation in a source file in order of appearance, without its indentation.

    Beside docstrings these are the long strings in calls at module level, the way in which NumPy and PyTorch document
    what is written in C (`add_newdoc`, `add_docstr`).
    """
    todo: list[ast.stmt | ast.Module] = [_parse(path)]
    while todo:
        node = todo.pop()
        if isinstance(node, _Documented):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
            todo += reversed(node.body)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from map(inspect.cleandoc, _long_strings(node.value))


def _long_strings(call: ast.Call) -> Iterator[str]:
    for node in ast.walk(call):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n\n" in node.value:
            yield node.value


def _parse(path: Path) -> ast.Module:
    """Syntax tree of a source file; an empty one where it is not to be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes in the sources of others
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        logger.debug("no docstrings from %s: %s", path, error)
        return ast.Module(body=[], type_ignores=[])
