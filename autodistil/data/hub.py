"""Hugging Face data sets as a corpus, streamed: `hf:name[@revision][:config][:split]`, or `owner/name` alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from autodistil.data.optional import optional_import
from autodistil.data.readers import record_documents
from autodistil.errors import CorpusError

PREFIX = "hf:"
SPLITS = ("train", "validation", "test")
"""A single part after the name is a split where it is one of these or a slice of one, else a configuration."""

_BARE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


_COLON = re.compile(r":(?![^\[\]]*\])")
"""A colon that is no part of a slice such as `train[:10%]`."""


@dataclass(frozen=True)
class HubDataset:
    """A data set and the part of it that is read."""

    name: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"


def is_bare_name(text: str) -> bool:
    """Whether `text` looks like the `owner/name` of a data set."""
    return _BARE_NAME.fullmatch(text) is not None


def parse_hub_dataset(text: str) -> HubDataset:
    """Read `hf:name[@revision][:config][:split]`; `hf:name::split` has no configuration.

    Raises:
        CorpusError: no name, or too many parts.
    """
    name, *parts = _COLON.split(text.removeprefix(PREFIX))
    name, _, revision = name.partition("@")
    if not name or len(parts) > 2:
        raise CorpusError(
            f"corpus {text!r} names no Hugging Face data set; allowed: hf:name[@revision][:config][:split], "
            "such as hf:wikitext:wikitext-103-raw-v1:train"
        )
    if len(parts) == 1 and parts[0].partition("[")[0] in SPLITS:
        parts.insert(0, "")
    config, split = (*parts, "", "")[:2]
    return HubDataset(name, revision or None, config or None, split or "train")


def hub_documents(dataset: HubDataset) -> Iterator[str]:
    """The documents of a data set in its order, streamed.

    Raises:
        CorpusError: `datasets` is not installed, the data set cannot be had, or no column holds text.
    """
    where = f"Hugging Face data set {dataset.name!r}"
    datasets = optional_import("datasets", f"corpus '{PREFIX}{dataset.name}'")
    try:
        records = datasets.load_dataset(
            dataset.name, dataset.config, split=dataset.split, revision=dataset.revision, streaming=True
        )
        yield from record_documents(records, where)
    except CorpusError:
        raise
    except Exception as error:  # the library passes on whatever its many back ends raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CorpusError(
            f"{where} cannot be read: {reason}; check its name, config and split, and the network"
        ) from error
