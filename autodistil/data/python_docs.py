"""The built-in corpus `python-docs`: documentation prose of Python and of the packages that autodistil needs anyway.

Docstrings are read from the source files by `ast`, and Python's reference topics from `pydoc_data`; nothing is imported
and nothing is downloaded, so a first run works offline. One source file or topic gives one document.

Documentation is reStructuredText, numpydoc, Google style or Markdown. What it holds beside prose (code, doctests,
tables, headings, signatures, formulas) is left out, and markup inside a paragraph is replaced by what a reader would
see. A paragraph counts as English when it is a sentence of ordinary words with their share of function words, as
corpora of web text are filtered (Raffel et al. 2020, section 2.2; Rae et al. 2021, appendix A.1.1).
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
import re
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

# ---- what is read

STANDARD_LIBRARY_BYTES = 8_000_000

PACKAGE_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("networkx", "torch"), 4_000_000),
    **dict.fromkeys(("huggingface_hub", "jinja2", "numpy", "optuna", "pandas", "plotly"), 3_000_000),
    **dict.fromkeys(("ray", "sqlalchemy", "sympy", "tensorboard", "transformers"), 3_000_000),
}
"""Package -> bytes of source that are read of it: a cold start takes about ten seconds on one core. All come with
autodistil, directly or as requirements of requirements; an absent one is passed over."""

MIN_DOCUMENT_CHARACTERS = 200

_SKIPPED_FOLDERS = frozenset(
    {"__pycache__", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "testing", "tests", "turtledemo"}
    | {"_inductor", "_vendor", "graph_objs", "third_party", "validators"}
)

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

# ---- what of it is English

MIN_CHARACTERS = 50
MIN_WORDS = 8
MIN_WORD_SHARE = 0.8
"""Share of the blank-separated pieces that are plain words with their punctuation."""

MIN_FUNCTION_WORD_SHARE = 0.2

_LINE = re.compile(
    r"\s*(?:"
    r"(?P<fence>```|~~~)"
    r"|(?P<rule>[-=~^\"'*#+|_.`:]{3,}[-=~^\"'*#+|_.`:\s]*$)"
    r"|(?P<code>>>>|\.\.\. |In \[\d|\$ |%|@\w+$)"
    r"|(?P<other>[|+#{]|\.\. |:[a-z]+: *$|:r?type\b|[*`\w.]+(?:, ?[*`\w.]+)* : )"
    r")"
)
"""A line that is no prose: a code fence, a heading's underline, code, or a table row, directive or `name : type`."""

_BULLET = re.compile(r"(\s*)([-*+•]|\(?\d{1,2}[.)])\s+(?=\S)")
_FIELD = re.compile(r"\s*:(?:param|arg|argument|keyword|returns?|raises?|yields?|ivar|cvar)\b[^:]*:\s+")
_ARGUMENT = re.compile(r"\s+[*`\w.]+ ?(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?: +(?=[`\"'(]*[A-Z])")

_MARKUP = tuple(
    (sign, re.compile(pattern), replacement)
    for sign, pattern, replacement in (
        ("<", r":[a-zA-Z][\w:+.-]*:`([^`<]+?)\s*<[^`<>]*>`", r"\1"),  # :ref:`text <label>`
        ("`", r":[a-zA-Z][\w:+.-]*:`[~!._]*([^`]*)`", r"\1"),  # :class:`~a.B`
        ("](", r"!?\[([^\[\]]*)\]\([^()\s]*\)", r"\1"),  # [text](address)
        ("[`", r"\[`[~!._]*([^\[\]`]+)`\]", r"\1"),  # [`Class`]
        ("<", r"`([^`<>]+?)\s*<[^`<>]*>`_{0,2}", r"\1"),  # `text <address>`_
        ("]_", r"\s*\[[\w#*.-]+\]_(?!\w)", ""),  # footnote [1]_
        ("`", r"`+~?([^`]*)`+_{0,2}(?!\w)", r"\1"),  # `code`, ``code``, `target`_
        ("*", r"(?<![\w*])\*{1,2}(\S(?:[^*]*[^\s*])?)\*{1,2}(?![\w*])", r"\1"),  # *emphasis*, **strong**
        ("\\", r"\\([ *_`|\\])", r"\1"),  # \* escapes
        ("<", r"</?[a-zA-Z]+(?: [^<>]*)?/?>", ""),  # <Tip>, <b>
    )
)
"""Sign of a markup, its pattern, and what a reader sees of it."""
_WORD = re.compile(r"(?<!\S)[\"'(]*[A-Za-z]+(?:['’/-][A-Za-z]+)*(?:\(\))?[\"'),.;:!?]*(?!\S)")
_CODE_SIGNS = re.compile(r"[{}|\\$]|[=<>%@#^&*_~+]{2}|(?<!\w)[=<>]|->|\w=\w|\.\. |://|www\.")
_SENTENCE_START = re.compile(r"[\"'(]*[A-Z]")
_SENTENCE_END = re.compile(r"[A-Za-z0-9)\]\"'][.!?][\"')]*$")

_LAST_CHARACTERS = frozenset(".!?\"')`*_>")

_COMMON = """
a all also an and any are as at be been before but by can do does each for from had has have if in into is it its may
might must no not of on one only or other should so some such than that the their then there these they this to use used
was we were what when where whether which will with would you your
"""
_FUNCTION_WORDS = frozenset(_COMMON.split())


# ---- the corpus


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
    return " ".join([*parts, hashlib.sha256(Path(__file__).read_bytes()).hexdigest()])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _texts() -> Iterator[Iterator[str]]:
    """The paragraphs of each document."""
    standard_library = Path(sysconfig.get_path("stdlib"))
    for node in _parse(standard_library / "pydoc_data" / "topics.py").body:
        # what `help('topics')` shows: a dict literal of texts
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for topic in ast.literal_eval(node.value).values():
                yield english_paragraphs(inspect.cleandoc(topic))
    roots = {standard_library: STANDARD_LIBRARY_BYTES}
    roots |= {folder: size for name, size in PACKAGE_BYTES.items() if (folder := _folder(name))}
    for root, size in roots.items():
        for path in source_files(root, size):
            yield (paragraph for text in docstrings(path) for paragraph in english_paragraphs(text))


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
            constants = (part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant))
            yield from (inspect.cleandoc(text) for text in constants if isinstance(text, str) and "\n\n" in text)


def _parse(path: Path) -> ast.Module:
    """Syntax tree of a source file; an empty one where it is not to be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes in the sources of others
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        logger.debug("no docstrings from %s: %s", path, error)
        return ast.Module(body=[], type_ignores=[])


# ---- prose


def english_paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a documentation text that read as English, one line each, in order.

    Args:
        text: documentation without common indentation (`inspect.cleandoc`).
    """
    for run in _runs(text):
        paragraph = " ".join(" ".join(run).split())
        if len(paragraph) >= MIN_CHARACTERS and paragraph[-1] in _LAST_CHARACTERS:
            paragraph = without_markup(paragraph)
            if is_english(paragraph):
                yield paragraph


def without_markup(text: str) -> str:
    """A paragraph as a reader sees it: no roles, links, emphasis or footnotes."""
    for sign, pattern, replacement in _MARKUP:
        if sign in text:
            text = pattern.sub(replacement, text)
    return " ".join(text.split())


def is_english(paragraph: str) -> bool:
    """Whether a paragraph without markup is a sentence, or several, of English prose."""
    if len(paragraph) < MIN_CHARACTERS or not _SENTENCE_START.match(paragraph) or not _SENTENCE_END.search(paragraph):
        return False
    if _CODE_SIGNS.search(paragraph):
        return False
    pieces = paragraph.split()
    functional = sum(map(_FUNCTION_WORDS.__contains__, paragraph.lower().split()))
    if functional < MIN_FUNCTION_WORD_SHARE * len(pieces):
        return False
    return len(_WORD.findall(paragraph)) >= max(MIN_WORDS, MIN_WORD_SHARE * len(pieces))


def _runs(text: str) -> Iterator[list[str]]:
    """Runs of lines that belong to one paragraph: same indentation, no blank line, bullet or heading between them."""
    for block in _blocks(text):
        run: list[str] = []
        hanging = False
        for raw in block:
            line, opens = _opening(raw)
            if run and (opens or not _continues(run, line, hanging)):
                yield run
                run = []
            if not run:
                hanging = opens
            run.append(line)
        if run:
            yield run


def _blocks(text: str) -> Iterator[list[str]]:
    """Groups of lines between blank lines, without code, tables, headings and directives."""
    block: list[str] = []
    fenced = code = False
    for line in (*text.splitlines(), ""):
        match = _LINE.match(line)
        kind = match.lastgroup if match else None
        if kind == "fence" or fenced:
            fenced ^= kind == "fence"
        elif not line.strip():
            if not code:
                yield block
            block, code = [], False
        elif kind == "code":
            code = True
        elif kind == "rule":
            block = block[:-1]  # the heading above its underline
        else:
            block.append("" if kind or "   " in line.strip() else line)  # three blanks part the columns of a table


def _opening(line: str) -> tuple[str, bool]:
    """A line without the bullet or argument name it opens with, and whether it had one."""
    for pattern in (_FIELD, _BULLET, _ARGUMENT):
        match = pattern.match(line)
        if match:
            return " " * _indent(line) + line[match.end() :], True
    return line, False


def _continues(run: list[str], line: str, hanging: bool) -> bool:
    """Whether a line goes on with the paragraph of the lines before it."""
    if not line or not run[-1]:
        return False
    deeper = _indent(line) - _indent(run[-1])
    return deeper == 0 or (hanging and len(run) == 1 and deeper > 0)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
