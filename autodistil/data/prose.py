"""English paragraphs out of documentation text: docstrings in reStructuredText, numpydoc, Google style or Markdown.

What a page of documentation holds beside prose (code, doctests, tables, headings, signatures, formulas) is left out,
and markup inside a paragraph is replaced by what a reader would see. A paragraph counts as English when it is a
sentence of ordinary words with their share of function words, as corpora of web text are filtered (Raffel et al. 2020,
section 2.2; Rae et al. 2021, appendix A.1.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

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
            indent = len(line) - len(line.lstrip())
            return " " * indent + line[match.end() :], True
    return line, False


def _continues(run: list[str], line: str, hanging: bool) -> bool:
    """Whether a line goes on with the paragraph of the lines before it."""
    if not line or not run[-1]:
        return False
    deeper = _indent(line) - _indent(run[-1])
    return deeper == 0 or (hanging and len(run) == 1 and deeper > 0)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
