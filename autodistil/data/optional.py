"""Libraries that only some kinds of corpus need, imported when one is met: pyarrow, datasets, zstandard, Pillow."""

from __future__ import annotations

import importlib
from typing import Any

from autodistil.errors import CorpusError

INSTALL = "pip install 'autodistil[data]'"


def optional_import(module: str, purpose: str, install: str = INSTALL) -> Any:
    """A module of an extra, `data` unless said otherwise.

    Args:
        module: its name, such as `pyarrow.parquet`.
        purpose: what needs it, to begin the message with.
        install: the line that installs it.

    Raises:
        CorpusError: it is not installed, with the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CorpusError(
            f"{purpose} needs {module.partition('.')[0]}, which is not installed; run: {install}"
        ) from error
