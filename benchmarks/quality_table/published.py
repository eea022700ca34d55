"""Figures that others published of models of about the same size, each with its source; none is measured here.

STS figures are `main_score` of the MTEB results, https://github.com/embeddings-benchmark/results at f4cc6c8: cosine
Spearman in points. STS12 is left out, as a part of it is missing here. Layers follow from the published numbers of
parameters: all are BERT of 384 dimensions with a vocabulary of 30,522. Figures of paraphrase-MiniLM-L3-v2 on these
tasks were not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

TASKS = ("stsb-test", "sts13", "sts14", "sts15", "sts16")
_RESULTS = "https://github.com/embeddings-benchmark/results/tree/f4cc6c8/results"


@dataclass(frozen=True)
class Published:
    """A published model."""

    folder: str
    """Of its results."""
    params: int
    layers: int
    """Of 384 dimensions; 0 of a static model."""
    points: tuple[float, ...]
    """By `TASKS`; fewer where the last were not published."""


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "all-MiniLM-L6-v2": Published(
            "sentence-transformers__all-MiniLM-L6-v2", 22_713_216, 6, (82.03, 80.60, 75.59, 85.39, 78.99)
        ),
        "gte-micro-v4": Published("Mihaiii__gte-micro-v4", 19_164_288, 4, (83.92, 82.16, 78.17, 86.28, 82.85)),
        "gte-micro": Published("Mihaiii__gte-micro", 17_389_824, 3, (80.12, 81.66, 76.66, 84.98, 82.28)),
        "potion-base-32M": Published("minishlab__potion-base-32M", 32_302_592, 0, (76.84, 77.59, 72.90, 80.76)),
        "potion-base-8M": Published("minishlab__potion-base-8M", 7_559_168, 0, (75.41, 77.28, 71.91, 79.75, 76.26)),
        "potion-base-4M": Published("minishlab__potion-base-4M", 3_779_584, 0, (74.28, 76.82, 70.98, 78.66, 75.10)),
        "potion-base-2M": Published("minishlab__potion-base-2M", 1_889_792, 0, (72.81, 75.73, 69.28, 76.33, 73.47)),
    }
)
"""Model -> what was published of it."""


def published_lines() -> Iterator[str]:
    """A table of Markdown."""
    yield f"| model | layers | params | {' | '.join(TASKS)} |"
    yield "| --- | ---: | ---: |" + " ---: |" * len(TASKS)
    for name, model in PUBLISHED.items():
        cells = [*(f"{value:.1f}" for value in model.points), *["-"] * (len(TASKS) - len(model.points))]
        layers = str(model.layers or "static")
        yield f"| [{name}]({_RESULTS}/{model.folder}) | {layers} | {model.params / 1e6:.1f} M | {' | '.join(cells)} |"
