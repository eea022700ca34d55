"""One text file out of a folder of sources, each with the share of its documents that goes in.

all-MiniLM-L6-v2 is used on general sentences, so encyclopedia, news and balanced corpora go in whole, and the large
sources of old fiction, abstracts and manuals lightly. Shards are named `<source>-NNN.txt` (`.xz`, `.gz`). Whether a
document goes in is a function of the seed and its text alone: shards may be cut anew or read in any order, and a
smaller text is a part of a larger one.

With short texts a quarter of that goes in, and about as many questions, captions, reviews and phrases: the training
rows of labelled sets without their labels, less what stands word by word in the sets that students are scored on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from autodistil.data.sources import iter_documents
from autodistil.errors import CorpusError
from autodistil.tasks.catalogue import TaskData, load_task, task_folders
from autodistil.utils import atomic_path, write_text
from quality_table.settings import digest

WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys(("wikipedia-vital", "bbc-news", "abc-news", "brown", "masc"), 1.0),
        **dict.fromkeys(("cia-factbook", "foldoc"), 0.5),
        **dict.fromkeys(("reuters21578", "openstax-textbooks", "state-of-union", "inaugural", "jargon-file"), 0.3),
        **dict.fromkeys(("git-docs", "python-docs", "libreoffice-help"), 0.3),
        "medquad": 0.25,
        **dict.fromkeys(("eltec-novels", "gutenberg-top100", "arxiv-abstracts"), 0.04),
    }
)
"""Source -> share of its documents; a source that is not named stays out."""
SHORT, _BESIDE_SHORT = "short texts", 0.25
"""What they are called as a source, and the share of the others beside them."""
SHORT_FROM = (
    "qqp_small", "snli_small", "banking77", "sst2", "sst5", "subj", "mpqa", "wic", "ag_news_small", "cola",
    "qnli_devsplit", "boolq_devsplit",
)  # fmt: skip
"""Sets whose training rows they are."""
_MOST_OF_A_SET, _CHARACTERS = 15_000, range(16, 400)
_SHARD = re.compile(r"(.+)-\d+\.txt(\.xz|\.gz|\.zst)?")


@dataclass(frozen=True)
class Document:
    """A document that its source's weight lets in."""

    source: str
    text: str
    priority: float
    """In [0, 1): those below a common threshold go in."""

    @property
    def size(self) -> int:
        """Bytes in the file, the empty line after it included."""
        return len(self.text.encode()) + 2


@dataclass(frozen=True)
class WeightedText:
    """A text file that was put together."""

    path: Path
    content: str
    """Hash of the file."""
    bytes_by_source: Mapping[str, int]

    @property
    def description(self) -> str:
        """Such as `46.1 MB: brown 12.9 %, ...`, the largest source first."""
        total = sum(self.bytes_by_source.values())
        parts = sorted(self.bytes_by_source.items(), key=lambda item: -item[1])
        return f"{total / 1e6:.1f} MB: " + ", ".join(f"{name} {100 * size / total:.1f} %" for name, size in parts)


def find_shards(folder: Path, weights: Mapping[str, float] = WEIGHTS) -> dict[str, list[Path]]:
    """Source -> its files in `folder`, in the order of their names.

    Raises:
        CorpusError: there is none of the sources.
    """
    shards: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.txt*")):
        match = _SHARD.fullmatch(path.name)
        if match and match[1] in weights:
            shards.setdefault(match[1], []).append(path)
    if not shards:
        raise CorpusError(
            f"folder {str(folder)!r} holds no text of the benchmark; allowed: files <source>-NNN.txt[.xz] of "
            f"{', '.join(weights)}; give --data a folder with such a corpus/"
        )
    return shards


def short_texts(data: Path, scored: Sequence[str]) -> list[str]:
    """Short texts of a data folder, each once.

    Args:
        data: a folder of labelled sets; those that it lacks are left out.
        scored: labelled sets of which no text may be among them.
    """
    there = [
        name for name in SHORT_FROM if any((folder / "train.tsv").is_file() for folder in task_folders(name, data))
    ]
    out = {_alike(text) for name in scored for text in _texts(load_task(name, data, ("dev", "test")))}
    found: dict[str, str] = {}
    for name in there:
        texts = {_alike(text): text for text in _texts(load_task(name, data, ("train",))) if len(text) in _CHARACTERS}
        kept = sorted(texts.keys() - out - found.keys(), key=lambda text: _uniform(0, text))
        found |= {key: texts[key] for key in kept[:_MOST_OF_A_SET]}
    return list(found.values())


def _texts(data: TaskData) -> Iterator[str]:
    for split in data.splits.values():
        yield from (" ".join(text.split()) for texts in (split.text_a, split.text_b or ()) for text in texts)


def _alike(text: str) -> str:
    return text.lower()


def weighted_text(
    folder: Path,
    to: Path,
    megabytes: float,
    seed: int = 0,
    weights: Mapping[str, float] = WEIGHTS,
    short: Sequence[str] = (),
) -> WeightedText:
    """The text of `folder` under the weights, at most `megabytes`; made once and kept in the folder `to`.

    Args:
        folder: of the sources.
        to: where the text is kept.
        megabytes: its size at most.
        seed: decides which documents go in.
        weights: share of the documents of each source.
        short: short texts that go in whole, beside a quarter of the others.

    Raises:
        CorpusError: none of the sources is there, or a file is damaged.
    """
    if short:
        weights = {name: _BESIDE_SHORT * weight for name, weight in weights.items()}
    shards = find_shards(folder, weights)
    sizes = {path.name: path.stat().st_size for paths in shards.values() for path in paths}
    also = [hashlib.sha256("\n".join(short).encode()).hexdigest()] if short else []
    stem = to / digest([sizes, dict(weights), megabytes, seed, *also])
    path, record = stem.with_suffix(".txt"), stem.with_suffix(".json")
    if not (path.is_file() and record.is_file()):
        brief = [Document(SHORT, text, _uniform(seed, text)) for text in short]
        documents = choose(chain(candidates(shards, weights, seed), brief), round(1e6 * megabytes))
        if short:
            documents.sort(key=lambda document: _uniform(seed + 1, document.text))
        text = WeightedText(path, _write(path, documents), _bytes_by_source(documents))
        write_text(record, json.dumps({**asdict(text), "path": path.name}, indent=1))
    return WeightedText(**{**json.loads(record.read_text(encoding="utf-8")), "path": path})


def candidates(shards: Mapping[str, Sequence[Path]], weights: Mapping[str, float], seed: int) -> Iterator[Document]:
    """The documents that the weights let in."""
    for source, paths in shards.items():
        for text in iter_documents([str(path) for path in paths]):
            priority = _uniform(seed, text) / weights[source]
            if priority < 1:
                yield Document(source, text, priority)


def choose(documents: Iterator[Document], limit: int) -> list[Document]:
    """Those of the lowest priority that fit into `limit` bytes: every source is thinned out alike; in their order."""
    found = list(documents)
    kept, total = set(), 0
    for index in sorted(range(len(found)), key=lambda index: found[index].priority):
        total += found[index].size
        if total > limit:
            break
        kept.add(index)
    return [document for index, document in enumerate(found) if index in kept]


def _uniform(seed: int, text: str) -> float:
    """In [0, 1), of the seed and the text."""
    value = hashlib.blake2b(f"{seed}\n{text}".encode(), digest_size=8).digest()
    return int.from_bytes(value, "big") / 2**64


def _write(path: Path, documents: Sequence[Document]) -> str:
    content = hashlib.sha256()
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for document in documents:
            data = f"{document.text}\n\n".encode()
            content.update(data)
            file.write(data)
    return content.hexdigest()[:16]


def _bytes_by_source(documents: Sequence[Document]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for document in documents:
        sizes[document.source] = sizes.get(document.source, 0) + document.size
    return sizes
